// highest: a warp takes a range.
#include "cuda/backend.h"
#include "cuda/ops.h"
#include "cuda/prim/vector.cuh"
#include "cuda/prim/warp.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) highest_kernel(float* out, const float* x, const int32_t* begin, const int32_t* end, int n_groups) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp,
            group = static_cast<int>(blockIdx.x) * (kThreads / kWarp) + static_cast<int>(threadIdx.x) / kWarp;
  if (group >= n_groups) return;  // a whole warp
  float highest = -INFINITY;
  for (int i = begin[group] + lane, last = end[group]; i < last; i += kWarp) highest = fmaxf(highest, x[i]);
  highest = warp_max(highest);
  if (lane == 0) out[group] = highest;
}

}  // namespace

void highest(Stream& stream, const HighestArgs& a) {
  if (a.n_groups == 0 || stream.cancelled()) return;
  launch({n_blocks_of(a.n_groups, kThreads / kWarp), kThreads}, backend_of(stream).stream, highest_kernel, a.out, a.x, a.begin, a.end, a.n_groups);
}

}  // namespace banyan::cuda
