// standardize: the sums of each head over each chunk (a block), the mean and deviation of each head (a block), and the highest over the heads of each token
// (a block a chunk). Sums always run in the same order.
#include "cuda/backend.h"
#include "cuda/ops.h"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/warp.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 256;

// The products of a head with the tokens of a chunk.
__device__ __forceinline__ const float* products_of(const StandardizeArgs& a, int head, int chunk) {
  const int64_t part = a.heads[head] / a.group, place = a.heads[head] % a.group, n = a.begin[chunk + 1] - a.begin[chunk];
  return a.x + (part * a.n_tokens + a.begin[chunk]) * a.group + place * n;
}
__device__ __forceinline__ double* sums_of(const StandardizeArgs& a, int head, int chunk) {
  return a.sums + 2 * (static_cast<int64_t>(head) * (a.n_chunks + 1) + chunk);
}

struct Sums {
  double sum = 0, squares = 0;
};
__device__ __forceinline__ Sums block_sums(Sums of_thread, double* scratch) {
  return {block_sum(of_thread.sum, scratch), block_sum(of_thread.squares, scratch + kThreads / kWarp)};
}

// Differences from some value of the data are summed, so that the squares do not cancel where the mean is large.
__global__ void __launch_bounds__(kThreads) sum_kernel(StandardizeArgs a) {
  BANYAN_SHARED(scratch, double[2 * kThreads / kWarp]);
  const int chunk = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y), n = a.begin[chunk + 1] - a.begin[chunk];
  const float* x = products_of(a, head, chunk);
  const double pivot = *products_of(a, head, 0);
  Sums own;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    const double difference = static_cast<double>(x[i]) - pivot;
    own.sum += difference;
    own.squares += difference * difference;
  }
  const Sums total = block_sums(own, scratch);
  if (threadIdx.x == 0) {
    sums_of(a, head, chunk)[0] = total.sum;
    sums_of(a, head, chunk)[1] = total.squares;
  }
}

// Behind a head's sums its mean, and what its differences from it are multiplied by.
__global__ void __launch_bounds__(kThreads) spread_kernel(StandardizeArgs a) {
  BANYAN_SHARED(scratch, double[2 * kThreads / kWarp]);
  const int head = static_cast<int>(blockIdx.x);
  Sums own;
  for (int chunk = static_cast<int>(threadIdx.x); chunk < a.n_chunks; chunk += kThreads) {
    own.sum += sums_of(a, head, chunk)[0];
    own.squares += sums_of(a, head, chunk)[1];
  }
  const Sums total = block_sums(own, scratch);
  if (threadIdx.x != 0) return;
  const double shift = total.sum / a.n_tokens, deviation = sqrt(fmax(0.0, total.squares / a.n_tokens - shift * shift));
  sums_of(a, head, a.n_chunks)[0] = *products_of(a, head, 0) + shift;
  sums_of(a, head, a.n_chunks)[1] = 1 / fmax(deviation, 1e-6);
}

__global__ void __launch_bounds__(kThreads) standardize_kernel(StandardizeArgs a) {
  const int chunk = static_cast<int>(blockIdx.x), first = a.begin[chunk], n = a.begin[chunk + 1] - first;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    float highest = -INFINITY;
    for (int head = 0; head < a.n_heads; ++head) {
      const double* spread = sums_of(a, head, a.n_chunks);
      highest = fmaxf(highest, static_cast<float>((static_cast<double>(products_of(a, head, chunk)[i]) - spread[0]) * spread[1]));
    }
    a.out[first + i] = highest;
  }
}

}  // namespace

void standardize(Stream& stream, const StandardizeArgs& a) {
  if (a.n_chunks == 0 || a.n_heads == 0 || stream.cancelled()) return;
  const cudaStream_t on = backend_of(stream).stream;
  const auto n_chunks = static_cast<unsigned>(a.n_chunks), n_heads = static_cast<unsigned>(a.n_heads);
  launch({{n_chunks, n_heads}, kThreads}, on, sum_kernel, a);
  launch({n_heads, kThreads}, on, spread_kernel, a);
  launch({n_chunks, kThreads}, on, standardize_kernel, a);
}

}  // namespace banyan::cuda
