// The ops that treat rows or elements on their own: norm, rope, store, swiglu.
#include "cases.h"
#include "check.h"
#include "data.h"
#include "reference.h"

namespace banyan::test {

void norm_suite(Run& run) {
  for (const RowsCase& c : kRowsCases) {
    for (const float scale : {1.0f, 1e-4f, 1e4f}) {
      Random random(static_cast<uint64_t>(c.dim));
      const std::vector<float> x = random.floats(static_cast<size_t>(c.rows) * static_cast<size_t>(c.dim), scale);
      const std::vector<float> weight = random.floats(static_cast<size_t>(c.dim));
      std::vector<float> out(x.size(), NAN);
      const NormArgs args{out.data(), x.data(), weight.data(), c.rows, c.dim, 1e-5f};
      run.norm(args);
      run.check_near(out, norm<double>(args), norm<float>(args), "norm dim " + std::to_string(c.dim));
      std::vector<float> in_place = x;
      run.norm({in_place.data(), in_place.data(), weight.data(), c.rows, c.dim, 1e-5f});
      run.check(in_place == out, "norm in place");
    }
  }
}

void rope_suite(Run& run) {
  for (const RopeCase& c : kRopeCases) {
    Random random(static_cast<uint64_t>(c.head_dim));
    const std::vector<float> x = random.floats(static_cast<size_t>(c.tokens * c.heads * c.head_dim));
    std::vector<float> inv_freq;
    for (int m = 0; m < c.head_dim / 2; ++m) inv_freq.push_back(static_cast<float>(std::pow(10000.0, -2.0 * m / c.head_dim)));
    std::vector<int32_t> positions;
    for (int t = 0; t < c.tokens; ++t) positions.push_back(t % 5 == 4 ? -t : c.first_position + 3 * t);
    std::vector<float> before = x, out = x;
    RopeArgs args{before.data(), positions.data(), inv_freq.data(), c.tokens, c.heads, c.head_dim, c.magnitude, c.is_interleaved};
    const std::vector<double> oracle = rope<double>(args);
    const std::vector<float> naive = rope<float>(args);
    args.x = out.data();
    run.rope(args);
    run.check_near(out, oracle, naive, "rope dim " + std::to_string(c.head_dim));
  }
}

// A block of Q8_0 as the op promises it, checked against ggml's rule (quantize_row_q8_0_ref: q = x * (1 / d) with the d before its rounding): the
// same d, and no element further from x than theirs by more than the rounding of the quotient.
bool expect_block_q8_0(const float* x, uint8_t* block) {
  float highest = 0;
  for (int i = 0; i < 32; ++i) highest = std::max(highest, std::fabs(x[i]));
  const float exact = highest / 127.0f, inverse = exact != 0 ? 1.0f / exact : 0.0f;
  const uint16_t bits = nearest_half(std::min(exact, 65504.0f));
  std::memcpy(block, &bits, 2);
  const double d = half_value(bits);
  bool is_as_near = true;
  for (int i = 0; i < 32; ++i) {
    const float quotient = d != 0 ? x[i] / static_cast<float>(d) : 0.0f;
    const double q = std::nearbyint(std::clamp(quotient, -127.0f, 127.0f)), theirs = std::clamp(std::round(x[i] * inverse), -127.0f, 127.0f);
    block[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(q));
    const double wanted = static_cast<double>(x[i]), rounding = 0x1p-23 * std::fabs(wanted);
    is_as_near = is_as_near && (d == 0 || std::fabs(q * d - wanted) <= std::fabs(theirs * d - wanted) + rounding);
  }
  return is_as_near;
}

void store_suite(Run& run) {
  for (const StoreCase& c : kStoreCases) {
    Random random(static_cast<uint64_t>(c.head_dim));
    constexpr int kCacheRows = 100;
    std::vector<float> x = random.floats(static_cast<size_t>(c.tokens * c.heads * c.head_dim));
    for (size_t i = 0; i < x.size(); ++i) {
      constexpr float kSpecial[] = {
          65519.9f, 65520.0f, 1e9f, -1e9f, 0x1p-24f, 0x1p-25f, 0x1.8p-25f, -0x1.004p-14f, 1.0f + 0x1p-11f, 1.0f + 0x1.8p-10f, -0.0f, 0x1.ffcp-15f};
      if (i % 3 == 1 && c.dtype != DType::kQ8_0) x[i] = kSpecial[random.below(12)];
      if (i % 7 == 2) x[i] *= 0x1p-15f;
      // Blocks of every magnitude: nothing but 0, below the least half, d subnormal, and beyond the largest half times 127.
      constexpr float kMagnitudes[] = {1.0f, 0.0f, 0x1p-20f, 0x1p-17f, 300.0f, -1.0f, 9e6f, 127.0f, 0x1p-130f};
      if (c.dtype == DType::kQ8_0) x[i] *= kMagnitudes[i / 32 % 9];
      if (c.dtype == DType::kQ8_0 && i / 32 % 9 == 7) x[i] = std::round(x[i] * 2) / 2;  // ties
    }
    const int64_t row_stride = c.is_head_major ? c.head_dim : c.heads * c.head_dim,
                  head_stride = c.is_head_major ? kCacheRows * c.head_dim : c.head_dim;
    std::vector<int32_t> rows(static_cast<size_t>(c.tokens));
    for (size_t t = 0; t < rows.size(); ++t) rows[t] = static_cast<int32_t>((t * 37 + 11) % kCacheRows);
    const size_t n_elements = static_cast<size_t>(kCacheRows * c.heads * c.head_dim);
    std::vector<uint8_t> cache(row_bytes(c.dtype, static_cast<int64_t>(n_elements)), 0xa5), expected = cache;
    bool is_as_near = true;
    for (int64_t i = 0; i < static_cast<int64_t>(x.size()); ++i) {
      const int64_t t = i / (c.heads * c.head_dim), g = i / c.head_dim % c.heads;
      const auto at = static_cast<size_t>(rows[static_cast<size_t>(t)] * row_stride + g * head_stride + i % c.head_dim);
      if (c.dtype == DType::kQ8_0) {
        if (i % 32 == 0) is_as_near = expect_block_q8_0(&x[static_cast<size_t>(i)], &expected[at / 32 * 34]) && is_as_near;
        continue;
      }
      const uint16_t bits = nearest_half(x[static_cast<size_t>(i)]);
      if (c.dtype == DType::kF32) std::memcpy(&expected[at * 4], &x[static_cast<size_t>(i)], 4);
      else std::memcpy(&expected[at * 2], &bits, 2);
    }
    run.store({cache.data(), c.dtype, row_stride, head_stride, x.data(), rows.data(), c.tokens, c.heads, c.head_dim});
    run.check(is_as_near, "store Q8_0 is as near as ggml");
    run.check(cache == expected, std::string("store ") + traits(c.dtype).name + " dim " + std::to_string(c.head_dim));
  }
}

// Where gate is very negative, silu is gate * e^gate: the error that can be seen is that of the exponential, which promises 2 ulp; the sum, the
// quotient and the product add a rounding each.
void check_exponential(Run& run) {
  std::vector<float> gate;
  for (int i = 0; i < 20000; ++i) gate.push_back(-87.0f + 0.00435f * static_cast<float>(i));
  const std::vector<float> up(gate.size(), 1.0f);
  std::vector<float> out(gate.size());
  run.swiglu({out.data(), gate.data(), up.data(), static_cast<int64_t>(gate.size())});
  double worst = 0;
  for (size_t i = 0; i < gate.size(); ++i) {
    const double x = static_cast<double>(gate[i]), expected = x / (1.0 + std::exp(-x));
    worst = std::max(worst, std::fabs(static_cast<double>(out[i]) - expected) / std::fabs(expected));
  }
  run.check(worst < 2.5 * 0x1p-23, "exponential is off by " + std::to_string(worst * 0x1p23) + " ulp");
}

void swiglu_suite(Run& run) {
  check_exponential(run);
  for (const RowsCase& c : kRowsCases) {
    for (const float scale : {1.0f, 10.0f, 200.0f}) {
      Random random(static_cast<uint64_t>(c.dim));
      const size_t n = static_cast<size_t>(c.rows) * static_cast<size_t>(c.dim);
      const std::vector<float> gate = random.floats(n, scale), up = random.floats(n);
      std::vector<float> out(n, NAN);
      const SwigluArgs args{out.data(), gate.data(), up.data(), static_cast<int64_t>(n)};
      run.swiglu(args);
      run.check_near(out, swiglu<double>(args), swiglu<float>(args), "swiglu n " + std::to_string(n));
      std::vector<float> in_place = gate;
      run.swiglu({in_place.data(), in_place.data(), up.data(), static_cast<int64_t>(n)});
      run.check(in_place == out, "swiglu in place");
    }
  }
}

}  // namespace banyan::test
