// reference: every op in its plainest form, over any number type. With double it is the oracle; with float it is the naive code whose error
// sets the tolerance (the kernel may be at most twice as wrong).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "data.h"
#include "device/ops.h"

namespace banyan::test {

// ---- decoders, element by element, written from the description of the formats ----

inline double half_at(const uint8_t* at) { return half_value(static_cast<uint16_t>(at[0] | at[1] << 8)); }

// 6-bit scale (part 0) or minimum (part 1) `group` of the 12 bytes of Q4_K / Q5_K: groups 0-3 have their low 6 bits in byte group + 4 * part;
// groups 4-7 have 4 bits in a nibble of byte 8 + group - 4 and the upper 2 bits in the top of byte group - 4 + 4 * part.
inline int six_bits(const uint8_t* scales, int group, int part) {
  if (group < 4) return scales[group + 4 * part] % 64;
  const int nibble = part == 0 ? scales[4 + group] % 16 : scales[4 + group] / 16;
  return nibble + 16 * (scales[group - 4 + 4 * part] / 64);
}

inline double element(DType dtype, const uint8_t* row, int64_t i) {
  const int64_t size = traits(dtype).block_size;
  const uint8_t* block = row + i / size * traits(dtype).block_bytes;
  const int j = static_cast<int>(i % size);
  switch (dtype) {
    case DType::kF32: {
      float x;
      std::memcpy(&x, block, sizeof x);
      return x;
    }
    case DType::kF16: return half_at(block);
    case DType::kBF16: return bf16_value(static_cast<uint16_t>(block[0] | block[1] << 8));
    case DType::kQ8_0: return half_at(block) * static_cast<int8_t>(block[2 + j]);
    case DType::kQ4_0: return half_at(block) * ((j < 16 ? block[2 + j] % 16 : block[2 + j - 16] / 16) - 8);
    case DType::kQ4_K:
    case DType::kQ5_K: {
      const int group = j / 32, lane = j % 32;
      const uint8_t* nibbles = block + (dtype == DType::kQ4_K ? 16 : 48) + group / 2 * 32;
      int q = group % 2 == 0 ? nibbles[lane] % 16 : nibbles[lane] / 16;
      if (dtype == DType::kQ5_K) q += 16 * ((block[16 + lane] >> group) & 1);
      return half_at(block) * six_bits(block + 4, group, 0) * q - half_at(block + 2) * six_bits(block + 4, group, 1);
    }
    case DType::kQ6_K: {
      const int part = j / 128, quarter = j % 128 / 32, lane = j % 32;
      const uint8_t low = block[64 * part + 32 * (quarter % 2) + lane];
      const int q = (quarter < 2 ? low % 16 : low / 16) + 16 * ((block[128 + 32 * part + lane] >> (2 * quarter)) & 3) - 32;
      return half_at(block + 208) * static_cast<int8_t>(block[192 + j / 16]) * q;
    }
    default: return std::nan("");
  }
}

inline std::vector<double> elements(DType dtype, const uint8_t* data, int64_t rows, int64_t cols) {
  std::vector<double> values(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c)
      values[static_cast<size_t>(r * cols + c)] = element(dtype, data + row_bytes(dtype, cols) * static_cast<size_t>(r), c);
  }
  return values;
}

// What GemmArgs lets a backend make of x: 8 bits per block of 32.
inline std::vector<float> rounded_to_8_bits(const std::vector<float>& x) {
  std::vector<float> rounded(x.size());
  for (size_t first = 0; first + 32 <= x.size(); first += 32) {
    float highest = 0;
    for (size_t i = first; i < first + 32; ++i) highest = std::max(highest, std::fabs(x[i]));
    const float d = std::max(highest / 127.0f, std::numeric_limits<float>::min()), inverse = 1.0f / d;
    for (size_t i = first; i < first + 32; ++i) rounded[i] = d * std::nearbyint(x[i] * inverse);
  }
  return rounded;
}

// ---- ops; `Real` is the type of every intermediate result ----

