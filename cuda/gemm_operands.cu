// What the tensor paths of gemm multiply: activations and weights as 16-bit floats, rows padded to whole steps. And the sum over slices of columns.
#include "cuda/gemm.h"

#include <algorithm>

#include "cuda/backend.h"
#include "cuda/gemm_scale.cuh"
#include "cuda/prim/dequant.cuh"
#include "cuda/prim/launch.cuh"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/warp.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 256;

// A block per row. The second reading of x comes from the caches.
template <bool kIsBF16> __global__ void __launch_bounds__(kThreads)
    round_kernel(uint16_t* to, float* inverse_scales, const float* x, int64_t cols, int64_t padded) {
  BANYAN_SHARED(scratch, float[kThreads / kWarp]);
  const float* row = x + blockIdx.x * cols;
  PowerOfTwo scale{1.0f, 1.0f};
  if constexpr (!kIsBF16) {
    float largest = 0.0f;
#pragma unroll 4
    for (int64_t k = threadIdx.x; k < cols; k += kThreads) largest = fmaxf(largest, fabsf(row[k]));
    scale = scale_for_halves(block_max(largest, scratch));
  }
  if (threadIdx.x == 0) inverse_scales[blockIdx.x] = scale.inverse;
  uint32_t* out = reinterpret_cast<uint32_t*>(to + blockIdx.x * padded);
#pragma unroll 4
  for (int64_t pair = threadIdx.x; pair < padded / 2; pair += kThreads) {
    const float first = 2 * pair < cols ? row[2 * pair] * scale.value : 0.0f, second = 2 * pair + 1 < cols ? row[2 * pair + 1] * scale.value : 0.0f;
    out[pair] = kIsBF16 ? pack_bf162(first, second) : pack_half2(first, second);
  }
}

// A thread per unit of 16 elements.
template <DType kFormat> __global__ void __launch_bounds__(kThreads)
    unpack_kernel(uint4* to, const uint8_t* w, int64_t rows, int64_t cols, int64_t bytes, int64_t padded) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, n_units = padded / 16, row = i / n_units;
  if (row >= rows) return;
  const auto unit = static_cast<int>(i % n_units);
  const int64_t left = cols - int64_t{16} * unit;
  uint32_t out[8] = {};
  const uint8_t* start = w + row * bytes;
  if constexpr (traits(kFormat).block_size > 1) {
    if (left > 0) {
      const Aligned from = align_down(start);
      unit_halves<kFormat>(load_unit<kFormat>(from.words, from.at, unit), out);
    }
  } else {
    const uint8_t* at = start + 32 * unit;
#pragma unroll
    for (int pair = 0; pair < 8; ++pair) {
      uint32_t first = 0, second = 0;
      if (2 * pair < left) first = at[4 * pair] | static_cast<uint32_t>(at[4 * pair + 1]) << 8;
      if (2 * pair + 1 < left) second = at[4 * pair + 2] | static_cast<uint32_t>(at[4 * pair + 3]) << 8;
      out[pair] = first | second << 16;
    }
  }
  to[2 * i] = {out[0], out[1], out[2], out[3]};
  to[2 * i + 1] = {out[4], out[5], out[6], out[7]};
}

__global__ void __launch_bounds__(kThreads)
    sum_kernel(float* out, const float* partials, const float* bias, int64_t rows, int64_t n, int n_slices, bool is_accumulated) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  float sum = 0.0f;
  for (int slice = 0; slice < n_slices; ++slice) sum += partials[slice * n + i];
  if (bias != nullptr) sum += bias[i % rows];
  out[i] = is_accumulated ? out[i] + sum : sum;
}

unsigned blocks_for(int64_t n) { return static_cast<unsigned>((n + kThreads - 1) / kThreads); }

template <DType kFormat> void launch_unpack(Backend& backend, uint16_t* to, const WeightView& w) {
  const int64_t padded = padded_cols(w.cols);
  launch({dim3(blocks_for(w.rows * (padded / 16))), dim3(kThreads)}, backend.stream, unpack_kernel<kFormat>, reinterpret_cast<uint4*>(to),
      static_cast<const uint8_t*>(w.data), w.rows, w.cols, static_cast<int64_t>(row_bytes(kFormat, w.cols)), padded);
}

}  // namespace

void round_activations(Backend& backend, uint16_t* to, float* inverse_scales, const GemmArgs& a) {
  launch({dim3(static_cast<unsigned>(a.n_tokens)), dim3(kThreads)}, backend.stream, is_bf16(a.w.dtype) ? round_kernel<true> : round_kernel<false>, to,
      inverse_scales, a.x, a.w.cols, padded_cols(a.w.cols));
}

void unpack_weights(Backend& backend, uint16_t* to, const WeightView& w) {
  switch (w.dtype) {
    case DType::kF16: return launch_unpack<DType::kF16>(backend, to, w);
    case DType::kBF16: return launch_unpack<DType::kBF16>(backend, to, w);
    case DType::kQ8_0: return launch_unpack<DType::kQ8_0>(backend, to, w);
    case DType::kQ4_0: return launch_unpack<DType::kQ4_0>(backend, to, w);
    case DType::kQ4_K: return launch_unpack<DType::kQ4_K>(backend, to, w);
    case DType::kQ5_K: return launch_unpack<DType::kQ5_K>(backend, to, w);
    case DType::kQ6_K: return launch_unpack<DType::kQ6_K>(backend, to, w);
    default: return;
  }
}

void sum_slices(Backend& backend, const float* partials, int n_slices, const GemmArgs& a) {
  const int64_t n = a.n_tokens * a.w.rows;
  launch({dim3(blocks_for(n)), dim3(kThreads)}, backend.stream, sum_kernel, a.out, partials, a.bias, a.w.rows, n, n_slices, a.accumulate);
}

}  // namespace banyan::cuda
