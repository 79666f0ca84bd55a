// rotation: sine and cosine of a position's angle: what rope and place turn by.
#pragma once

#include <cstdint>

#include "cuda/prim/launch.cuh"

namespace banyan::cuda {

// Position (< 2^31) times inv_freq (24 bits) is exact in double but for the last 2 bits; the rest of a division by pi / 2 is at most pi / 4 and is
// left with an absolute error of the product's rounding. Sine and cosine of so small an angle need no reduction of their own.
__device__ __forceinline__ float2 cos_sin(double angle) {
  const double quarter = rint(angle * 0.63661977236758134308);                                                            // 2 / pi
  const auto r = static_cast<float>(fma(-quarter, 6.123233995736766e-17, fma(-quarter, 1.57079632679489661923, angle)));  // pi / 2 in two parts
  const float sine = sinf(r), cosine = cosf(r);
  switch (static_cast<int64_t>(quarter) & 3) {
    case 0: return {cosine, sine};
    case 1: return {-sine, cosine};
    case 2: return {-cosine, -sine};
    default: return {sine, -cosine};
  }
}

}  // namespace banyan::cuda