template <class Real> std::vector<Real> gemm(const std::vector<float>& before, const std::vector<float>& x, const std::vector<double>& w,
    const float* bias, int64_t tokens, int64_t rows, int64_t cols, bool is_accumulated) {
  std::vector<Real> out(static_cast<size_t>(tokens * rows));
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t r = 0; r < rows; ++r) {
      Real sum = 0;
      for (int64_t c = 0; c < cols; ++c)
        sum += static_cast<Real>(x[static_cast<size_t>(t * cols + c)]) * static_cast<Real>(w[static_cast<size_t>(r * cols + c)]);
      const auto at = static_cast<size_t>(t * rows + r);
      if (bias != nullptr) sum += static_cast<Real>(bias[r]);
      out[at] = sum + (is_accumulated ? static_cast<Real>(before[at]) : Real{0});
    }
  }
  return out;
}

template <class Real> std::vector<Real> norm(const NormArgs& a) {
  std::vector<Real> out(static_cast<size_t>(a.n_rows) * static_cast<size_t>(a.dim));
  for (int64_t r = 0; r < a.n_rows; ++r) {
    Real sum = 0;
    for (int c = 0; c < a.dim; ++c) sum += static_cast<Real>(a.x[r * a.dim + c]) * static_cast<Real>(a.x[r * a.dim + c]);
    const Real scale = Real{1} / std::sqrt(sum / static_cast<Real>(a.dim) + static_cast<Real>(a.eps));
    for (int c = 0; c < a.dim; ++c)
      out[static_cast<size_t>(r * a.dim + c)] = static_cast<Real>(a.x[r * a.dim + c]) * scale * static_cast<Real>(a.weight[c]);
  }
  return out;
}

// The naive form too takes its angle in double, as the op promises; only sine, cosine and the products are float then.
template <class Real> std::vector<Real> rope(const RopeArgs& a) {
  std::vector<Real> out(static_cast<size_t>(a.n_tokens) * static_cast<size_t>(a.n_heads) * static_cast<size_t>(a.head_dim));
  for (int64_t row = 0; row < int64_t{a.n_tokens} * a.n_heads; ++row) {
    for (int m = 0; m < a.head_dim / 2; ++m) {
      const double angle = static_cast<double>(a.positions[row / a.n_heads]) * static_cast<double>(a.inv_freq[m]);
      const int first = a.is_interleaved ? 2 * m : m, second = a.is_interleaved ? 2 * m + 1 : m + a.head_dim / 2;
      const Real x = static_cast<Real>(a.x[row * a.head_dim + first]), y = static_cast<Real>(a.x[row * a.head_dim + second]);
      const Real cos = static_cast<Real>(std::cos(angle)), sin = static_cast<Real>(std::sin(angle)), magnitude = static_cast<Real>(a.magnitude);
      out[static_cast<size_t>(row * a.head_dim + first)] = (x * cos - y * sin) * magnitude;
      out[static_cast<size_t>(row * a.head_dim + second)] = (x * sin + y * cos) * magnitude;
    }
  }
  return out;
}

// What attend and merge compute: the rows and the logarithms of their sums.
template <class Real> struct Attention { std::vector<Real> out, lse; };

// Row by row, scores first; keys[n, g, c] and values given as numbers, dense.
template <class Real> Attention<Real> attend(const AttendArgs& a, const std::vector<double>& keys, const std::vector<double>& values) {
  std::vector<Real> lse, out(static_cast<size_t>(a.n_tokens) * static_cast<size_t>(a.n_heads) * static_cast<size_t>(a.head_dim));
  const int group = a.n_heads / a.n_kv_heads;
  for (int64_t row = 0; row < int64_t{a.n_tokens} * a.n_heads; ++row) {
    const int64_t t = row / a.n_heads, g = row % a.n_heads / group;
    const int n_keys = std::max(0, a.kv_end[t] - a.kv_begin[t]);
    const auto at = [&](int n) { return static_cast<size_t>(((a.kv_begin[t] + n) * a.n_kv_heads + g) * a.head_dim); };
    std::vector<Real> scores(static_cast<size_t>(n_keys));
    Real highest = -std::numeric_limits<Real>::infinity(), total = 0;
    for (int n = 0; n < n_keys; ++n) {
      Real sum = 0;
      for (int c = 0; c < a.head_dim; ++c)
        sum += static_cast<Real>(a.q[row * a.head_dim + c]) * static_cast<Real>(keys[at(n) + static_cast<size_t>(c)]);
      scores[static_cast<size_t>(n)] = sum * static_cast<Real>(a.scale);
      highest = std::max(highest, scores[static_cast<size_t>(n)]);
    }
    for (Real& score : scores) total += score = std::exp(score - highest);
    lse.push_back(n_keys > 0 ? highest + std::log(total) : highest);
    for (int n = 0; n < n_keys; ++n) {
      for (int c = 0; c < a.head_dim; ++c) {
        out[static_cast<size_t>(row * a.head_dim + c)] +=
            scores[static_cast<size_t>(n)] / total * static_cast<Real>(values[at(n) + static_cast<size_t>(c)]);
      }
    }
  }
  return {out, lse};
}

