// gemm against float64, and the same bits for any number of threads. On the CUDA device with more than 16 tokens, also against what its 16-bit operands
// allow, and every path that its choice could take.
#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "cases.h"
#include "check.h"
#include "data.h"
#include "reference.h"
#ifdef BANYAN_TEST_CUDA
#include "cuda/gemm.h"
#endif

namespace banyan::test {
namespace {

// What the operands are rounded to before they are multiplied: not at all; x to 8 bits per block of 32, which GemmArgs allows with block formats; both to bf16, which
// tiles do with block formats (gemm_tiles.inl); or, on the CUDA device, both to 16 bits (cuda/gemm.cu).
enum class Rounding { kNone, kEightBits, kBf16, kHalves };

// The sums over the operands as they are, and over the rounded ones.
struct Expected {
  std::vector<double> oracle, oracle_rounded;
  double allowed_error;                     // of naive code that does what the contract allows, from `oracle`
  double naive_error, naive_error_rounded;  // of naive float code, each from its own oracle
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

// The nearest number of 8 significant bits, ties to even.
double nearest_bf16(float x) {
  int exponent;
  const double fraction = std::frexp(static_cast<double>(x), &exponent);
  exponent = std::max(exponent, -125);  // below, bits are lost: 2^-133 is the smallest
  return std::isfinite(x) ? std::ldexp(std::nearbyint(std::ldexp(static_cast<double>(x), 8 - exponent)), exponent - 8) : fraction;
}

// x with bf16 weights: bf16. With others each row as halves, multiplied by a power of two that brings its largest near 2^14 (but at most by 2^126).
std::vector<float> rounded_to_16_bits(const std::vector<float>& x, DType dtype, int64_t cols) {
  std::vector<float> rounded(x.size());
  for (size_t first = 0; first < x.size(); first += static_cast<size_t>(cols)) {
    const size_t end = first + static_cast<size_t>(cols);
    double highest = 0;
    for (size_t i = first; i < end; ++i) highest = std::max(highest, static_cast<double>(std::fabs(x[i])));
    const int power = highest == 0 ? 0 : std::min(126, 14 - std::ilogb(highest));
    for (size_t i = first; i < end; ++i) {
      const double value = dtype == DType::kBF16 ? nearest_bf16(x[i]) : std::ldexp(half_value(nearest_half(std::ldexp(x[i], power))), -power);
      rounded[i] = static_cast<float>(value);
    }
  }
  return rounded;
}

// As tiles take them: what is below 2^-126 is 0.
double tile_element(float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? 0.0 : nearest_bf16(x); }

// Elements of block formats as halves.
std::vector<double> weights_in_16_bits(const std::vector<double>& weights, DType dtype) {
  if (traits(dtype).block_size == 1) return weights;
  std::vector<double> rounded;
  for (const double weight : weights) rounded.push_back(half_value(nearest_half(static_cast<float>(weight))));
  return rounded;
}

// Nearest float toward zero.
float toward_zero(double x) {
  const auto nearest = static_cast<float>(x);
  return std::fabs(static_cast<double>(nearest)) > std::fabs(x) ? std::nextafter(nearest, 0.0f) : nearest;
}

// Naive code of tensor cores: 16 products and the sum so far are added exactly and rounded toward zero.
std::vector<float> gemm_in_steps(
    const std::vector<float>& x, const std::vector<double>& w, const float* bias, int64_t tokens, int64_t rows, int64_t cols) {
  std::vector<float> out(static_cast<size_t>(tokens * rows));
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t r = 0; r < rows; ++r) {
      float sum = 0;
      for (int64_t first = 0; first < cols; first += 16) {
        auto step = static_cast<double>(sum);
        for (int64_t k = first; k < std::min(cols, first + 16); ++k) {
          step += static_cast<double>(x[static_cast<size_t>(t * cols + k)]) * w[static_cast<size_t>(r * cols + k)];
        }
        sum = toward_zero(step);
      }
      out[static_cast<size_t>(t * rows + r)] = sum + (bias != nullptr ? bias[r] : 0.0f);
    }
  }
  return out;
}

Expected expect(const GemmCase& c, Rounding rounding, const std::vector<float>& before, const std::vector<float>& x,
    const std::vector<double>& weights, int64_t n_naive, const float* bias) {
  const std::vector<float> zeros(static_cast<size_t>(c.tokens * n_naive));
  const auto exact = [&](const std::vector<float>& of, const std::vector<double>& w) {
    return gemm<double>(zeros, of, w, bias, c.tokens, n_naive, c.cols, c.is_accumulated);
  };
  const auto naive = [&](const std::vector<float>& of, const std::vector<double>& w) {
    return gemm<float>(zeros, of, w, bias, c.tokens, n_naive, c.cols, c.is_accumulated);
  };
  Expected e;
  e.oracle = gemm<double>(before, x, weights, bias, c.tokens, c.rows, c.cols, c.is_accumulated);
  const std::vector<double> exact_sums = exact(x, weights);
  e.allowed_error = e.naive_error = largest_difference(naive(x, weights), exact_sums);
  if (rounding == Rounding::kNone) return e;
  std::vector<float> x_rounded;
  std::vector<double> w_rounded = weights;
  if (rounding == Rounding::kEightBits) {
    x_rounded = rounded_to_8_bits(x);
  } else if (rounding == Rounding::kBf16) {
    for (const float value : x) x_rounded.push_back(static_cast<float>(tile_element(value)));
    for (double& weight : w_rounded) weight = tile_element(static_cast<float>(weight));
  } else {
    x_rounded = rounded_to_16_bits(x, c.dtype, c.cols);
    w_rounded = weights_in_16_bits(weights, c.dtype);
  }
  e.oracle_rounded = gemm<double>(before, x_rounded, w_rounded, bias, c.tokens, c.rows, c.cols, c.is_accumulated);
  const std::vector<float> naive_rounded =
      rounding != Rounding::kHalves ? naive(x_rounded, w_rounded) : gemm_in_steps(x_rounded, w_rounded, bias, c.tokens, n_naive, c.cols);
  e.allowed_error = std::max(e.naive_error, largest_difference(naive_rounded, exact_sums));
  e.naive_error_rounded = largest_difference(naive_rounded, exact(x_rounded, w_rounded));
  return e;
}

void check_case(Run& run, const Expected& e, const std::vector<float>& out, const std::string& what) {
  run.check_near(out, e.oracle, e.allowed_error, what);
  if (e.oracle_rounded.empty()) return;
  // What the contract allows hides small mistakes: the sums must be those over the operands as they are, or those over the rounded ones.
  const double to_x = largest_difference(out, e.oracle) / tolerance_of(e.oracle, e.naive_error);
  const double to_rounded = largest_difference(out, e.oracle_rounded) / tolerance_of(e.oracle_rounded, e.naive_error_rounded);
  run.check(std::min(to_x, to_rounded) <= 1, what + ": neither with operands as they are nor with rounded ones, error / tolerance " +
                                                 std::to_string(to_x) + " and " + std::to_string(to_rounded));
}

// Tiles take more than 48 tokens (Q5_K, Q6_K: 64). With more than 16 (32 with block formats) the CUDA device rounds both operands to 16 bits, except for F32
// weights and in exact mode.
Rounding rounding_of(const Run& run, const GemmCase& c) {
  if (run.device == nullptr) {
    if (traits(c.dtype).block_size == 1) return Rounding::kNone;
    return std::string(run.stream.ops->name).starts_with("amx") && c.tokens > (c.dtype == DType::kQ5_K || c.dtype == DType::kQ6_K ? 64 : 48)
               ? Rounding::kBf16
               : Rounding::kEightBits;
  }
  const bool is_exact = std::string(run.stream.ops->name) == "cuda-exact" || c.dtype == DType::kF32;
  return is_exact || c.tokens <= (traits(c.dtype).block_size == 1 ? 16 : 32) ? Rounding::kNone : Rounding::kHalves;
}

// A number that is none stays in its token, and is seen in all of it.
void check_not_finite(Run& run) {
  constexpr int kRows = 37, kCols = 512;
  for (const DType dtype : kWeightTypes) {
    for (const int tokens : {1, 2, 7, 9, 40}) {
      for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        Random random(7);
        const Packed w = random_packed(random, dtype, kRows, kCols);
        std::vector<float> x = random.floats(static_cast<size_t>(tokens * kCols)), out(static_cast<size_t>(tokens * kRows));
        x[kCols - 3] = wrong;
        run.gemm({out.data(), x.data(), {w.data(), dtype, kRows, kCols}, nullptr, tokens, false});
        int n_finite = 0;
        for (size_t i = 0; i < out.size(); ++i) n_finite += std::isfinite(out[i]) ? 1 : 0;
        // Infinity times a weight of 0 is no number either, and times others it is infinite.
        run.check(n_finite == (tokens - 1) * kRows, std::string("gemm ") + traits(dtype).name + " of something not finite");
      }
    }
  }
}

