// decode_rows: out[i] = float(row rows[i] of a matrix): what embed and gather share. A thread writes four elements.
#pragma once

#include "cuda/decode.cuh"
#include "cuda/prim/vector.cuh"

namespace banyan::cuda {

constexpr int kDecodeThreads = 128;

template <DType kFormat, bool kHasFours> __global__ void __launch_bounds__(kDecodeThreads)
    decode_rows_kernel(float* out, const uint8_t* x, const int32_t* rows, int64_t dim, size_t n_bytes) {
  const int64_t i = blockIdx.x, c = (static_cast<int64_t>(blockIdx.y) * kDecodeThreads + threadIdx.x) * 4;
  if (c >= dim) return;
  const uint8_t* row = x + static_cast<size_t>(rows[i]) * n_bytes;
  float* to = out + i * dim + c;
  if constexpr (kHasFours) {
    *reinterpret_cast<float4*>(to) = decode_4<kFormat>(row, c);
  } else if constexpr (kTraits<kFormat>.block_size == 1) {
    for (int e = 0; e < 4 && c + e < dim; ++e) to[e] = decode_one<kFormat>(row, c + e);
  } else {
    const float4 values = decode_4<kFormat>(row, c);
    to[0] = values.x;
    to[1] = values.y;
    to[2] = values.z;
    to[3] = values.w;
  }
}

inline void decode_rows(cudaStream_t stream, float* out, const void* x, DType dtype, const int32_t* rows, int n_rows, int64_t dim) {
  if (n_rows == 0 || dim == 0) return;
  with_weight_dtype(dtype, [&](auto format) {
    constexpr DType kFormat = decltype(format)::value;
    const LaunchShape shape{{static_cast<unsigned>(n_rows), n_blocks_of(dim, 4 * kDecodeThreads)}, kDecodeThreads};
    const auto kernel = takes_fours(dim, out) ? decode_rows_kernel<kFormat, true> : decode_rows_kernel<kFormat, false>;
    launch(shape, stream, kernel, out, static_cast<const uint8_t*>(x), rows, dim, row_bytes(kFormat, dim));
  });
}

}  // namespace banyan::cuda
