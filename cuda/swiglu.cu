// swiglu: one pass over both operands, 16 bytes a load.
#include "cuda/backend.h"
#include "cuda/ops.h"
#include "cuda/prim/vector.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 256;

// A very negative gate makes expf infinite and the quotient -0, which is the limit.
__device__ __forceinline__ float swiglu_one(float gate, float up) { return gate / (1.0f + expf(-gate)) * up; }

template <int kWidth> __global__ void __launch_bounds__(kThreads) swiglu_kernel(float* out, const float* gate, const float* up, int64_t n) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if (i >= n) return;
  Floats<kWidth> g = load<kWidth>(gate + i);
  const Floats<kWidth> u = load<kWidth>(up + i);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) g.x[e] = swiglu_one(g.x[e], u.x[e]);
  store(out + i, g);
}

}  // namespace

void swiglu(Stream& stream, const SwigluArgs& a) {
  if (a.n == 0 || stream.cancelled()) return;
  const cudaStream_t on = backend_of(stream).stream;
  if (takes_fours(a.n, a.out, a.gate, a.up)) launch({n_blocks_of(a.n / 4, kThreads), kThreads}, on, swiglu_kernel<4>, a.out, a.gate, a.up, a.n);
  else launch({n_blocks_of(a.n, kThreads), kThreads}, on, swiglu_kernel<1>, a.out, a.gate, a.up, a.n);
}

}  // namespace banyan::cuda