// Matrices together give the bits that each gives alone: of one format or several, of few and of many tokens, and where a backend cannot (formats that are mixed,
// more tokens than it makes ready at once).
void check_together(Run& run) {
  if (run.device != nullptr) return;  // their tables have none: ops.h calls gemm for each
  struct Together {
    std::vector<DType> dtypes;
    int tokens;
    int64_t cols;
  };
  std::vector<Together> cases;
  for (const int tokens : {1, 2, 5, 7, 8, 9, 40, 70}) {
    cases.push_back({{DType::kQ8_0, DType::kQ8_0, DType::kQ8_0}, tokens, 512});
    cases.push_back({{DType::kQ4_K, DType::kQ6_K, DType::kQ4_K}, tokens, 768});
    cases.push_back({{DType::kQ4_0, DType::kQ5_K, DType::kQ8_0, DType::kQ4_0}, tokens, 1280});
    cases.push_back({{DType::kF16, DType::kQ8_0}, tokens, 96});
    cases.push_back({{DType::kF32, DType::kF32, DType::kF32}, tokens, 33});
  }
  for (const int tokens : {1, 2}) cases.push_back({{DType::kQ8_0, DType::kQ4_K, DType::kQ8_0}, tokens, 8192});  // x in two copies
  cases.push_back({{DType::kQ8_0, DType::kQ8_0}, 430, 8192});
  cases.push_back({{DType::kQ4_K, DType::kQ4_0}, 300, 8192});
  constexpr int64_t kRows[] = {37, 130, 3, 64};
  for (const Together& c : cases) {
    Random random(static_cast<uint64_t>(c.tokens));
    const std::vector<float> x = random.floats(static_cast<size_t>(c.tokens * c.cols)), bias = random.floats(130);
    std::vector<Packed> weights;
    std::vector<std::vector<float>> outs, alone;
    for (size_t i = 0; i < c.dtypes.size(); ++i) {
      weights.push_back(random_packed(random, c.dtypes[i], kRows[i], c.cols));
      outs.push_back(random.floats(static_cast<size_t>(c.tokens * kRows[i])));
    }
    alone = outs;
    std::vector<GemmArgs> all;
    for (size_t i = 0; i < c.dtypes.size(); ++i) {  // the second has a bias, the third adds to what is there
      all.push_back({outs[i].data(), x.data(), {weights[i].data(), c.dtypes[i], kRows[i], c.cols}, i == 1 ? bias.data() : nullptr, c.tokens, i == 2});
    }
    const uint64_t before = run.stream.multiply_adds;
    gemm_together(run.stream, all);
    const uint64_t between = run.stream.multiply_adds;
    for (size_t i = 0; i < all.size(); ++i) {
      all[i].out = alone[i].data();
      gemm(run.stream, all[i]);
    }
    const std::string what =
        "gemm of " + std::to_string(all.size()) + " matrices of " + traits(c.dtypes[0]).name + ", " + std::to_string(c.tokens) + " tokens";
    run.check(outs == alone, what + ": together other bits than alone");
    run.check(between - before == run.stream.multiply_adds - between, what + ": other multiply-adds");
  }
}

