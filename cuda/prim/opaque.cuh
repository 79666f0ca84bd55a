// opaque: against a compiler that means well. What it can compute before a loop it keeps in registers through the loop, and what it can follow from turn to
// turn it rewrites into more running sums, each of 64 bits; where registers are what is short, computing again is cheaper.
#pragma once

#include "cuda/runtime.h"

namespace banyan::cuda {

// From here on the compiler knows nothing of x.
template <class T> __device__ __forceinline__ void make_opaque(T& x) {
#ifndef BANYAN_EMULATE
  if constexpr (sizeof(T) == 8) asm volatile("" : "+l"(x));
  else asm volatile("" : "+r"(x));
#else
  static_cast<void>(x);
#endif
}

}  // namespace banyan::cuda
