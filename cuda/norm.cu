// norm: a row is read once into registers: by a warp if it is short (the heads of per-head norms), by a block if it is long.
#include "cuda/backend.h"
#include "cuda/ops.h"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/vector.cuh"
#include "cuda/prim/warp.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 256;

// The threads of a row: kLanes of them, of which this is `lane`; each holds kVectors vectors, kLanes vectors apart.
template <int kWidth, int kVectors, int kLanes> __global__ void __launch_bounds__(kThreads)
    norm_kernel(float* out, const float* x, const float* weight, int n_rows, int dim, float eps) {
  BANYAN_SHARED(scratch, float[kThreads / kWarp]);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int row = static_cast<int>(blockIdx.x) * (kThreads / kLanes) + static_cast<int>(threadIdx.x) / kLanes;
  const int n = row < n_rows ? dim : 0;  // threads without a row still take part in the sum
  const float* from = x + static_cast<int64_t>(row) * dim;
  Floats<kWidth> values[kVectors]{};
  float sum = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int c = (v * kLanes + lane) * kWidth;
    if (c >= n) break;
    values[v] = load<kWidth>(from + c);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sum = fmaf(values[v].x[e], values[v].x[e], sum);
  }
  sum = kLanes == kWarp ? warp_sum(sum) : block_sum(sum, scratch);
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(dim) + eps);
  float* to = out + static_cast<int64_t>(row) * dim;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int c = (v * kLanes + lane) * kWidth;
    if (c >= n) break;
    const Floats<kWidth> w = load<kWidth>(weight + c);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) values[v].x[e] = values[v].x[e] * scale * w.x[e];
    store(to + c, values[v]);
  }
}

// Rows of any length, read twice.
__global__ void __launch_bounds__(kThreads) norm_long_kernel(float* out, const float* x, const float* weight, int dim, float eps) {
  BANYAN_SHARED(scratch, float[kThreads / kWarp]);
  const int64_t start = static_cast<int64_t>(blockIdx.x) * dim;
  float sum = 0;
  for (int c = static_cast<int>(threadIdx.x); c < dim; c += kThreads) sum = fmaf(x[start + c], x[start + c], sum);
  const float scale = 1.0f / sqrtf(block_sum(sum, scratch) / static_cast<float>(dim) + eps);
  for (int c = static_cast<int>(threadIdx.x); c < dim; c += kThreads) out[start + c] = x[start + c] * scale * weight[c];
}

template <int kWidth, int kVectors, int kLanes> void run(cudaStream_t stream, const NormArgs& a) {
  launch({n_blocks_of(a.n_rows, kThreads / kLanes), kThreads}, stream, norm_kernel<kWidth, kVectors, kLanes>, a.out, a.x, a.weight, a.n_rows, a.dim,
      a.eps);
}

template <int kWidth> void run_width(cudaStream_t stream, const NormArgs& a) {
  const int n = a.dim / kWidth;  // vectors of a row
  if (n <= 1 * kWarp) run<kWidth, 1, kWarp>(stream, a);
  else if (n <= 4 * kWarp) run<kWidth, 4, kWarp>(stream, a);
  else if (n <= 2 * kThreads) run<kWidth, 2, kThreads>(stream, a);
  else if (n <= 4 * kThreads) run<kWidth, 4, kThreads>(stream, a);
  else if (n <= 8 * kThreads) run<kWidth, 8, kThreads>(stream, a);
  else launch({static_cast<unsigned>(a.n_rows), kThreads}, stream, norm_long_kernel, a.out, a.x, a.weight, a.dim, a.eps);
}

}  // namespace

void norm(Stream& stream, const NormArgs& a) {
  if (a.n_rows == 0 || a.dim == 0 || stream.cancelled()) return;
  const cudaStream_t on = backend_of(stream).stream;
  if (takes_fours(a.dim, a.out, a.x, a.weight)) run_width<4>(on, a);
  else run_width<1>(on, a);
}

}  // namespace banyan::cuda