#ifdef BANYAN_TEST_CUDA

// The choice the device is given, and whether it took it.
cuda::GemmChoice path_choice;
bool was_taken = false;

// Every path for every format, in tiles and slices as devices of one, of a few and of many multiprocessors would choose them.
void check_paths(Run& run) {
  if (run.device == nullptr || std::string(run.stream.ops->name) == "cuda-exact") return;
  using cuda::GemmPath;
  struct PathCase {
    GemmPath path;
    const char* name;
    int tokens;
    int64_t rows, cols;
    int sm_count;
    size_t shared_per_block;
  };
  constexpr size_t kSmall = 99 * 1024;  // of the devices with the least
  constexpr PathCase kCases[] = {
      {GemmPath::kFew, "few", 1, 300, 2048, 1, 0},   // several strips a block
      {GemmPath::kFew, "few", 3, 37, 4096, 132, 0},  // slices
      {GemmPath::kFew, "few", 4, 65, 768, 8, kSmall},
      {GemmPath::kFew, "few", 9, 270, 1024, 2, 0},  // two tiles of tokens
      {GemmPath::kFew, "few", 16, 33, 6400, 132, 0},
      {GemmPath::kFew, "few", 16, 33, 6400, 20, kSmall},
      {GemmPath::kFew, "few", 19, 150, 1536, 2, 0},  // four tiles of tokens
      {GemmPath::kFew, "few", 32, 50, 2048, 132, kSmall},
      {GemmPath::kTensor, "tensor", 1, 70, 256, 132, 0},
      {GemmPath::kTensor, "tensor", 70, 200, 768, 132, 0},   // 128 x 64
      {GemmPath::kTensor, "tensor", 130, 260, 512, 1, 0},    // 128 x 128
      {GemmPath::kTensor, "tensor", 33, 260, 1280, 1, 0},    // 64 x 128
      {GemmPath::kTensor, "tensor", 33, 100, 2560, 132, 0},  // 64 x 64, slices
      {GemmPath::kTensor, "tensor", 130, 70, 2304, 4, kSmall},
      {GemmPath::kHopper, "hopper", 65, 130, 768, 132, 0},
      {GemmPath::kHopper, "hopper", 300, 600, 2048, 2, 0},    // several tiles a block
      {GemmPath::kHopper, "hopper", 140, 257, 2560, 132, 0},  // slices
      {GemmPath::kF32, "f32", 5, 70, 512, 132, 0},
      {GemmPath::kF32, "f32", 70, 70, 512, 132, 0},
  };
  Ops ops = *run.stream.ops;
  ops.gemm = [](Stream& stream, const GemmArgs& args) { was_taken = cuda::gemm_by(path_choice, stream, args); };
  const Ops* before_ops = std::exchange(run.stream.ops, &ops);
  uint64_t seed = 1000;
  for (const DType dtype : kWeightTypes) {
    for (const PathCase& path : kCases) {
      for (const bool is_odd : {false, true}) {  // rows that are not aligned, columns that end within a step, a bias, and sums that are added to
        const int64_t block = traits(dtype).block_size, cols = is_odd ? (block == 1 ? path.cols + 13 : path.cols + block) : path.cols;
        const GemmCase c{dtype, path.tokens, path.rows, cols, is_odd, is_odd, is_odd ? 2 : 0};
        Random random(++seed);
        const std::vector<float> x = make_activations(random, c);
        const int64_t n_naive = std::max(c.rows, kNaiveRows);
        const Packed w = random_packed(random, c.dtype, n_naive, c.cols, c.misalignment);
        const std::vector<float> bias = random.floats(static_cast<size_t>(n_naive)), before = random.floats(static_cast<size_t>(c.tokens * c.rows));
        const float* bias_data = c.has_bias ? bias.data() : nullptr;
        path_choice = {path.path, path.sm_count, path.shared_per_block};
        std::vector<float> out = c.is_accumulated ? before : std::vector<float>(before.size(), NAN);
        run.gemm({out.data(), x.data(), {w.data(), c.dtype, c.rows, c.cols}, bias_data, c.tokens, c.is_accumulated});
        const bool can_refuse = path.path == GemmPath::kHopper || (dtype == DType::kF32 && path.path != GemmPath::kF32) ||
                                (path.path == GemmPath::kFew && block == 1 && path.tokens > 16);
        run.check(was_taken || can_refuse, describe(c) + " by " + path.name + ": refused");
        if (!was_taken) continue;
        const bool is_rounded = path.path == GemmPath::kTensor || path.path == GemmPath::kHopper;
        const Expected e =
            expect(c, is_rounded ? Rounding::kHalves : Rounding::kNone, before, x, elements(c.dtype, w.data(), n_naive, c.cols), n_naive, bias_data);
        check_case(run, e, out, describe(c) + " by " + path.name + " with " + std::to_string(path.sm_count) + " multiprocessors");
        if (is_odd) continue;
        std::vector<float> again = c.is_accumulated ? before : std::vector<float>(before.size(), NAN);
        run.gemm({again.data(), x.data(), {w.data(), c.dtype, c.rows, c.cols}, bias_data, c.tokens, c.is_accumulated});
        run.check(again == out, describe(c) + " by " + path.name + ": another time other bits");
      }
    }
  }
  run.stream.ops = before_ops;
}