template <class Real> Attention<Real> merge(const Attention<Real>& a, const Attention<Real>& b, Real a_power) {
  Attention<Real> merged{std::vector<Real>(a.out.size()), std::vector<Real>(a.lse.size())};
  const size_t dim = a.lse.empty() ? 0 : a.out.size() / a.lse.size();
  constexpr Real kNothing = -std::numeric_limits<Real>::infinity();
  for (size_t row = 0; row < a.lse.size(); ++row) {
    const Real u = a.lse[row] == kNothing ? kNothing : a_power * a.lse[row], v = b.lse[row], m = std::max(u, v);
    const Real weight_a = u == kNothing ? 0 : std::exp(u - m), weight_b = v == kNothing ? 0 : std::exp(v - m), total = weight_a + weight_b;
    merged.lse[row] = m == kNothing ? m : m + std::log(total);
    for (size_t i = row * dim; i < (row + 1) * dim; ++i) merged.out[i] = m == kNothing ? 0 : (weight_a * a.out[i] + weight_b * b.out[i]) / total;
  }
  return merged;
}

// The mean of rows [begin, end) of x[., dim].
template <class Real> std::vector<Real> mean_of_rows(const std::vector<double>& x, int begin, int end, int dim) {
  std::vector<Real> mean(static_cast<size_t>(dim));
  for (int c = 0; c < dim; ++c) {
    Real sum = 0;
    for (int r = begin; r < end; ++r) sum += static_cast<Real>(x[static_cast<size_t>(r) * static_cast<size_t>(dim) + static_cast<size_t>(c)]);
    mean[static_cast<size_t>(c)] = sum / static_cast<Real>(end - begin);
  }
  return mean;
}

// A row [heads, head_dim] turned by angle(m), then multiplied.
template <class Real, class Angle>
void turn_row(std::vector<Real>& row, int heads, int head_dim, bool is_interleaved, double magnitude, Angle angle) {
  for (int h = 0; h < heads; ++h) {
    for (int m = 0; m < head_dim / 2; ++m) {
      const auto at = static_cast<size_t>(h * head_dim);
      Real &x = row[at + static_cast<size_t>(is_interleaved ? 2 * m : m)],
           &y = row[at + static_cast<size_t>(is_interleaved ? 2 * m + 1 : m + head_dim / 2)];
      const Real cos = static_cast<Real>(std::cos(angle(m))), sin = static_cast<Real>(std::sin(angle(m))), a = x, b = y;
      x = (a * cos - b * sin) * static_cast<Real>(magnitude);
      y = (a * sin + b * cos) * static_cast<Real>(magnitude);
    }
  }
}

template <class Real> std::vector<Real> swiglu(const SwigluArgs& a) {
  std::vector<Real> out(static_cast<size_t>(a.n));
  for (int64_t i = 0; i < a.n; ++i) {
    const Real gate = static_cast<Real>(a.gate[i]);
    out[static_cast<size_t>(i)] = gate / (Real{1} + std::exp(-gate)) * static_cast<Real>(a.up[i]);
  }
  return out;
}

}  // namespace banyan::test
