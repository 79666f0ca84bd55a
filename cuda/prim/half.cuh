// half: the two 16-bit float formats as bits, one in a uint16_t or a pair in a uint32_t (the first in the low half). Rounding is to nearest, ties
// to even; beyond the largest half lies infinity.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"
#ifdef BANYAN_EMULATE
#include "base/half.h"
#include "cuda/emulate/builtins.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace banyan::cuda {

#ifdef BANYAN_EMULATE

inline float half_to_float(uint16_t bits) { return f16_to_f32(bits); }
inline uint16_t float_to_half(float x) { return f32_to_f16(x); }
inline uint16_t float_to_bf16(float x) { return f32_to_bf16(x); }
inline uint32_t pack_half2(float first, float second) { return f32_to_f16(first) | static_cast<uint32_t>(f32_to_f16(second)) << 16; }
inline uint32_t pack_bf162(float first, float second) { return f32_to_bf16(first) | static_cast<uint32_t>(f32_to_bf16(second)) << 16; }
inline float2 unpack_half2(uint32_t pair) { return {f16_to_f32(static_cast<uint16_t>(pair)), f16_to_f32(static_cast<uint16_t>(pair >> 16))}; }
inline uint32_t add_half2(uint32_t a, uint32_t b) {
  const float2 x = unpack_half2(a), y = unpack_half2(b);
  return pack_half2(x.x + y.x, x.y + y.y);
}
inline uint32_t multiply_half2(uint32_t a, uint32_t b) {
  const float2 x = unpack_half2(a), y = unpack_half2(b);
  return pack_half2(x.x * y.x, x.y * y.y);
}

#else

__device__ __forceinline__ float half_to_float(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
__device__ __forceinline__ uint16_t float_to_half(float x) { return __half_as_ushort(__float2half_rn(x)); }
__device__ __forceinline__ uint16_t float_to_bf16(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
__device__ __forceinline__ uint32_t pack_half2(float first, float second) {
  const __half2 pair = __floats2half2_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ uint32_t pack_bf162(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ float2 unpack_half2(uint32_t pair) { return __half22float2(*reinterpret_cast<const __half2*>(&pair)); }
// Pair by pair, rounded once: of two halves, sum and product as float32 are exact or wide enough for that.
__device__ __forceinline__ uint32_t add_half2(uint32_t a, uint32_t b) {
  const __half2 sum = __hadd2(*reinterpret_cast<const __half2*>(&a), *reinterpret_cast<const __half2*>(&b));
  return *reinterpret_cast<const uint32_t*>(&sum);
}
__device__ __forceinline__ uint32_t multiply_half2(uint32_t a, uint32_t b) {
  const __half2 product = __hmul2(*reinterpret_cast<const __half2*>(&a), *reinterpret_cast<const __half2*>(&b));
  return *reinterpret_cast<const uint32_t*>(&product);
}

#endif

__device__ __forceinline__ float bf16_to_float(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }
__device__ __forceinline__ float2 unpack_bf162(uint32_t pair) { return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000u)}; }

}  // namespace banyan::cuda
