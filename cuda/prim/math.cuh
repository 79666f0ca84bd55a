// math: functions that the special function unit computes, for where their error is allowed. expf and the like of CUDA are within 2 ulp and are
// what an op uses unless it has reason not to.
#pragma once

#include "cuda/prim/launch.cuh"

namespace banyan::cuda {

#ifdef BANYAN_EMULATE
inline float fast_exp2(float x) { return exp2f(x); }
#else
// 2^x within 2 ulp; subnormal results are 0, as are subnormal arguments (ex2.approx.ftz).
__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#endif

}  // namespace banyan::cuda
