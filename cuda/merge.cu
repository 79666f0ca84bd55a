// merge: attention over two sets of keys from the attention over each, weighted by the sums of their softmaxes. A warp takes a row, or half a warp
// one of 16 vectors at most.
#include "cuda/backend.h"
#include "cuda/ops.h"
#include "cuda/prim/vector.cuh"
#include "cuda/prim/warp.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 256;

// A side of weight 0 is not read: nobody need have written it.
template <int kWidth, int kLanes> __global__ void __launch_bounds__(kThreads) merge_kernel(MergeArgs args) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int row = static_cast<int>(blockIdx.x) * (kThreads / kLanes) + static_cast<int>(threadIdx.x) / kLanes;
  const bool is_used = row < args.n_rows;
  const float a_lse = is_used ? args.a_lse[row] : 0.0f, v = is_used ? args.b_lse[row] : 0.0f;
  __syncwarp();  // lse may be a_lse or b_lse: all lanes have read before one writes
  if (!is_used) return;
  const float u = a_lse == -INFINITY ? -INFINITY : args.a_power * a_lse + args.a_bias;
  const float m = fmaxf(u, v);
  const bool is_empty = m == -INFINITY;
  const float weight_a = is_empty ? 0.0f : expf(u - m), weight_b = is_empty ? 0.0f : expf(v - m);  // the larger one is 1
  const float total = weight_a + weight_b;
  if (lane == 0 && args.lse != nullptr) args.lse[row] = is_empty ? m : m + logf(total);
  const float share_a = weight_b == 0.0f ? 1.0f : weight_a / total, share_b = weight_a == 0.0f ? 1.0f : weight_b / total;
  const int64_t start = static_cast<int64_t>(row) * args.dim;
  for (int c = lane * kWidth; c < args.dim; c += kLanes * kWidth) {
    Floats<kWidth> sum{};
    if (weight_a != 0.0f) {
      sum = load<kWidth>(args.a + start + c);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) sum.x[e] *= share_a;
    }
    if (weight_b != 0.0f) {
      const Floats<kWidth> b = load<kWidth>(args.b + start + c);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) sum.x[e] = fmaf(share_b, b.x[e], sum.x[e]);
    }
    store(args.out + start + c, sum);
  }
}

template <int kWidth, int kLanes> void run(cudaStream_t stream, const MergeArgs& args) {
  launch({n_blocks_of(args.n_rows, kThreads / kLanes), kThreads}, stream, merge_kernel<kWidth, kLanes>, args);
}

}  // namespace

void merge(Stream& stream, const MergeArgs& args) {
  if (args.n_rows == 0 || stream.cancelled()) return;
  const cudaStream_t on = backend_of(stream).stream;
  if (!takes_fours(args.dim, args.out, args.a, args.b)) run<1, 32>(on, args);
  else if (args.dim <= 64) run<4, 16>(on, args);
  else run<4, 32>(on, args);
}

}  // namespace banyan::cuda
