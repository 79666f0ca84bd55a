// gemm against float64, and the same bits for any number of threads.
#include <map>

#include "cases.h"
#include "check.h"
#include "data.h"
#include "reference.h"

namespace banyan::test {
namespace {

struct Expected { std::vector<double> oracle; std::vector<float> naive; };

std::string describe(const GemmCase& c) {
  return std::string("gemm ") + traits(c.dtype).name + " T=" + std::to_string(c.tokens) + " N=" + std::to_string(c.rows) + " K=" + std::to_string(c.cols);
}

}  // namespace

void gemm_suite(Run& run) {
  static std::map<size_t, Expected> expected;                // the oracle is slow and the same for all variants
  static std::map<std::string, std::vector<float>> outputs;  // by variant and case, from the first number of threads
  size_t i = 0;
  for (const GemmCase& c : gemm_cases()) {
    Random random(++i);
    const std::vector<float> x = random.floats(static_cast<size_t>(c.tokens * c.cols));
    const Packed w = random_packed(random, c.dtype, c.rows, c.cols, c.misalignment);
    const std::vector<float> bias = random.floats(static_cast<size_t>(c.rows)), before = random.floats(static_cast<size_t>(c.tokens * c.rows));
    const float* bias_data = c.has_bias ? bias.data() : nullptr;
    if (expected.find(i) == expected.end()) {
      const std::vector<double> weights = elements(c.dtype, w.data(), c.rows, c.cols);
      expected[i] = {gemm<double>(before, x, weights, bias_data, c.tokens, c.rows, c.cols, c.is_accumulated),
                     gemm<float>(before, x, weights, bias_data, c.tokens, c.rows, c.cols, c.is_accumulated)};
    }
    std::vector<float> out = c.is_accumulated ? before : std::vector<float>(before.size(), NAN);
    gemm(run.stream, {out.data(), x.data(), {w.data(), c.dtype, c.rows, c.cols}, bias_data, c.tokens, c.is_accumulated});
    run.check_near(out, expected[i].oracle, expected[i].naive, describe(c));
    std::vector<float>& first = outputs[run.stream.ops->name + std::to_string(i)];
    if (first.empty()) first = out;
    else run.check(first == out, describe(c) + ": depends on the number of threads");
  }
}

}  // namespace banyan::test
