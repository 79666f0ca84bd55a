// compress: slots out of keys or values. A block makes some heads of one slot: pooled into shared memory, turned there, rounded on the way out; nothing lies between.
#include "cuda/backend.h"
#include "cuda/ops.h"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/vector.cuh"
#include "cuda/rotation.cuh"
#include "cuda/slot_row.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 256;

template <DType kFormat> __global__ void __launch_bounds__(kThreads) compress_kernel(CompressArgs a, int n_part) {
  const int i = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x), n_pairs = a.head_dim / 2;
  const int64_t dim = static_cast<int64_t>(a.n_heads) * a.head_dim;
  const int head = static_cast<int>(blockIdx.y) * n_part, n_heads = min(n_part, a.n_heads - head), n_elements = n_heads * a.head_dim;
  const int64_t first = static_cast<int64_t>(head) * a.head_dim;
  BANYAN_DYNAMIC_SHARED(bytes);
  auto* turns = reinterpret_cast<float2*>(bytes);          // [n_pairs]
  auto* part = reinterpret_cast<float*>(turns + n_pairs);  // [n_elements]
  if (a.inv_freq != nullptr) {
    for (int m = thread; m < n_pairs; m += kThreads) {
      const float2 turn = cos_sin(static_cast<double>(a.positions[i]) * static_cast<double>(a.inv_freq[m]));
      turns[m] = {turn.x * a.magnitude, turn.y * a.magnitude};
    }
  }
  const int begin = a.begin[i], end = a.end != nullptr ? a.end[i] : begin + 1;
  const float* from = a.x + begin * dim + first;
  for (int c = thread; c < n_elements; c += kThreads) {
    float sum = 0;
#pragma unroll 4
    for (int r = 0; r < end - begin; ++r) sum += from[r * dim + c];
    part[c] = sum / static_cast<float>(end - begin);
  }
  __syncthreads();
  if (a.inv_freq != nullptr) {
    turn_heads<kThreads>(part, turns, n_heads, n_pairs, a.is_interleaved);
    __syncthreads();
  }
  const int64_t to = (a.rows[i] + static_cast<int64_t>(a.side) * a.strides[i]) * dim + first;
  write_part<kFormat, kThreads>(static_cast<uint8_t*>(a.out) + row_bytes(kFormat, to), part, n_elements);
}

}  // namespace

void compress(Stream& stream, const CompressArgs& a) {
  if (a.n_slots == 0 || a.n_heads == 0 || a.head_dim == 0 || stream.cancelled()) return;
  const SlotParts parts(a.n_heads, a.head_dim);
  const auto kernel = a.dtype == DType::kQ8_0  ? compress_kernel<DType::kQ8_0>
                      : a.dtype == DType::kF16 ? compress_kernel<DType::kF16>
                                               : compress_kernel<DType::kF32>;
  launch({{static_cast<unsigned>(a.n_slots), parts.count}, kThreads, parts.shared_bytes}, backend_of(stream).stream, kernel, a, parts.n_heads);
}

}  // namespace banyan::cuda
