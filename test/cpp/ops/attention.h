// attention: what AttendArgs lets a backend round, and naive float code that rounds so: its error sets the tolerance.
#pragma once

#include "check.h"
#include "reference.h"

namespace banyan::test {

// Of q (times scale and log2(e), after a power of two per row) and of the weights: none, to halves, or to sums of two halves; elements of Q8_0 then are
// halves. Or, keys and values too, to sums of two terms of bf16, whose second ones are not multiplied by each other. Or to 16-bit integers: q by 32 elements,
// weights times the scales of the values by 32 keys. Or q and keys to words, parts of their norms.
enum class Rounding { kNone, kHalf, kTwoHalves, kTwoBf16, kInts, kWords };

// Query rows of a kv head from which on the variant amx may use tiles; fewer are avx512vnni's.
constexpr int kTileRows = 24;
// From which on variants with integer products may use words; fewer meet Q8_0 in integers of 16 bits with avx512vnni.
constexpr int kWordRows = 17;

// What the op of this run may do with n_rows query rows of a kv head.
inline Rounding rounding_of(const Run& run, DType keys, int n_rows) {
  const std::string name = run.stream.ops->name;
  if (run.device != nullptr && name == "cuda" && keys != DType::kF32) return Rounding::kHalf;
  const bool is_amx = name.rfind("amx", 0) == 0;
  if (is_amx && keys != DType::kF32 && n_rows >= kTileRows) return Rounding::kTwoBf16;
  const bool is_vnni = is_amx || name == "avx512vnni", has_words = is_vnni || name == "avx2int8" || name == "avxvnni";
  if (has_words && keys != DType::kF32 && n_rows >= kWordRows) return Rounding::kWords;
  return is_vnni && keys == DType::kQ8_0 ? Rounding::kInts : Rounding::kNone;
}

inline float rounded_to_half(float x) { return static_cast<float>(half_value(nearest_half(x))); }
inline float rounded_to_halves(float x, Rounding rounding) {
  const float high = rounded_to_half(x);
  return rounding == Rounding::kHalf ? high : high + rounded_to_half(x - high);
}

// Where the keys that a row (token, head) sees lie in [N, G, C].
struct RowKeys {
  size_t begin, n_kv_heads, g, dim, n;
  RowKeys(const AttendArgs& a, size_t row)
      : n_kv_heads(static_cast<size_t>(a.n_kv_heads)),
        g(row % static_cast<size_t>(a.n_heads) / static_cast<size_t>(a.n_heads / a.n_kv_heads)),
        dim(static_cast<size_t>(a.head_dim)) {
    const size_t t = row / static_cast<size_t>(a.n_heads);
    begin = static_cast<size_t>(a.kv_begin[t]);
    n = static_cast<size_t>(std::max(0, a.kv_end[t] - a.kv_begin[t]));
  }
  size_t at(size_t i) const { return ((begin + i) * n_kv_heads + g) * dim; }
};

// Scores become weights, not yet divided by their sum.
struct Softmax {
  float top, total = 0;
  explicit Softmax(std::vector<float>& scores) : top(scores.empty() ? -INFINITY : *std::max_element(scores.begin(), scores.end())) {
    for (float& score : scores) total += score = std::exp(score - top);
  }
  float lse() const { return top + std::log(total); }
};

inline Attention<float> attend_in_halves(const AttendArgs& a, const std::vector<double>& keys, const std::vector<double>& values, Rounding rounding) {
  const auto all_rounded = [](std::vector<double> x) {
    for (double& value : x) value = static_cast<double>(rounded_to_half(static_cast<float>(value)));
    return x;
  };
  const std::vector<double> k = all_rounded(keys), v = all_rounded(values);
  const auto dim = static_cast<size_t>(a.head_dim);
  const size_t n_rows = static_cast<size_t>(a.n_tokens) * static_cast<size_t>(a.n_heads);
  Attention<float> result{std::vector<float>(n_rows * dim), std::vector<float>(n_rows)};
  for (size_t row = 0; row < n_rows; ++row) {
    std::vector<float> q(a.q + row * dim, a.q + (row + 1) * dim);
    float highest = 0;
    for (float& x : q) highest = std::max(highest, std::fabs(x *= a.scale * 1.44269504f));
    const int exponent = highest > 0 ? 12 - std::ilogb(highest) : 0;
    for (float& x : q) x = std::ldexp(rounded_to_halves(std::ldexp(x, exponent), rounding), -exponent);
    const RowKeys seen(a, row);
    std::vector<float> scores;
    for (size_t n = 0; n < seen.n; ++n) {
      float sum = 0;
      for (size_t c = 0; c < dim; ++c) sum += q[c] * static_cast<float>(k[seen.at(n) + c]);
      scores.push_back(sum);
    }
    const float top = scores.empty() ? -INFINITY : *std::max_element(scores.begin(), scores.end());
    float total = 0;
    for (float& score : scores) total += score = std::exp2(score - top);
    result.lse[row] = (top + std::log2(total)) * 0.693147181f;
    for (size_t n = 0; n < scores.size(); ++n) {
      const float weight = std::ldexp(rounded_to_halves(std::ldexp(scores[n], 10), rounding), -10) / total;
      for (size_t c = 0; c < dim; ++c) result.out[row * dim + c] += weight * static_cast<float>(v[seen.at(n) + c]);
    }
  }
  return result;
}

// x to whole parts of the largest magnitude.
inline void round_to_parts(float* x, size_t n, float parts) {
  float highest = 0;
  for (size_t i = 0; i < n; ++i) highest = std::max(highest, std::fabs(x[i]));
  for (size_t i = 0; highest > 0 && i < n; ++i) x[i] = std::nearbyint(x[i] * (parts / highest)) * (highest / parts);
}

inline Attention<float> attend_in_ints(const AttendArgs& a, const std::vector<double>& keys, const std::vector<double>& values) {
  const auto dim = static_cast<size_t>(a.head_dim);
  const size_t n_rows = static_cast<size_t>(a.n_tokens) * static_cast<size_t>(a.n_heads);
  Attention<float> result{std::vector<float>(n_rows * dim), std::vector<float>(n_rows)};
  for (size_t row = 0; row < n_rows; ++row) {
    std::vector<float> q(a.q + row * dim, a.q + (row + 1) * dim);
    for (float& x : q) x *= a.scale;
    for (size_t c = 0; c < dim; c += 32) round_to_parts(q.data() + c, 32, 127 * 256.0f);
    const RowKeys seen(a, row);
    std::vector<float> scores;
    for (size_t n = 0; n < seen.n; ++n) {
      float sum = 0;
      for (size_t c = 0; c < dim; ++c) sum += q[c] * static_cast<float>(keys[seen.at(n) + c]);
      scores.push_back(sum);
    }
    const Softmax softmax(scores);
    result.lse[row] = softmax.lse();
    for (size_t first = 0; first < scores.size(); first += 32) {
      const size_t n_keys = std::min<size_t>(32, scores.size() - first);
      for (size_t c = 0; c < dim; c += 32) {
        float scales[32] = {}, weights[32] = {};
        for (size_t n = 0; n < n_keys; ++n) {
          for (size_t i = 0; i < 32; ++i) scales[n] = std::max(scales[n], static_cast<float>(std::fabs(values[seen.at(first + n) + c + i])));
          weights[n] = scores[first + n] * scales[n];
        }
        round_to_parts(weights, n_keys, 32767.0f);
        for (size_t n = 0; n < n_keys; ++n) {
          const float weight = scales[n] > 0 ? weights[n] / scales[n] / softmax.total : 0.0f;
          for (size_t i = 0; i < 32; ++i) result.out[row * dim + c + i] += weight * static_cast<float>(values[seen.at(first + n) + c + i]);
        }
      }
    }
  }
  return result;
}

inline float rounded_to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
// Sums of two terms of bf16, without the product of the second ones.
struct Bf16Terms {
  float first, second;
  explicit Bf16Terms(float x) : first(rounded_to_bf16(x)), second(rounded_to_bf16(x - first)) {}
  float times(const Bf16Terms& other) const { return first * other.first + first * other.second + second * other.first; }
};

inline Attention<float> attend_in_bf16(const AttendArgs& a, const std::vector<double>& keys, const std::vector<double>& values) {
  const auto in_terms = [](const std::vector<double>& x) {
    std::vector<Bf16Terms> terms;
    for (const double value : x) terms.emplace_back(static_cast<float>(value));
    return terms;
  };
  const std::vector<Bf16Terms> k = in_terms(keys), v = in_terms(values);
  const auto dim = static_cast<size_t>(a.head_dim);
  const size_t n_rows = static_cast<size_t>(a.n_tokens) * static_cast<size_t>(a.n_heads);
  Attention<float> result{std::vector<float>(n_rows * dim), std::vector<float>(n_rows)};
  for (size_t row = 0; row < n_rows; ++row) {
    std::vector<Bf16Terms> q;
    for (size_t c = 0; c < dim; ++c) q.emplace_back(a.q[row * dim + c] * a.scale);
    const RowKeys seen(a, row);
    std::vector<float> scores;
    for (size_t n = 0; n < seen.n; ++n) {
      float sum = 0;
      for (size_t c = 0; c < dim; ++c) sum += q[c].times(k[seen.at(n) + c]);
      scores.push_back(sum);
    }
    const Softmax softmax(scores);
    result.lse[row] = softmax.lse();
    for (size_t c = 0; c < dim && !scores.empty(); ++c) {
      float sum = 0;
      for (size_t n = 0; n < scores.size(); ++n) sum += Bf16Terms(scores[n]).times(v[seen.at(n) + c]);
      result.out[row * dim + c] = sum / softmax.total;
    }
  }
  return result;
}

// x to whole parts of its norm.
inline void round_to_words(float* x, size_t n) {
  float squares = 0;
  for (size_t i = 0; i < n; ++i) squares += x[i] * x[i];
  const float part = std::sqrt(squares) / 32767.0f;
  for (size_t i = 0; part > 0 && i < n; ++i) x[i] = std::nearbyint(x[i] / part) * part;
}

// Only rows of whole vectors of words.
inline Attention<float> attend_in_words(AttendArgs a, const std::vector<double>& keys, const std::vector<double>& values) {
  const auto dim = static_cast<size_t>(a.head_dim);
  if (dim % 32 != 0) return attend<float>(a, keys, values);
  std::vector<float> q(a.q, a.q + static_cast<size_t>(a.n_tokens) * static_cast<size_t>(a.n_heads) * dim);
  for (size_t at = 0; at < q.size(); at += dim) round_to_words(q.data() + at, dim);
  std::vector<double> rounded_keys;
  for (size_t at = 0; at < keys.size(); at += dim) {
    std::vector<float> key(keys.begin() + static_cast<ptrdiff_t>(at), keys.begin() + static_cast<ptrdiff_t>(at + dim));
    round_to_words(key.data(), dim);
    rounded_keys.insert(rounded_keys.end(), key.begin(), key.end());
  }
  a.q = q.data();
  return attend<float>(a, rounded_keys, values);
}

inline Attention<float> naive_attention(const AttendArgs& a, const std::vector<double>& keys, const std::vector<double>& values, Rounding rounding) {
  if (rounding == Rounding::kNone) return attend<float>(a, keys, values);
  if (rounding == Rounding::kTwoBf16) return attend_in_bf16(a, keys, values);
  if (rounding == Rounding::kWords) return attend_in_words(a, keys, values);
  return rounding == Rounding::kInts ? attend_in_ints(a, keys, values) : attend_in_halves(a, keys, values, rounding);
}

}  // namespace banyan::test
