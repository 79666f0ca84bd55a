// gemm against float64, and the same bits for any number of threads.
#include <algorithm>
#include <limits>
#include <map>

#include "cases.h"
#include "check.h"
#include "data.h"
#include "reference.h"

namespace banyan::test {
namespace {

// The sums over x as it is, and over x in 8 bits, which GemmArgs allows for block formats.
struct Expected {
  std::vector<double> oracle, oracle_8_bits;
  double allowed_error;                    // of naive code that does what the contract allows, from `oracle`
  double naive_error, naive_error_8_bits;  // of naive float code, each from its own oracle
};

// Naive code may be right by luck in few outputs: its error is always taken over at least this many rows of weights.
constexpr int64_t kNaiveRows = 64;

std::string describe(const GemmCase& c) {
  return std::string("gemm ") + traits(c.dtype).name + " T=" + std::to_string(c.tokens) + " N=" + std::to_string(c.rows) +
         " K=" + std::to_string(c.cols) + " x" + std::to_string(static_cast<int>(c.activations));
}

std::vector<float> make_activations(Random& random, const GemmCase& c) {
  const auto n = static_cast<size_t>(c.tokens * c.cols);
  switch (c.activations) {
    case Activations::kZeros: return std::vector<float>(n, -0.0f);
    case Activations::kTiny: return random.floats(n, 1e-39f);
    case Activations::kUniform: return random.floats(n);
    default: break;
  }
  std::vector<float> x = random.floats(n);
  for (size_t i = 0; i < n; ++i) {
    if (c.activations == Activations::kHuge && i % static_cast<size_t>(c.cols) == 37) x[i] = i % 2 == 0 ? 1e30f : -1e30f;
    if (c.activations == Activations::kSpread) x[i] *= random.below(5) == 0 ? 0.0f : std::pow(10.0f, static_cast<float>(i / 32 % 42) - 38.0f);
  }
  return x;
}

Expected expect(const GemmCase& c, const std::vector<float>& before, const std::vector<float>& x, const std::vector<double>& weights, int64_t n_naive,
    const float* bias) {
  const bool is_plain = traits(c.dtype).block_size == 1;
  const std::vector<float> zeros(static_cast<size_t>(c.tokens * n_naive)), x_8_bits = is_plain ? x : rounded_to_8_bits(x);
  const auto exact = [&](const std::vector<float>& of) {
    return gemm<double>(zeros, of, weights, bias, c.tokens, n_naive, c.cols, c.is_accumulated);
  };
  const auto naive = [&](const std::vector<float>& of) { return gemm<float>(zeros, of, weights, bias, c.tokens, n_naive, c.cols, c.is_accumulated); };
  Expected e;
  e.oracle = gemm<double>(before, x, weights, bias, c.tokens, c.rows, c.cols, c.is_accumulated);
  const std::vector<double> exact_sums = exact(x);
  e.allowed_error = e.naive_error = largest_difference(naive(x), exact_sums);
  if (is_plain) return e;
  e.oracle_8_bits = gemm<double>(before, x_8_bits, weights, bias, c.tokens, c.rows, c.cols, c.is_accumulated);
  const std::vector<float> naive_8_bits = naive(x_8_bits);
  e.allowed_error = std::max(e.naive_error, largest_difference(naive_8_bits, exact_sums));
  e.naive_error_8_bits = largest_difference(naive_8_bits, exact(x_8_bits));
  return e;
}

// A number that is none stays in its token, and is seen in all of it.
void check_not_finite(Run& run) {
  constexpr int kTokens = 9, kRows = 37, kCols = 512;
  for (const DType dtype : kWeightTypes) {
    for (const int tokens : {1, 2, kTokens}) {
      for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        Random random(7);
        const Packed w = random_packed(random, dtype, kRows, kCols);
        std::vector<float> x = random.floats(static_cast<size_t>(tokens * kCols)), out(static_cast<size_t>(tokens * kRows));
        x[kCols - 3] = wrong;
        gemm(run.stream, {out.data(), x.data(), {w.data(), dtype, kRows, kCols}, nullptr, tokens, false});
        int n_finite = 0;
        for (size_t i = 0; i < out.size(); ++i) n_finite += std::isfinite(out[i]) ? 1 : 0;
        // Infinity times a weight of 0 is no number either, and times others it is infinite.
        run.check(n_finite == (tokens - 1) * kRows, std::string("gemm ") + traits(dtype).name + " of something not finite");
      }
    }
  }
}

}  // namespace

void gemm_suite(Run& run) {
  static std::map<size_t, Expected> expected;                // the oracle is slow and the same for all variants
  static std::map<std::string, std::vector<float>> outputs;  // by variant and case, from the first number of threads
  size_t i = 0;
  for (const GemmCase& c : gemm_cases()) {
    Random random(++i);
    const std::vector<float> x = make_activations(random, c);
    const int64_t n_naive = std::max(c.rows, kNaiveRows);
    const Packed w = random_packed(random, c.dtype, n_naive, c.cols, c.misalignment);
    const std::vector<float> bias = random.floats(static_cast<size_t>(n_naive)), before = random.floats(static_cast<size_t>(c.tokens * c.rows));
    const float* bias_data = c.has_bias ? bias.data() : nullptr;
    if (expected.find(i) == expected.end()) { expected[i] = expect(c, before, x, elements(c.dtype, w.data(), n_naive, c.cols), n_naive, bias_data); }
    std::vector<float> out = c.is_accumulated ? before : std::vector<float>(before.size(), NAN);
    gemm(run.stream, {out.data(), x.data(), {w.data(), c.dtype, c.rows, c.cols}, bias_data, c.tokens, c.is_accumulated});
    const Expected& e = expected[i];
    run.check_near(out, e.oracle, e.allowed_error, describe(c));
    if (!e.oracle_8_bits.empty()) {
      // What the contract allows hides small mistakes: the sums must be those over x as it is, or those over x in 8 bits.
      const double to_x = largest_difference(out, e.oracle) / tolerance_of(e.oracle, e.naive_error);
      const double to_8_bits = largest_difference(out, e.oracle_8_bits) / tolerance_of(e.oracle_8_bits, e.naive_error_8_bits);
      run.check(std::min(to_x, to_8_bits) <= 1,
          describe(c) + ": neither with x nor with x in 8 bits, error / tolerance " + std::to_string(to_x) + " and " + std::to_string(to_8_bits));
    }
    std::vector<float>& first = outputs[run.stream.ops->name + std::to_string(i)];
    if (first.empty()) first = out;
    else run.check(first == out, describe(c) + ": depends on the number of threads");
  }
  check_not_finite(run);
}

}  // namespace banyan::test
