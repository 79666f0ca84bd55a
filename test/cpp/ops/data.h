// data: reproducible inputs, and half formats written a second time, bit by bit, independently of the kernels.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/slot_tile.h"

namespace banyan::test {

// splitmix64
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  int below(int n) { return static_cast<int>(next() % static_cast<uint64_t>(n)); }
  float uniform() { return static_cast<float>(static_cast<double>(next() >> 11) * 0x1p-53 * 2.0 - 1.0); }  // [-1, 1)
  std::vector<float> floats(size_t n, float scale = 1.0f) {
    std::vector<float> x(n);
    for (float& value : x) value = scale * uniform();
    return x;
  }

 private:
  uint64_t state_;
};

// Value of a half, from the definition of the format.
inline double half_value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 31) return fraction != 0 ? std::nan("") : sign * INFINITY;
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

// Nearest half, ties to even: by ordering, because halves of one sign sort like integers.
inline uint16_t nearest_half(float x) {
  if (std::isnan(x)) return 0x7e00;
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double magnitude = std::fabs(static_cast<double>(x));
  if (magnitude >= 65520.0) return static_cast<uint16_t>(sign | 0x7c00);
  uint16_t low = 0, high = 0x7c00;  // half_value(low) <= magnitude < half_value(high)
  while (high - low > 1) {
    const auto middle = static_cast<uint16_t>((low + high) / 2);
    (half_value(middle) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - half_value(low), above = (high == 0x7c00 ? 65536.0 : half_value(high)) - magnitude;
  const bool is_up = above < below || (above == below && (low & 1) != 0);
  return static_cast<uint16_t>(sign | (is_up ? high : low));
}

inline double bf16_value(uint16_t bits) {
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float x;
  std::memcpy(&x, &word, sizeof x);
  return x;
}

// A matrix (or rows of keys) in some format, at an address `misalignment` bytes off.
struct Packed {
  std::vector<uint8_t> memory;
  size_t offset = 0;
  uint8_t* data() { return memory.data() + offset; }
  const uint8_t* data() const { return memory.data() + offset; }
};

// Random content in any weight format: bits of quants are arbitrary, scales are small halves so that values stay near 1.
inline Packed random_packed(Random& random, DType dtype, int64_t rows, int64_t cols, int misalignment = 0, float scale = 1.0f) {
  Packed packed;
  const size_t n_bytes = row_bytes(dtype, cols) * static_cast<size_t>(rows);
  packed.memory.resize(n_bytes + static_cast<size_t>(misalignment));
  packed.offset = static_cast<size_t>(misalignment);
  uint8_t* at = packed.data();
  const auto put_half = [&random](uint8_t* to, float magnitude) {
    const uint16_t bits = nearest_half(magnitude * (0.5f + 0.5f * std::fabs(random.uniform())) * (random.below(8) == 0 ? -1.0f : 1.0f));
    std::memcpy(to, &bits, 2);
  };
  const size_t block_bytes = static_cast<size_t>(traits(dtype).block_bytes);
  for (size_t i = 0; i + block_bytes <= n_bytes; i += block_bytes) {
    uint8_t* block = at + i;
    const float value = scale * random.uniform();
    if (dtype == DType::kF32) {
      std::memcpy(block, &value, 4);
      continue;
    }
    if (dtype == DType::kF16) {
      const uint16_t bits = nearest_half(value);
      std::memcpy(block, &bits, 2);
      continue;
    }
    if (dtype == DType::kBF16) {
      std::memcpy(block, reinterpret_cast<const uint8_t*>(&value) + 2, 2);
      continue;
    }
    for (size_t j = 0; j < block_bytes; ++j) block[j] = static_cast<uint8_t>(random.next());
    if (dtype == DType::kQ8_0) put_half(block, scale / 127);
    if (dtype == DType::kQ4_0) put_half(block, scale / 8);
    if (dtype == DType::kQ4_K) {
      put_half(block, scale / 480);
      put_half(block + 2, scale / 64);
    }
    if (dtype == DType::kQ5_K) {
      put_half(block, scale / 960);
      put_half(block + 2, scale / 64);
    }
    if (dtype == DType::kQ6_K) put_half(block + 208, scale / 2048);
  }
  return packed;
}

// Rows [n_heads, head_dim] of Q8_0 in tiles, at an address that 64 divides; bytes that belong to no row are 0xff.
inline Packed in_tiles(SlotOrder order, const uint8_t* rows, int n_rows, int n_heads, int64_t head_dim) {
  const size_t row = row_bytes(DType::kQ8_0, n_heads * head_dim), tile = row_bytes(DType::kQ8_0, head_dim) * kTileSlots;
  const size_t n_tiles = (static_cast<size_t>(n_rows) + kTileSlots - 1) / kTileSlots;  // of a head
  const int64_t n_blocks = head_dim / 32;
  Packed tiles;
  tiles.memory.resize(static_cast<size_t>(n_heads) * n_tiles * tile + 64, 0xff);
  tiles.offset = 63 - (reinterpret_cast<uintptr_t>(tiles.memory.data()) + 63) % 64;
  for (int n = 0; n < n_rows; ++n) {
    for (int64_t b = 0; b < n_heads * n_blocks; ++b) {
      const uint8_t* from = rows + static_cast<size_t>(n) * row + row_bytes(DType::kQ8_0, 32 * b);
      const size_t at = static_cast<size_t>(b / n_blocks) * n_tiles + static_cast<size_t>(n / kTileSlots);
      uint8_t* to = tiles.data() + at * tile + static_cast<size_t>(b % n_blocks) * kTileBlockBytes;
      const int slot = n % kTileSlots;
      std::memcpy(to + 2 * slot, from, 2);
      for (int e = 0; e < 32; ++e) {
        if (order == SlotOrder::kKeyTiles) to[64 + 128 * (e / 4) + 4 * slot + e % 4] = static_cast<uint8_t>(from[2 + e] + 128);
        else to[64 + 64 * (slot % 16) + 2 * e + slot / 16] = from[2 + e];
      }
    }
  }
  return tiles;
}

}  // namespace banyan::test
