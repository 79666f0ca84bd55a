// decode: four neighbouring elements of a row of any weight format, as floats, with one rounding each: for ops that move weights (embed, gather).
// Layouts are those of ggml (ggml-common.h block_*, ggml-quants.c dequantize_row_*). Nothing is aligned.
#pragma once

#include <cstdint>

#include "cuda/prim/half.cuh"
#include "cuda/prim/launch.cuh"
#include "tensor/dtype.h"

namespace banyan::cuda {

template <DType kFormat> inline constexpr DTypeTraits kTraits = traits(kFormat);  // device code cannot call traits()

__device__ __forceinline__ uint16_t load_16(const uint8_t* at) { return static_cast<uint16_t>(at[0] | at[1] << 8); }
__device__ __forceinline__ uint32_t load_32(const uint8_t* at) { return load_16(at) | static_cast<uint32_t>(load_16(at + 2)) << 16; }

// Element i of a format without blocks.
template <DType kFormat> __device__ __forceinline__ float decode_one(const uint8_t* row, int64_t i) {
  if constexpr (kFormat == DType::kF32) return __uint_as_float(load_32(row + 4 * i));
  else if constexpr (kFormat == DType::kF16) return half_to_float(load_16(row + 2 * i));
  else return bf16_to_float(load_16(row + 2 * i));
}

// Scale and minimum of group j < 8 of a Q4_K or Q5_K block: 6 bits each, packed in 12 bytes.
struct GroupScale {
  int scale, min;
};
__device__ __forceinline__ GroupScale group_scale(const uint8_t* s, int j) {
  if (j < 4) return {s[j] & 63, s[j + 4] & 63};
  return {(s[j + 4] & 15) | (s[j - 4] >> 6) << 4, s[j + 4] >> 4 | (s[j] >> 6) << 4};
}

// Elements i to i + 3; i is a multiple of 4, so all are of one block and one group of it.
template <DType kFormat> __device__ __forceinline__ float4 decode_4(const uint8_t* row, int64_t i) {
  constexpr int kSize = kTraits<kFormat>.block_size, kBytes = kTraits<kFormat>.block_bytes;
  if constexpr (kSize == 1) {
    // Rows of whole vectors are nearly always aligned; the test is the same for all threads.
    const uint8_t* at = row + kBytes * i;
    if (reinterpret_cast<uintptr_t>(at) % (4 * kBytes) == 0) {
      if constexpr (kFormat == DType::kF32) return *reinterpret_cast<const float4*>(at);
      const uint2 bits = *reinterpret_cast<const uint2*>(at);
      const float2 low = kFormat == DType::kF16 ? unpack_half2(bits.x) : unpack_bf162(bits.x);
      const float2 high = kFormat == DType::kF16 ? unpack_half2(bits.y) : unpack_bf162(bits.y);
      return {low.x, low.y, high.x, high.y};
    }
    return {decode_one<kFormat>(row, i), decode_one<kFormat>(row, i + 1), decode_one<kFormat>(row, i + 2), decode_one<kFormat>(row, i + 3)};
  } else {
    const uint8_t* block = row + i / kSize * kBytes;
    const int j = static_cast<int>(i % kSize);
    float d, plus;  // an element is d * q + plus
    int q[4];
    if constexpr (kFormat == DType::kQ8_0) {
      d = half_to_float(load_16(block));
      plus = 0;
#pragma unroll
      for (int e = 0; e < 4; ++e) q[e] = static_cast<int8_t>(block[2 + j + e]);
    } else if constexpr (kFormat == DType::kQ4_0) {
      d = half_to_float(load_16(block));
      plus = -8.0f * d;
#pragma unroll
      for (int e = 0; e < 4; ++e) q[e] = j < 16 ? block[2 + j + e] & 15 : block[2 + j - 16 + e] >> 4;
    } else if constexpr (kFormat == DType::kQ4_K || kFormat == DType::kQ5_K) {
      const int group = j / 32, lane = j % 32;
      const GroupScale s = group_scale(block + 4, group);
      d = half_to_float(load_16(block)) * static_cast<float>(s.scale);
      plus = -half_to_float(load_16(block + 2)) * static_cast<float>(s.min);
      const uint8_t* nibbles = block + (kFormat == DType::kQ4_K ? 16 : 48) + group / 2 * 32 + lane;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        q[e] = group % 2 == 0 ? nibbles[e] & 15 : nibbles[e] >> 4;
        if constexpr (kFormat == DType::kQ5_K) q[e] |= (block[16 + lane + e] >> group & 1) << 4;
      }
    } else {
      const int part = j / 128, quarter = j % 128 / 32, lane = j % 32;
      d = half_to_float(load_16(block + 208)) * static_cast<float>(static_cast<int8_t>(block[192 + j / 16]));
      plus = -32.0f * d;
      const uint8_t* low = block + 64 * part + 32 * (quarter % 2) + lane;
      const uint8_t* upper = block + 128 + 32 * part + lane;
#pragma unroll
      for (int e = 0; e < 4; ++e) q[e] = (quarter < 2 ? low[e] & 15 : low[e] >> 4) | (upper[e] >> (2 * quarter) & 3) << 4;
    }
    return {fmaf(d, static_cast<float>(q[0]), plus), fmaf(d, static_cast<float>(q[1]), plus), fmaf(d, static_cast<float>(q[2]), plus),
        fmaf(d, static_cast<float>(q[3]), plus)};
  }
}

// Calls body(std::integral_constant<DType, dtype>); nothing for types no matrix may have.
template <class Body> void with_weight_dtype(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF32: return body(std::integral_constant<DType, DType::kF32>{});
    case DType::kF16: return body(std::integral_constant<DType, DType::kF16>{});
    case DType::kBF16: return body(std::integral_constant<DType, DType::kBF16>{});
    case DType::kQ8_0: return body(std::integral_constant<DType, DType::kQ8_0>{});
    case DType::kQ4_0: return body(std::integral_constant<DType, DType::kQ4_0>{});
    case DType::kQ4_K: return body(std::integral_constant<DType, DType::kQ4_K>{});
    case DType::kQ5_K: return body(std::integral_constant<DType, DType::kQ5_K>{});
    case DType::kQ6_K: return body(std::integral_constant<DType, DType::kQ6_K>{});
    default: return;
  }
}

}  // namespace banyan::cuda
