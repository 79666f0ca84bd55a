// banyan_engine_test: trees, selection, memory, whole models against a float64 oracle, work, sessions, saved documents, sampling, scheduling.
// Arguments are parts of the names of cases; none means all.
#include "../check.h"

int main(int n_args, char** args) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  return banyan::test::run_tests(n_args, args);
}
