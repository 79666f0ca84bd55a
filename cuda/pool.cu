// pool: a thread takes one column (or four) of one group and walks down its rows, summing in their order.
#include "cuda/backend.h"
#include "cuda/ops.h"
#include "cuda/prim/vector.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 128;

template <int kWidth> __global__ void __launch_bounds__(kThreads)
    pool_kernel(float* out, const float* x, const int32_t* begin, const int32_t* end, int64_t dim) {
  const int64_t i = blockIdx.x, c = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kWidth;
  if (c >= dim) return;
  const int first = begin[i], last = end[i];
  Floats<kWidth> sum{};
#pragma unroll 4
  for (int row = first; row < last; ++row) {
    const Floats<kWidth> part = load<kWidth>(x + row * dim + c);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sum.x[e] += part.x[e];
  }
#pragma unroll
  for (int e = 0; e < kWidth; ++e) sum.x[e] /= static_cast<float>(last - first);
  store(out + i * dim + c, sum);
}

}  // namespace

void pool(Stream& stream, const PoolArgs& a) {
  if (a.n_groups == 0 || a.dim == 0 || stream.cancelled()) return;
  const cudaStream_t on = backend_of(stream).stream;
  const auto n_groups = static_cast<unsigned>(a.n_groups);
  if (takes_fours(a.dim, a.out, a.x)) {
    launch({{n_groups, n_blocks_of(a.dim, 4 * kThreads)}, kThreads}, on, pool_kernel<4>, a.out, a.x, a.begin, a.end, a.dim);
  } else {
    launch({{n_groups, n_blocks_of(a.dim, kThreads)}, kThreads}, on, pool_kernel<1>, a.out, a.x, a.begin, a.end, a.dim);
  }
}

}  // namespace banyan::cuda
