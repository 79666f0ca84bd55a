// store_block: four elements of a Q8_0 block of a cache, as store and place write them.
#pragma once

#include <cstdint>

#include "cuda/prim/half.cuh"
#include "cuda/prim/launch.cuh"

namespace banyan::cuda {

// Elements j to j + 3 of the block (j a multiple of 4) whose largest |x| is `highest`; those of j = 0 write the scale. d = highest / 127, rounded to a
// half but no larger than the largest; q = x / d with that half. Blocks begin at even bytes.
__device__ __forceinline__ void store_four_q8_0(uint8_t* block, int j, const float (&value)[4], float highest) {
  const uint16_t bits = float_to_half(fminf(65504.0f, highest / 127.0f));
  const float d = half_to_float(bits);
  uint32_t q[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const float quotient = d == 0.0f ? 0.0f : fmaxf(fminf(value[e] / d, 127.0f), -127.0f);  // bounds matter where d is subnormal
    q[e] = static_cast<uint32_t>(__float2int_rn(quotient)) & 255u;
  }
  auto* to = reinterpret_cast<uint16_t*>(block + 2 + j);
  to[0] = static_cast<uint16_t>(q[0] | q[1] << 8);
  to[1] = static_cast<uint16_t>(q[2] | q[3] << 8);
  if (j == 0) *reinterpret_cast<uint16_t*>(block) = bits;
}

}  // namespace banyan::cuda
