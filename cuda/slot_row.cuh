// slot_row: some heads of a row [G, C] of keys or values in shared memory, turned and written by a block.
#pragma once

#include "cuda/prim/half.cuh"
#include "cuda/prim/warp.cuh"
#include "cuda/store_block.cuh"
#include "tensor/dtype.h"

namespace banyan::cuda {

// How a row is cut: as many heads a block as have 2048 elements, so that it fits shared memory however many there are.
struct SlotParts {
  SlotParts(int all_heads, int head_dim)
      : n_heads(head_dim < 2048 ? 2048 / head_dim : 1),
        count(static_cast<unsigned>((all_heads + n_heads - 1) / n_heads)),
        shared_bytes(static_cast<size_t>(head_dim / 2) * sizeof(float2) + static_cast<size_t>(n_heads * head_dim) * sizeof(float)) {}
  int n_heads;          // of a part
  unsigned count;       // of parts
  size_t shared_bytes;  // the turns of a head and the elements of a part
};

// Barriers before and after are the caller's.
template <int kThreads> __device__ __forceinline__ void turn_heads(float* row, const float2* turns, int n_heads, int n_pairs, bool is_interleaved) {
  for (int i = static_cast<int>(threadIdx.x); i < n_heads * n_pairs; i += kThreads) {
    const int head = i / n_pairs, m = i - head * n_pairs;
    float* x = row + head * 2 * n_pairs;
    const int first = is_interleaved ? 2 * m : m, second = is_interleaved ? 2 * m + 1 : m + n_pairs;
    const float a = x[first], b = x[second], cosine = turns[m].x, sine = turns[m].y;
    x[first] = a * cosine - b * sine;
    x[second] = a * sine + b * cosine;
  }
}

// As the op store rounds.
template <DType kFormat, int kThreads> __device__ __forceinline__ void write_part(uint8_t* to, const float* row, int dim) {
  const int thread = static_cast<int>(threadIdx.x);
  if constexpr (kFormat == DType::kQ8_0) {
    for (int begin = 0; begin < dim; begin += 4 * kThreads) {  // whole warps vote
      const int c = begin + 4 * thread;
      float value[4] = {};
      for (int e = 0; e < 4 && c < dim; ++e) value[e] = row[c + e];
      const float highest = warp_max<8>(fmaxf(fmaxf(fabsf(value[0]), fabsf(value[1])), fmaxf(fabsf(value[2]), fabsf(value[3]))));
      if (c < dim) store_four_q8_0(to + c / 32 * 34, c % 32, value, highest);
    }
  } else {
    for (int c = thread; c < dim; c += kThreads) {
      if constexpr (kFormat == DType::kF16) reinterpret_cast<uint16_t*>(to)[c] = float_to_half(row[c]);
      else reinterpret_cast<float*>(to)[c] = row[c];
    }
  }
}

}  // namespace banyan::cuda
