// store: x[T, G, C] into rows of a cache, as F32, F16 or Q8_0.
#include "cuda/backend.h"
#include "cuda/ops.h"
#include "cuda/prim/half.cuh"
#include "cuda/prim/vector.cuh"
#include "cuda/prim/warp.cuh"
#include "cuda/store_block.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 256;

struct Target {
  uint8_t* out;
  int64_t row_stride, head_stride;
  const int32_t* rows;
  int n_heads, head_dim;
  // Element where element c of token t's row [G, C] goes.
  __device__ __forceinline__ int64_t element(unsigned t, int c) const {
    const int head = c / head_dim;
    return rows[t] * row_stride + head * head_stride + (c - head * head_dim);
  }
};

// A block takes a part of one token's row.
template <int kWidth> __device__ __forceinline__ int column() { return static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * kWidth; }

template <DType kFormat, int kWidth> __global__ void __launch_bounds__(kThreads) store_kernel(Target target, const float* x, int row_size) {
  const int c = column<kWidth>();
  if (c >= row_size) return;
  const Floats<kWidth> value = load<kWidth>(x + static_cast<int64_t>(blockIdx.x) * row_size + c);
  const int64_t at = target.element(blockIdx.x, c);
  if constexpr (kFormat == DType::kF32) {
    store(reinterpret_cast<float*>(target.out) + at, value);
  } else if constexpr (kWidth == 1) {
    reinterpret_cast<uint16_t*>(target.out)[at] = float_to_half(value.x[0]);
  } else {
    *reinterpret_cast<uint2*>(target.out + 2 * at) = {pack_half2(value.x[0], value.x[1]), pack_half2(value.x[2], value.x[3])};
  }
}

// Eight neighbouring threads make a block of 32.
template <int kWidth> __global__ void __launch_bounds__(kThreads) store_q8_0_kernel(Target target, const float* x, int row_size) {
  const int c = column<4>();
  const bool is_used = c < row_size;
  float value[4] = {};
  if (is_used) {
    const float* from = x + static_cast<int64_t>(blockIdx.x) * row_size + c;
#pragma unroll
    for (int i = 0; i < 4; i += kWidth) {
      const Floats<kWidth> part = load<kWidth>(from + i);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) value[i + e] = part.x[e];
    }
  }
  const float highest = warp_max<8>(fmaxf(fmaxf(fabsf(value[0]), fabsf(value[1])), fmaxf(fabsf(value[2]), fabsf(value[3]))));
  if (!is_used) return;
  const int64_t at = target.element(blockIdx.x, c);
  store_four_q8_0(target.out + at / 32 * 34, static_cast<int>(at % 32), value, highest);
}

}  // namespace

void store(Stream& stream, const StoreArgs& a) {
  const int row_size = a.n_heads * a.head_dim;
  if (a.n_tokens == 0 || row_size == 0 || stream.cancelled()) return;
  const cudaStream_t on = backend_of(stream).stream;
  const Target target{static_cast<uint8_t*>(a.out), a.row_stride, a.head_stride, a.rows, a.n_heads, a.head_dim};
  const auto n_tokens = static_cast<unsigned>(a.n_tokens);
  const bool is_q8_0 = a.dtype == DType::kQ8_0, reads_fours = takes_fours(a.head_dim, a.x);
  const bool has_fours = reads_fours && is_aligned16(a.out) && a.row_stride % 4 == 0 && a.head_stride % 4 == 0;
  const LaunchShape shape{{n_tokens, n_blocks_of(row_size, (is_q8_0 || has_fours ? 4 : 1) * kThreads)}, kThreads};
  if (is_q8_0) launch(shape, on, reads_fours ? store_q8_0_kernel<4> : store_q8_0_kernel<1>, target, a.x, row_size);
  else if (a.dtype == DType::kF16) launch(shape, on, has_fours ? store_kernel<DType::kF16, 4> : store_kernel<DType::kF16, 1>, target, a.x, row_size);
  else launch(shape, on, has_fours ? store_kernel<DType::kF32, 4> : store_kernel<DType::kF32, 1>, target, a.x, row_size);
}

}  // namespace banyan::cuda
