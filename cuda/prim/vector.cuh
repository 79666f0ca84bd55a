// vector: one or four floats at once. A kernel over rows is a template over this width; four need rows of whole vectors at 16-byte addresses.
#pragma once

#include <cstdint>

#include "cuda/prim/launch.cuh"

namespace banyan::cuda {

template <int kWidth> struct Floats {
  static_assert(kWidth == 1 || kWidth == 4);
  float x[kWidth];
};

template <int kWidth> __device__ __forceinline__ Floats<kWidth> load(const float* at) {
  if constexpr (kWidth == 1) return {{*at}};
  else {
    const float4 v = *reinterpret_cast<const float4*>(at);
    return {{v.x, v.y, v.z, v.w}};
  }
}

template <int kWidth> __device__ __forceinline__ void store(float* at, const Floats<kWidth>& value) {
  if constexpr (kWidth == 1) *at = value.x[0];
  else *reinterpret_cast<float4*>(at) = {value.x[0], value.x[1], value.x[2], value.x[3]};
}

inline bool is_aligned16() { return true; }
template <class... Rest> bool is_aligned16(const void* first, Rest... rest) {
  return reinterpret_cast<uintptr_t>(first) % 16 == 0 && is_aligned16(rest...);
}

// Whether rows of `dim` floats can be taken by fours at all these addresses.
template <class... Pointers> bool takes_fours(int64_t dim, Pointers... pointers) { return dim % 4 == 0 && is_aligned16(pointers...); }

inline unsigned n_blocks_of(int64_t n, int64_t each) { return static_cast<unsigned>((n + each - 1) / each); }

}  // namespace banyan::cuda
