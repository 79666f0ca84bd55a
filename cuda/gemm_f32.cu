// gemm in float32 throughout: F32 weights, and every format in exact mode. Few tokens: a warp per row, bound by reading the weights (16-byte loads of F32;
// other formats come here only to be exact). More: tiles in shared memory, 4 x 4 sums a thread.
#include "cuda/gemm.h"

#include "cuda/backend.h"
#include "cuda/prim/dequant.cuh"
#include "cuda/prim/launch.cuh"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/warp.cuh"

namespace banyan::cuda {
namespace {

struct Plain {
  float* out;
  const float* x;
  const uint8_t* w;
  const float* bias;
  int64_t rows, cols, row_bytes;
  int n_tokens;
  bool is_accumulated;
};

__device__ __forceinline__ void put(const Plain& p, int64_t token, int64_t row, float sum) {
  float* out = p.out + token * p.rows + row;
  if (p.bias != nullptr) sum += p.bias[row];
  *out = p.is_accumulated ? *out + sum : sum;
}

// ---- a warp per row ----

constexpr int kRowWarps = 8;
constexpr int kRowTokens = 4;  // of a block: each weight is unpacked once for them

template <DType kFormat> __global__ void __launch_bounds__(32 * kRowWarps) rows_kernel(const Plain p) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / kWarp;
  const int first_token = static_cast<int>(blockIdx.y) * kRowTokens;
  float sums[kRowTokens] = {};
  if (row < p.rows) {
    const Aligned from = align_down(p.w + row * p.row_bytes);
    const auto n_units = static_cast<int>((p.cols + 15) / 16);
#pragma unroll 2
    for (int unit = lane; unit < n_units; unit += kWarp) {
      const int64_t left = p.cols - int64_t{16} * unit;
      const int n_valid = left < 16 ? static_cast<int>(left) : 16;
      float w[16];
      unit_as_floats<kFormat>(from.words, from.at, unit, n_valid, w);
#pragma unroll
      for (int t = 0; t < kRowTokens; ++t) {
        if (first_token + t >= p.n_tokens) break;
        const float* x = p.x + (first_token + t) * p.cols + int64_t{16} * unit;
        if (n_valid == 16 && reinterpret_cast<uintptr_t>(x) % 16 == 0) {
#pragma unroll
          for (int v = 0; v < 4; ++v) {
            const float4 four = reinterpret_cast<const float4*>(x)[v];
            sums[t] = fmaf(w[4 * v], four.x, sums[t]), sums[t] = fmaf(w[4 * v + 1], four.y, sums[t]);
            sums[t] = fmaf(w[4 * v + 2], four.z, sums[t]), sums[t] = fmaf(w[4 * v + 3], four.w, sums[t]);
          }
        } else {
#pragma unroll
          for (int i = 0; i < 16; ++i) {
            if (i < n_valid) sums[t] = fmaf(w[i], x[i], sums[t]);
          }
        }
      }
    }
  }
#pragma unroll
  for (int t = 0; t < kRowTokens; ++t) {
    const float sum = warp_sum(sums[t]);
    if (lane == 0 && row < p.rows && first_token + t < p.n_tokens) put(p, first_token + t, row, sum);
  }
}

// ---- tiles ----

constexpr int kTile = 64;  // tokens and rows
constexpr int kStep = 16;  // columns: a unit
constexpr int kThreads = 256;

// A step's x and w are on their way to registers while the one before is multiplied.
template <DType kFormat> __global__ void __launch_bounds__(kThreads) tiles_kernel(const Plain p) {
  // [column][token or row]: a thread reads 4 of each with one 16-byte load; + 4 keeps the loads aligned and the stores off each other's banks
  BANYAN_SHARED(x_tile, float[kStep][kTile + 4]);
  BANYAN_SHARED(w_tile, float[kStep][kTile + 4]);
  const int thread = static_cast<int>(threadIdx.x), tx = thread % 16, ty = thread / 16;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kTile, first_token = static_cast<int64_t>(blockIdx.y) * kTile;
  const auto n_steps = static_cast<int>((p.cols + kStep - 1) / kStep);
  const int64_t x_token = first_token + thread / 4, w_row = first_row + thread % kTile;
  float next_x[4], next_w[16], sums[4][4] = {};
  const auto fetch = [&](int step) {
    const int64_t k = int64_t{kStep} * step;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t column = k + thread % 4 * 4 + i;
      next_x[i] = x_token < p.n_tokens && column < p.cols ? p.x[x_token * p.cols + column] : 0.0f;
    }
    if (thread >= kTile) return;  // one warp pair unpacks the weights: a unit a thread
#pragma unroll
    for (int i = 0; i < 16; ++i) next_w[i] = 0.0f;
    if (w_row >= p.rows) return;
    const Aligned from = align_down(p.w + w_row * p.row_bytes);
    const int64_t left = p.cols - k;
    unit_as_floats<kFormat>(from.words, from.at, step, left < 16 ? static_cast<int>(left) : 16, next_w);
  };
  fetch(0);
  for (int step = 0; step < n_steps; ++step) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; ++i) x_tile[thread % 4 * 4 + i][thread / 4] = next_x[i];
    if (thread < kTile) {
#pragma unroll
      for (int i = 0; i < 16; ++i) w_tile[i][thread] = next_w[i];
    }
    __syncthreads();
    if (step + 1 < n_steps) fetch(step + 1);
