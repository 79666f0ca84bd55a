// warp: sums and maxima over a warp or a block. All threads call, all threads get the result.
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

// Over a block of blockDim.x threads (one dimension). `scratch` is shared memory, one float a warp; it may be used again after the next barrier.
__device__ __forceinline__ float block_sum(float value, float* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp,
            n_warps = static_cast<int>(blockDim.x) / kWarp;
  value = warp_sum(value);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  return warp_sum(lane < n_warps ? scratch[lane] : 0.0f);
}

__device__ __forceinline__ float block_max(float value, float* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp,
            n_warps = static_cast<int>(blockDim.x) / kWarp;
  value = warp_max(value);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  return warp_max(scratch[lane < n_warps ? lane : 0]);
}

}  // namespace banyan::cuda
