// warp: sums, maxima and running sums over a warp or a block. All threads call, all threads get the result.
#pragma once

#include "cuda/prim/launch.cuh"

namespace banyan::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// The sum over the kLanes neighbouring lanes that start at a multiple of kLanes.
template <int kLanes = kWarp> __device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int bits = kLanes / 2; bits > 0; bits /= 2) value += __shfl_xor_sync(kAllLanes, value, bits);
  return value;
}

template <int kLanes = kWarp> __device__ __forceinline__ double warp_sum(double value) {
#pragma unroll
  for (int bits = kLanes / 2; bits > 0; bits /= 2) value += __shfl_xor_sync(kAllLanes, value, bits);
  return value;
}

// A NaN counts nothing beside a number, as in fmaxf.
template <int kLanes = kWarp> __device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int bits = kLanes / 2; bits > 0; bits /= 2) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, bits));
  return value;
}

// The sum over the lanes up to this one.
template <class T> __device__ __forceinline__ T warp_scan(T value) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int by = 1; by < kWarp; by *= 2) {
    const T before = __shfl_up_sync(kAllLanes, value, static_cast<unsigned>(by));
    if (lane >= by) value += before;
  }
  return value;
}

// Over a block of blockDim.x threads (one dimension). `scratch` is shared memory, one value a warp; it may be used again after the next barrier.
template <class T> __device__ __forceinline__ T block_sum(T value, T* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp,
            n_warps = static_cast<int>(blockDim.x) / kWarp;
  value = warp_sum(value);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  return warp_sum(lane < n_warps ? scratch[lane] : T{});
}

__device__ __forceinline__ float block_max(float value, float* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp,
            n_warps = static_cast<int>(blockDim.x) / kWarp;
  value = warp_max(value);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  return warp_max(scratch[lane < n_warps ? lane : 0]);
}

// The sum over the threads up to this one, and that over all. `scratch` as above, a T a warp.
template <class T> struct Scanned { T sum, total; };
template <class T> __device__ __forceinline__ Scanned<T> block_scan(T value, T* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp,
            n_warps = static_cast<int>(blockDim.x) / kWarp;
  value = warp_scan(value);
  if (lane == kWarp - 1) scratch[warp] = value;
  __syncthreads();
  const T sums = warp_scan(lane < n_warps ? scratch[lane] : T{});
  const T before = __shfl_sync(kAllLanes, sums, warp > 0 ? warp - 1 : 0), total = __shfl_sync(kAllLanes, sums, kWarp - 1);
  return {warp > 0 ? before + value : value, total};
}

}  // namespace banyan::cuda
