// rope: rotates pairs of each head by position * inverse frequency (RoFormer, arXiv 2104.09864), then scales by `magnitude`. A thread computes one
// angle of one token, in double, and rotates that pair of several heads with it.
#include "cuda/backend.h"
#include "cuda/ops.h"
#include "cuda/prim/vector.cuh"
#include "cuda/rotation.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeadsOfThread = 4;  // so many rotations pay for a sine and cosine, and one token still fills several blocks

template <bool kIsInterleaved> __global__ void __launch_bounds__(kThreads)
    rope_kernel(float* x, const int32_t* positions, const float* inv_freq, int n_heads, int n_pairs, float magnitude) {
  // A block is a whole number of heads side by side (the last threads may be idle), or a part of the pairs of one head.
  const int width = n_pairs < kThreads ? n_pairs : kThreads, n_side = kThreads / width;
  const int side = static_cast<int>(threadIdx.x) / width;
  if (side >= n_side) return;
  const int first_head = static_cast<int>(blockIdx.y) * n_side * kHeadsOfThread + side;
  const int64_t t = blockIdx.x;
  const double position = positions[t];
  for (int m = static_cast<int>(threadIdx.x) % width; m < n_pairs; m += width) {
    const float2 turn = cos_sin(position * static_cast<double>(inv_freq[m]));
    const float cosine = turn.x * magnitude, sine = turn.y * magnitude;
#pragma unroll
    for (int i = 0; i < kHeadsOfThread; ++i) {
      const int head = first_head + i * n_side;
      if (head >= n_heads) break;
      float* row = x + (t * n_heads + head) * (2 * n_pairs);
      if constexpr (kIsInterleaved) {
        const float a = row[2 * m], b = row[2 * m + 1];
        row[2 * m] = a * cosine - b * sine;
        row[2 * m + 1] = a * sine + b * cosine;
      } else {
        const float a = row[m], b = row[m + n_pairs];
        row[m] = a * cosine - b * sine;
        row[m + n_pairs] = a * sine + b * cosine;
      }
    }
  }
}

}  // namespace

void rope(Stream& stream, const RopeArgs& a) {
  const int n_pairs = a.head_dim / 2;
  if (a.n_tokens == 0 || a.n_heads == 0 || n_pairs == 0 || stream.cancelled()) return;
  const int n_side = n_pairs < kThreads ? kThreads / n_pairs : 1;
  const LaunchShape shape{{static_cast<unsigned>(a.n_tokens), n_blocks_of(a.n_heads, n_side * kHeadsOfThread)}, kThreads};
  launch(shape, backend_of(stream).stream, a.is_interleaved ? rope_kernel<true> : rope_kernel<false>, a.x, a.positions, a.inv_freq, a.n_heads,
      n_pairs, a.magnitude);
}

}  // namespace banyan::cuda
