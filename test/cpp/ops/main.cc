// banyan_ops_test: every op, every variant this machine runs, 1 to 3 threads, and the CUDA device, against float64. Arguments name suites;
// none means all; before them, "cuda" leaves the CPU out.
#include <cstring>

#include "check.h"

using namespace banyan::test;

namespace {

struct Named {
  const char* name;
  Suite suite;
};

constexpr Named kSuites[] = {{"embed", embed_suite}, {"norm", norm_suite}, {"gemm", gemm_suite}, {"rope", rope_suite}, {"store", store_suite},
    {"place", place_suite}, {"attend", attend_suite}, {"inject", inject_suite}, {"merge", merge_suite}, {"gather", gather_suite},
    {"compress", compress_suite}, {"cosine", cosine_suite}, {"standardize", standardize_suite}, {"highest", highest_suite}, {"swiglu", swiglu_suite},
    {"sample", sample_suite}, {"cancel", cancel_suite}};

struct NamedOnce {
  const char* name;
  Tally (*suite)();
};

constexpr NamedOnce kOnce[] = {
#ifdef BANYAN_EMULATE
    {"emulate", emulate_suite},
#endif
#ifdef BANYAN_TEST_CUDA
    {"replay", replay_suite},
#endif
    {"threads", threads_suite}, {"device", device_suite}, {"decode", decode_suite}};

bool is_wanted(const char* name, int n_args, char** args) {
  for (int i = 1; i < n_args; ++i) {
    if (std::strcmp(args[i], name) == 0) return true;
  }
  return n_args == 1;
}

}  // namespace

int main(int n_args, char** args) {
  // "cuda" leaves the CPU out; without other names it means every suite.
  const bool is_cuda_only = n_args > 1 && std::strcmp(args[1], "cuda") == 0;
  if (is_cuda_only) {
    --n_args;
    ++args;
  }
  Tally total;
  const auto count = [&total](const Tally& tally) {
    total.passed += tally.passed;
    total.failed += tally.failed;
  };
  for (const NamedOnce& once : kOnce) {
    const bool has_cuda = once.suite == device_suite || std::strcmp(once.name, "replay") == 0;
    if ((is_cuda_only && !has_cuda) || !is_wanted(once.name, n_args, args)) continue;
    const Tally tally = once.suite();
    std::printf("%-10s %-10s %6d passed %4d failed\n", once.name, "", tally.passed, tally.failed);
    count(tally);
  }
  for (const Named& named : kSuites) {
    if (!is_wanted(named.name, n_args, args)) continue;
    if (!is_cuda_only) count(run_suite(named.name, named.suite));
    if (named.suite != cancel_suite) count(run_suite_on_cuda(named.name, named.suite));
  }
  std::printf("%d passed, %d failed\n", total.passed, total.failed);
  return total.failed == 0 && total.passed > 0 ? 0 : 1;
}
