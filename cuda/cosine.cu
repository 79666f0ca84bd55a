// cosine: a block takes a row, whose three sums in float64 always run in the same order.
#include "cuda/backend.h"
#include "cuda/ops.h"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/warp.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) cosine_kernel(float* out, const float* const* rows, const float* query, int dim) {
  BANYAN_SHARED(scratch, double[3][kThreads / kWarp]);
  const float* row = rows[blockIdx.x];
  double dot = 0, aa = 0, bb = 0;
  for (int c = static_cast<int>(threadIdx.x); c < dim; c += kThreads) {
    const double a = row[c], b = query[c];
    dot += a * b;
    aa += a * a;
    bb += b * b;
  }
  dot = block_sum(dot, scratch[0]);
  aa = block_sum(aa, scratch[1]);
  bb = block_sum(bb, scratch[2]);
  constexpr double kEpsilon = 1e-6;
  if (threadIdx.x == 0) out[blockIdx.x] = static_cast<float>(dot / (fmax(sqrt(aa), kEpsilon) * fmax(sqrt(bb), kEpsilon)));
}

}  // namespace

void cosine(Stream& stream, const CosineArgs& a) {
  if (a.n_rows == 0 || stream.cancelled()) return;
  launch({static_cast<unsigned>(a.n_rows), kThreads}, backend_of(stream).stream, cosine_kernel, a.out, a.rows, a.query, a.dim);
}

}  // namespace banyan::cuda
