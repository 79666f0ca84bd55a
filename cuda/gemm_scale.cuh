// gemm_scale: the power of two that brings a row of floats into the range of halves.
#pragma once

#include <cstdint>

#include "cuda/prim/launch.cuh"

namespace banyan::cuda {

struct PowerOfTwo {
  float value, inverse;
};

// value * largest lies in [2^14, 2^15), or below if that took more than 2^126; halves end at 65504. `largest` is a maximum of magnitudes as fmaxf
// makes it; where it is infinite there is nothing to save and the factor is 1.
__device__ __forceinline__ PowerOfTwo scale_for_halves(float largest) {
  const int exponent = static_cast<int>(__float_as_uint(largest) >> 23);
  const int biased = exponent == 255 ? 127 : min(127 + 14 + 127 - exponent, 253);
  return {__uint_as_float(static_cast<uint32_t>(biased) << 23), __uint_as_float(static_cast<uint32_t>(254 - biased) << 23)};
}

}  // namespace banyan::cuda