#else
void check_paths(Run&) {}
#endif

}  // namespace

void gemm_suite(Run& run) {
  static std::map<std::pair<size_t, Rounding>, Expected> expected;  // the oracle is slow and the same for all variants
  static std::map<std::string, std::vector<float>> outputs;         // by variant and case, from the first number of threads
  size_t i = 0;
  for (const GemmCase& c : gemm_cases()) {
    Random random(++i);
    const std::vector<float> x = make_activations(random, c);
    const int64_t n_naive = std::max(c.rows, kNaiveRows);
    const Packed w = random_packed(random, c.dtype, n_naive, c.cols, c.misalignment);
    const std::vector<float> bias = random.floats(static_cast<size_t>(n_naive)), before = random.floats(static_cast<size_t>(c.tokens * c.rows));
    const float* bias_data = c.has_bias ? bias.data() : nullptr;
    const Rounding rounding = rounding_of(run, c);
    const auto [found, is_new] = expected.try_emplace({i, rounding});
    if (is_new) found->second = expect(c, rounding, before, x, elements(c.dtype, w.data(), n_naive, c.cols), n_naive, bias_data);
    std::vector<float> out = c.is_accumulated ? before : std::vector<float>(before.size(), NAN);
    run.gemm({out.data(), x.data(), {w.data(), c.dtype, c.rows, c.cols}, bias_data, c.tokens, c.is_accumulated});
    check_case(run, found->second, out, describe(c));
    std::vector<float>& first = outputs[run.stream.ops->name + std::to_string(i)];
    if (first.empty()) first = out;
    else run.check(first == out, describe(c) + ": depends on the number of threads");
  }
  check_not_finite(run);
  check_together(run);
  check_paths(run);
}

}  // namespace banyan::test
