// gemm against float64, and the same bits for any number of threads.
#include <algorithm>
#include <map>

#include "cases.h"
#include "check.h"
#include "data.h"
#include "reference.h"

namespace banyan::test {
namespace {

struct Expected {
  std::vector<double> oracle;
  double naive_error;
};

// Naive code may be right by luck in few outputs: its error is always taken over at least this many rows of weights.
constexpr int64_t kNaiveRows = 64;

std::string describe(const GemmCase& c) {
  return std::string("gemm ") + traits(c.dtype).name + " T=" + std::to_string(c.tokens) + " N=" + std::to_string(c.rows) +
         " K=" + std::to_string(c.cols);
}

}  // namespace

void gemm_suite(Run& run) {
  static std::map<size_t, Expected> expected;                // the oracle is slow and the same for all variants
  static std::map<std::string, std::vector<float>> outputs;  // by variant and case, from the first number of threads
  size_t i = 0;
  for (const GemmCase& c : gemm_cases()) {
    Random random(++i);
    const std::vector<float> x = random.floats(static_cast<size_t>(c.tokens * c.cols));
    const int64_t n_naive = std::max(c.rows, kNaiveRows);
    const Packed w = random_packed(random, c.dtype, n_naive, c.cols, c.misalignment);
    const std::vector<float> bias = random.floats(static_cast<size_t>(n_naive)), before = random.floats(static_cast<size_t>(c.tokens * c.rows));
    const float* bias_data = c.has_bias ? bias.data() : nullptr;
    if (expected.find(i) == expected.end()) {
      const std::vector<double> weights = elements(c.dtype, w.data(), n_naive, c.cols);
      const std::vector<float> zeros(static_cast<size_t>(c.tokens * n_naive));
      expected[i] = {gemm<double>(before, x, weights, bias_data, c.tokens, c.rows, c.cols, c.is_accumulated),
          largest_difference(gemm<float>(zeros, x, weights, bias_data, c.tokens, n_naive, c.cols, c.is_accumulated),
              gemm<double>(zeros, x, weights, bias_data, c.tokens, n_naive, c.cols, c.is_accumulated))};
    }
    std::vector<float> out = c.is_accumulated ? before : std::vector<float>(before.size(), NAN);
    gemm(run.stream, {out.data(), x.data(), {w.data(), c.dtype, c.rows, c.cols}, bias_data, c.tokens, c.is_accumulated});
    run.check_near(out, expected[i].oracle, expected[i].naive_error, describe(c));
    std::vector<float>& first = outputs[run.stream.ops->name + std::to_string(i)];
    if (first.empty()) first = out;
    else run.check(first == out, describe(c) + ": depends on the number of threads");
  }
}

}  // namespace banyan::test
