// attend_join: the splits of a row put together. out = sum of e^(base) part / sum of e^(base) sum, over the splits that saw a key.
// A block is a row; its warps take the splits in turns, because one warp would wait for memory once for each.
#include "cuda/attend_job.cuh"
#include "cuda/prim/memory.cuh"

namespace banyan::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr float kUnused = -1.0f;  // a weight that is none

__global__ void __launch_bounds__(kThreads) attend_join_kernel(AttendJob job) {
  BANYAN_DYNAMIC_SHARED(bytes);
  auto* out = reinterpret_cast<float*>(bytes);  // [kWarps, head_dim]
  auto* weights = out + kWarps * job.head_dim;  // [n_splits]
  const int64_t row = blockIdx.x;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const float2* states = job.states + row * job.n_splits;
  // Every warp finds the maximum and the sum by itself.
  float highest = kNothing;
  for (int s = lane; s < job.n_splits; s += kWarp) highest = fmaxf(highest, states[s].x);
  highest = warp_max(highest);
  float sum = 0.0f;
  for (int s = lane; s < job.n_splits; s += kWarp) {
    const float2 state = states[s];
    const float weight = state.x == kNothing ? 0.0f : exp2f(state.x - highest);
    sum += weight * state.y;
    // A split that saw nothing is left out; of one that saw something that is no number, 0 times that is none either.
    if (warp == 0) weights[s] = state.y == 0.0f ? kUnused : weight;
  }
  sum = warp_sum(sum);
  __syncthreads();
  const float* parts = job.parts + row * job.n_splits * job.head_dim;
  if (job.head_dim % 4 == 0) {
    for (int dim = 4 * lane; dim < job.head_dim; dim += 4 * kWarp) {
      float4 total{0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 8
      for (int s = warp; s < job.n_splits; s += kWarps) {
        const float weight = weights[s];
        const float4 x = weight == kUnused ? total : *reinterpret_cast<const float4*>(parts + s * job.head_dim + dim);
        if (weight != kUnused)
          total = {fmaf(weight, x.x, total.x), fmaf(weight, x.y, total.y), fmaf(weight, x.z, total.z), fmaf(weight, x.w, total.w)};
      }
      *reinterpret_cast<float4*>(out + warp * job.head_dim + dim) = total;
    }
  } else {
    for (int dim = lane; dim < job.head_dim; dim += kWarp) {
      float total = 0.0f;
      for (int s = warp; s < job.n_splits; s += kWarps) {
        if (weights[s] != kUnused) total = fmaf(weights[s], parts[s * job.head_dim + dim], total);
      }
      out[warp * job.head_dim + dim] = total;
    }
  }
  __syncthreads();
  for (int dim = static_cast<int>(threadIdx.x); dim < job.head_dim; dim += kThreads) {
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += out[w * job.head_dim + dim];
    job.out[row * job.head_dim + dim] = sum != 0.0f ? total / sum : 0.0f;
  }
  if (threadIdx.x == 0 && job.lse != nullptr) job.lse[row] = log_sum(highest, sum);
}

}  // namespace

void launch_attend_join(Backend& backend, const AttendJob& job) {
  const size_t n_floats = static_cast<size_t>(job.n_splits) + static_cast<size_t>(kWarps) * static_cast<size_t>(job.head_dim);
  launch({static_cast<unsigned>(job.n_tokens * job.n_heads), kThreads, n_floats * sizeof(float)}, backend.stream, attend_join_kernel, job);
}

}  // namespace banyan::cuda
