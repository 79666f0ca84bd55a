// banyan_model_test [part of a case's name ...]      runs the cases
// banyan_model_test --fuzz N [seed]                  runs N random mutations of good files through the readers
#include <cstdlib>
#include <cstring>

#include "check.h"
#include "fuzz.h"

int main(int n_args, char** args) {
  if (n_args >= 3 && std::strcmp(args[1], "--fuzz") == 0) {
    return banyan::test::run_fuzz(std::strtoull(args[2], nullptr, 10), n_args >= 4 ? std::strtoull(args[3], nullptr, 10) : 1);
  }
  return banyan::test::run_tests(n_args, args);
}
