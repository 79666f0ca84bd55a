// compress: slots out of keys or values. A block makes one slot: pooled into shared memory, turned there, rounded on the way out; nothing lies between.
#include "cuda/backend.h"
#include "cuda/ops.h"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/vector.cuh"
#include "cuda/rotation.cuh"
#include "cuda/slot_row.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 256;

template <DType kFormat> __global__ void __launch_bounds__(kThreads) compress_kernel(CompressArgs a, size_t n_bytes) {
  const int i = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x), n_pairs = a.head_dim / 2, dim = a.n_heads * a.head_dim;
  BANYAN_DYNAMIC_SHARED(bytes);
  auto* turns = reinterpret_cast<float2*>(bytes);         // [n_pairs]
  auto* row = reinterpret_cast<float*>(turns + n_pairs);  // [dim]
  if (a.inv_freq != nullptr) {
    for (int m = thread; m < n_pairs; m += kThreads) {
      const float2 turn = cos_sin(static_cast<double>(a.positions[i]) * static_cast<double>(a.inv_freq[m]));
      turns[m] = {turn.x * a.magnitude, turn.y * a.magnitude};
    }
  }
  const int begin = a.begin[i], end = a.end != nullptr ? a.end[i] : begin + 1;
  const float* from = a.x + static_cast<int64_t>(begin) * dim;
  for (int c = thread; c < dim; c += kThreads) {
    float sum = 0;
#pragma unroll 4
    for (int r = 0; r < end - begin; ++r) sum += from[static_cast<int64_t>(r) * dim + c];
    row[c] = sum / static_cast<float>(end - begin);
  }
  __syncthreads();
  if (a.inv_freq != nullptr) {
    turn_row<kThreads>(row, turns, a.n_heads, n_pairs, a.is_interleaved);
    __syncthreads();
  }
  const int64_t to = a.rows[i] + static_cast<int64_t>(a.side) * a.strides[i];
  write_row<kFormat, kThreads>(static_cast<uint8_t*>(a.out) + static_cast<size_t>(to) * n_bytes, row, dim);
}

}  // namespace

void compress(Stream& stream, const CompressArgs& a) {
  const int dim = a.n_heads * a.head_dim;
  if (a.n_slots == 0 || dim == 0 || stream.cancelled()) return;
  const size_t shared = static_cast<size_t>(a.head_dim / 2) * sizeof(float2) + static_cast<size_t>(dim) * sizeof(float);
  const auto kernel = a.dtype == DType::kQ8_0  ? compress_kernel<DType::kQ8_0>
                      : a.dtype == DType::kF16 ? compress_kernel<DType::kF16>
                                               : compress_kernel<DType::kF32>;
  launch({static_cast<unsigned>(a.n_slots), kThreads, shared}, backend_of(stream).stream, kernel, a, row_bytes(a.dtype, dim));
}

}  // namespace banyan::cuda