#pragma unroll
    for (int k = 0; k < kStep; ++k) {
      const float4 x = *reinterpret_cast<const float4*>(&x_tile[k][4 * ty]), w = *reinterpret_cast<const float4*>(&w_tile[k][4 * tx]);
      const float xs[4] = {x.x, x.y, x.z, x.w}, ws[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(xs[i], ws[j], sums[i][j]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t token = first_token + 4 * ty + i, row = first_row + 4 * tx + j;
      if (token < p.n_tokens && row < p.rows) put(p, token, row, sums[i][j]);
    }
  }
}

template <DType kFormat> void launch_f32(Backend& backend, const GemmArgs& a) {
  const Plain p{a.out, a.x, static_cast<const uint8_t*>(a.w.data), a.bias, a.w.rows, a.w.cols, static_cast<int64_t>(row_bytes(kFormat, a.w.cols)),
      a.n_tokens, a.accumulate};
  const auto blocks = [](int64_t n, int64_t size) { return static_cast<unsigned>((n + size - 1) / size); };
  if (a.n_tokens <= kFewTokens) {
    launch({dim3(blocks(a.w.rows, kRowWarps), blocks(a.n_tokens, kRowTokens)), dim3(32 * kRowWarps)}, backend.stream, rows_kernel<kFormat>, p);
  } else {
    launch({dim3(blocks(a.w.rows, kTile), blocks(a.n_tokens, kTile)), dim3(kThreads)}, backend.stream, tiles_kernel<kFormat>, p);
  }
}

}  // namespace

void gemm_f32(Backend& backend, const GemmArgs& a) {
  switch (a.w.dtype) {
    case DType::kF32: return launch_f32<DType::kF32>(backend, a);
    case DType::kF16: return launch_f32<DType::kF16>(backend, a);
    case DType::kBF16: return launch_f32<DType::kBF16>(backend, a);
    case DType::kQ8_0: return launch_f32<DType::kQ8_0>(backend, a);
    case DType::kQ4_0: return launch_f32<DType::kQ4_0>(backend, a);
    case DType::kQ4_K: return launch_f32<DType::kQ4_K>(backend, a);
    case DType::kQ5_K: return launch_f32<DType::kQ5_K>(backend, a);
    case DType::kQ6_K: return launch_f32<DType::kQ6_K>(backend, a);
    default: return;
  }
}

}  // namespace banyan::cuda
