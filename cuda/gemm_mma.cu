// gemm of more than 16 tokens on the tensor cores of any device from compute capability 8.0 on: mma.sync over tiles of tokens and rows of weights in
// swizzled shared memory, filled by asynchronous copies two steps of 64 columns ahead.
//
// F16 and BF16 weights are copied as they are. Of block formats the bytes of several steps are copied as they are, and each step is unpacked to f16
// (d * q in float32, rounded once) while the one before is multiplied. Where there are too few tiles to fill the device the columns are divided
// into slices, which sum_slices adds up.
#include "cuda/gemm.h"

#include <algorithm>

#include "cuda/backend.h"
#include "cuda/prim/dequant.cuh"
#include "cuda/prim/launch.cuh"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/mma.cuh"
#include "cuda/prim/warp.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kStages = 3;
constexpr int kRowBytes = 2 * kDepth;  // of a tile: 8 pieces of 16 bytes

struct Mma {
  float* out;                   // [T, rows], or [slices, T, rows]
  const uint16_t* x;            // [T, padded]
  const float* inverse_scales;  // [T]
  const uint8_t* w;
  const float* bias;
  int64_t rows, cols, padded, row_bytes;
  int n_tokens, slice_steps;
  bool is_accumulated;
};

template <DType kFormat, int kM, int kN> struct Shape {
  static constexpr bool kIsRaw = traits(kFormat).block_size > 1;
  // 8 warps; each has 32 rows of weights and as many tokens as then remain
  static constexpr int kWarpsN = kN / 32, kWarpsM = 8 / kWarpsN, kTilesM = kM / kWarpsM / 16, kTilesN = 4;
  static constexpr int kWStages = kIsRaw ? 2 : kStages;
  // Bytes of block formats come in runs of whole blocks. 3 steps at least: a run is asked for when the one before begins to be unpacked, and a copy
  // has two steps' time. More would not fit beside the rest in the 99 KiB of smaller devices.
  static constexpr int kRunSteps = traits(kFormat).block_size == 256 ? 4 : 3;
  static constexpr int kRunBytes = static_cast<int>(row_bytes(kFormat, kDepth* kRunSteps));
  static constexpr int kRunPieces = (kRunBytes + 15 + 15) / 16;  // wherever it begins
  static constexpr int kRunPitch = 16 * (kRunPieces | 1);        // an odd number of pieces: rows begin at different banks
  static constexpr size_t kXBytes = size_t{kStages} * kM * kRowBytes, kWBytes = size_t{kWStages} * kN * kRowBytes;
  static constexpr size_t kSharedBytes = kXBytes + kWBytes + (kIsRaw ? size_t{2} * kN * kRunPitch : 0);
  using Tag = std::conditional_t<kFormat == DType::kBF16, BF16Tag, F16Tag>;
};

// Where piece `piece` of row `row` of a tile lies: any 8 rows of one piece, and any 8 pieces of one row, are in different banks.
__device__ __forceinline__ int swizzled(int row, int piece) { return row * kRowBytes + (piece ^ (row & 7)) * 16; }

// A tile of 16-bit numbers, kRows x 64; rows and columns that are not there are zero.
template <int kRows> __device__ __forceinline__ void fetch_tile(
    unsigned char* to, const uint8_t* from, int64_t row_bytes, int64_t first_row, int64_t rows, int64_t column, int64_t cols) {
  constexpr int kStride = kThreads / 8;  // rows
  const int row = static_cast<int>(threadIdx.x / 8), piece = static_cast<int>(threadIdx.x % 8);
  const uint8_t* at = from + (first_row + row) * row_bytes + 2 * (column + 8 * piece);
  unsigned char* target = to + swizzled(row, piece);  // kStride is a multiple of 8: the same for all
  const auto n_left = static_cast<int>(column + 8 * piece < cols ? min(rows - first_row - row, int64_t{kRows}) : 0);
#pragma unroll
  for (int i = 0; i < kRows / kStride; ++i) {
    const bool is_there = i * kStride < n_left;
    cp_async16(target + i * kStride * kRowBytes, is_there ? at + i * kStride * row_bytes : from, is_there);
  }
}

// The bytes of run `run` of kN rows: kThreads / kN threads a row, which take its pieces in turns. What lies behind the end of a row is left as it is.
template <class S, int kN> __device__ __forceinline__ void fetch_run(const Mma& p, unsigned char* to, int64_t first_row, int run) {
  constexpr int kLanes = kThreads / kN;
  const int row = static_cast<int>(threadIdx.x / kLanes), lane = static_cast<int>(threadIdx.x % kLanes);
  const int64_t start = static_cast<int64_t>(run) * S::kRunBytes, left = p.row_bytes - start;
  if (first_row + row >= p.rows || left <= 0) return;
  const uint8_t* from = p.w + (first_row + row) * p.row_bytes + start;
  const auto skip = static_cast<int>(reinterpret_cast<uintptr_t>(from) & 15);
  const int n_bytes = skip + (left < S::kRunBytes ? static_cast<int>(left) : S::kRunBytes) - 16 * lane;
  from += 16 * lane - skip;
  unsigned char* target = to + row * S::kRunPitch + 16 * lane;
#pragma unroll
  for (int piece = 0; piece < S::kRunPieces; piece += kLanes) {
    if (16 * piece < n_bytes) cp_async16(target + 16 * piece, from + 16 * piece, true);
  }
}

// Step `step` of run `run` of the rows as a tile of halves. `starts`: the low bits of the addresses of the rows of the thread's units. What lies
// behind the columns, or of rows that are not there, may be anything: the former becomes zero, the latter is never stored.
template <DType kFormat, class S, int kN> __device__ __forceinline__ void unpack_step(
    const Mma& p, unsigned char* to, const unsigned char* runs, const uint32_t (&starts)[kN * 4 / kThreads], int run, int step) {
  const int thread = static_cast<int>(threadIdx.x), unit = thread % 4;
  const unsigned char* from = runs + ((run & 1) * kN + thread / 4) * S::kRunPitch;
  const bool is_there = (static_cast<int64_t>(run) * S::kRunSteps + step) * kDepth + 16 * unit < p.cols;
#pragma unroll
  for (int i = 0; i < kN * 4 / kThreads; ++i) {
    uint32_t halves[8] = {};
    if (is_there) {
      const auto at = static_cast<int>((starts[i] + static_cast<uint32_t>(run) * static_cast<uint32_t>(S::kRunBytes)) & 15u);
      unit_halves<kFormat>(
          load_unit<kFormat>(reinterpret_cast<const uint32_t*>(from + i * (kThreads / 4) * S::kRunPitch), at, step * 4 + unit), halves);
    }
    const int row = thread / 4 + i * (kThreads / 4);
    *reinterpret_cast<uint4*>(to + swizzled(row, 2 * unit)) = {halves[0], halves[1], halves[2], halves[3]};
    *reinterpret_cast<uint4*>(to + swizzled(row, 2 * unit + 1)) = {halves[4], halves[5], halves[6], halves[7]};
  }
}

template <class S>
__device__ __forceinline__ void multiply_step(float (&sums)[S::kTilesM][S::kTilesN][4], const unsigned char* x, const unsigned char* w) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int x_row = warp / S::kWarpsN * S::kTilesM * 16 + lane % 16, w_row = warp % S::kWarpsN * 32 + lane / 16 * 8 + lane % 8;
#pragma unroll
  for (int k = 0; k < kDepth / 16; ++k) {
    uint32_t a[S::kTilesM][4], b[S::kTilesN][2];
#pragma unroll
    for (int m = 0; m < S::kTilesM; ++m) ldmatrix_x4(a[m], x + swizzled(x_row + 16 * m, 2 * k + lane / 16));
#pragma unroll
    for (int n = 0; n < S::kTilesN; n += 2) {
      uint32_t both[4];
      ldmatrix_x4(both, w + swizzled(w_row + 8 * n, 2 * k + lane / 8 % 2));
      b[n][0] = both[0], b[n][1] = both[1], b[n + 1][0] = both[2], b[n + 1][1] = both[3];
    }
#pragma unroll
    for (int m = 0; m < S::kTilesM; ++m) {
#pragma unroll
      for (int n = 0; n < S::kTilesN; ++n) mma_m16n8k16(sums[m][n], a[m], b[n], typename S::Tag{});
    }
  }
}

template <DType kFormat, int kM, int kN> __global__ void __launch_bounds__(kThreads) gemm_mma_kernel(const Mma p) {
  using S = Shape<kFormat, kM, kN>;
  BANYAN_DYNAMIC_SHARED(shared);
  unsigned char* const w_tiles = shared + S::kXBytes;
  unsigned char* const runs = w_tiles + S::kWBytes;
  // tokens first: blocks that run together share rows of weights
  const int64_t first_token = static_cast<int64_t>(blockIdx.x) * kM, first_row = static_cast<int64_t>(blockIdx.y) * kN;
  const auto n_steps = static_cast<int>(p.padded / kDepth);
  const int first_step = static_cast<int>(blockIdx.z) * p.slice_steps, end_step = min(first_step + p.slice_steps, n_steps);
  const auto fetch = [&](int step) {
    if (step >= end_step) return;
    const int stage = (step - first_step) % kStages;
    const int64_t column = static_cast<int64_t>(step) * kDepth;
    fetch_tile<kM>(shared + stage * kM * kRowBytes, reinterpret_cast<const uint8_t*>(p.x), 2 * p.padded, first_token, p.n_tokens, column, p.padded);
    if constexpr (!S::kIsRaw) fetch_tile<kN>(w_tiles + stage * kN * kRowBytes, p.w, p.row_bytes, first_row, p.rows, column, p.cols);
  };
  uint32_t starts[kN * 4 / kThreads];
#pragma unroll
  for (int i = 0; i < kN * 4 / kThreads; ++i) {
    starts[i] = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(p.w)) +
                static_cast<uint32_t>(first_row + threadIdx.x / 4 + i * (kThreads / 4)) * static_cast<uint32_t>(p.row_bytes);
  }
  int unpacked_run = first_step / S::kRunSteps, unpacked_step = 0;  // slices begin with a run
  const auto unpack = [&](int step) {
    if constexpr (S::kIsRaw) {
      unpack_step<kFormat, S, kN>(p, w_tiles + (step & 1) * kN * kRowBytes, runs, starts, unpacked_run, unpacked_step);
      if (++unpacked_step == S::kRunSteps) unpacked_step = 0, ++unpacked_run;
    }
  };

  // fill the pipeline
  if constexpr (S::kIsRaw) fetch_run<S, kN>(p, runs + (first_step / S::kRunSteps & 1) * kN * S::kRunPitch, first_row, first_step / S::kRunSteps);
  fetch(first_step);
  cp_async_commit();
  fetch(first_step + 1);
  cp_async_commit();
  if constexpr (S::kIsRaw) {
    cp_async_wait<1>();
    __syncthreads();
    unpack(first_step);
  }

  float sums[S::kTilesM][S::kTilesN][4] = {};
  for (int step = first_step; step < end_step; ++step) {
    cp_async_wait<1>();
    __syncthreads();  // the step is there for all, and all are done with the one before
    fetch(step + kStages - 1);
    if constexpr (S::kIsRaw) {
      // unpacked so far: the steps up to this one
      const int run = unpacked_run + 1;
      if (unpacked_step == 1 && run * S::kRunSteps < end_step) fetch_run<S, kN>(p, runs + (run & 1) * kN * S::kRunPitch, first_row, run);
    }
    cp_async_commit();
    if (step + 1 < end_step) unpack(step + 1);
    const int stage = (step - first_step) % kStages;
    multiply_step<S>(sums, shared + stage * kM * kRowBytes, w_tiles + (S::kIsRaw ? step & 1 : stage) * kN * kRowBytes);
  }
  cp_async_wait<0>();

  // store
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  float* const out = p.out + static_cast<int64_t>(blockIdx.z) * p.n_tokens * p.rows;
#pragma unroll
  for (int m = 0; m < S::kTilesM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t token = first_token + warp / S::kWarpsN * S::kTilesM * 16 + 16 * m + 8 * half + lane / 4;
      if (token >= p.n_tokens) continue;
      const float scale = p.inverse_scales[token];
#pragma unroll
      for (int n = 0; n < S::kTilesN; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int64_t row = first_row + warp % S::kWarpsN * 32 + 8 * n + 2 * (lane % 4) + i;
          if (row >= p.rows) continue;
          float sum = sums[m][n][2 * half + i] * scale;
          if (p.bias != nullptr) sum += p.bias[row];
          float* at = out + token * p.rows + row;
          *at = p.is_accumulated ? *at + sum : sum;
        }
      }
    }
  }
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Operands {
  const uint16_t* x;
  const float* inverse_scales;
  const uint8_t* w;
  int64_t cols, row_bytes;  // of w
  float* partials;
  int n_slices, slice_steps;
};

template <DType kFormat, int kM, int kN> void launch_mma(Backend& backend, const GemmArgs& a, const Operands& o) {
  const bool is_sliced = o.n_slices > 1;
  const Mma p{is_sliced ? o.partials : a.out, o.x, o.inverse_scales, o.w, is_sliced ? nullptr : a.bias, a.w.rows, o.cols, padded_cols(a.w.cols),
      o.row_bytes, a.n_tokens, o.slice_steps, !is_sliced && a.accumulate};
  launch({dim3(static_cast<unsigned>(ceil_div(a.n_tokens, kM)), static_cast<unsigned>(ceil_div(a.w.rows, kN)), static_cast<unsigned>(o.n_slices)),
             dim3(kThreads), Shape<kFormat, kM, kN>::kSharedBytes},
      backend.stream, gemm_mma_kernel<kFormat, kM, kN>, p);
  if (is_sliced) sum_slices(backend, o.partials, o.n_slices, a);
}

struct Tiling {
  int m, n, n_slices, slice_steps;
};

// The share of the device that tiles of m x n keep busy, over all rounds.
double busy_share(const Backend& backend, const GemmArgs& a, int m, int n) {
  const int64_t n_tiles = ceil_div(a.n_tokens, m) * ceil_div(a.w.rows, n), rounds = ceil_div(n_tiles, backend.sm_count);
  return static_cast<double>(a.n_tokens * a.w.rows) / static_cast<double>(rounds * backend.sm_count * m * n);
}

template <DType kFormat> Tiling choose_tiling(const Backend& backend, const GemmArgs& a) {
  Tiling best{};
  const int m = a.n_tokens <= 64 ? 64 : 128;
  const size_t wide_bytes = m == 64 ? Shape<kFormat, 64, 128>::kSharedBytes : Shape<kFormat, 128, 128>::kSharedBytes;
  // A tile half as wide reads the tokens twice as often: a fifth slower where all is busy (a guess, to be measured).
  const bool is_wide = wide_bytes <= backend.shared_per_block && busy_share(backend, a, m, 128) >= 0.8 * busy_share(backend, a, m, 64);
  best.m = m;
  best.n = is_wide ? 128 : 64;
  // Slices of 8 steps at least; a whole number of runs of bytes.
  constexpr int kRunSteps = Shape<kFormat, 64, 64>::kRunSteps;
  const int n_steps = static_cast<int>(padded_cols(a.w.cols) / kDepth);
  const int64_t n_tiles = ceil_div(a.n_tokens, best.m) * ceil_div(a.w.rows, best.n);
  const int64_t n_wanted = std::clamp<int64_t>(backend.sm_count / n_tiles, 1, std::max(1, n_steps / 8));
  best.slice_steps = static_cast<int>(ceil_div(ceil_div(n_steps, n_wanted), kRunSteps)) * kRunSteps;
  best.n_slices = static_cast<int>(ceil_div(n_steps, best.slice_steps));
  return best;
}

template <DType kFormat> void run_mma(Backend& backend, const GemmArgs& a) {
  const Tiling tiling = choose_tiling<kFormat>(backend, a);
  const int64_t padded = padded_cols(a.w.cols), bytes = static_cast<int64_t>(row_bytes(kFormat, a.w.cols));
  // Copies of 16 bytes want aligned rows: F16 and BF16 weights that are not are copied to where they are.
  const bool is_repacked = !Shape<kFormat, 64, 64>::kIsRaw && (reinterpret_cast<uintptr_t>(a.w.data) % 16 != 0 || bytes % 16 != 0);
  Layout layout;
  const size_t x_at = layout.add(static_cast<size_t>(a.n_tokens * padded) * 2), scales_at = layout.add(static_cast<size_t>(a.n_tokens) * 4);
  const size_t partials_at = layout.add(tiling.n_slices > 1 ? static_cast<size_t>(tiling.n_slices * a.n_tokens * a.w.rows) * 4 : 0);
  const size_t w_at = layout.add(is_repacked ? static_cast<size_t>(a.w.rows * padded) * 2 : 0);
  void* scratch = backend.scratch.take(layout.total());
  if (scratch == nullptr) return;
  unsigned char* base = Layout::base(scratch);
  auto* x = reinterpret_cast<uint16_t*>(base + x_at);
  auto* scales = reinterpret_cast<float*>(base + scales_at);
  round_activations(backend, x, scales, a);
  Operands o{x, scales, static_cast<const uint8_t*>(a.w.data), a.w.cols, bytes, reinterpret_cast<float*>(base + partials_at), tiling.n_slices,
      tiling.slice_steps};
  if (is_repacked) {
    auto* w = reinterpret_cast<uint16_t*>(base + w_at);
    unpack_weights(backend, w, a.w);
    o.w = reinterpret_cast<const uint8_t*>(w);
    o.cols = padded;
    o.row_bytes = 2 * padded;
  }
  if (tiling.m == 64) return tiling.n == 64 ? launch_mma<kFormat, 64, 64>(backend, a, o) : launch_mma<kFormat, 64, 128>(backend, a, o);
  return tiling.n == 64 ? launch_mma<kFormat, 128, 64>(backend, a, o) : launch_mma<kFormat, 128, 128>(backend, a, o);
}

}  // namespace

void gemm_mma(Backend& backend, const GemmArgs& a) {
  switch (a.w.dtype) {
    case DType::kF16: return run_mma<DType::kF16>(backend, a);
    case DType::kBF16: return run_mma<DType::kBF16>(backend, a);
    case DType::kQ8_0: return run_mma<DType::kQ8_0>(backend, a);
    case DType::kQ4_0: return run_mma<DType::kQ4_0>(backend, a);
    case DType::kQ4_K: return run_mma<DType::kQ4_K>(backend, a);
    case DType::kQ5_K: return run_mma<DType::kQ5_K>(backend, a);
    case DType::kQ6_K: return run_mma<DType::kQ6_K>(backend, a);
    default: return;
  }
}

}  // namespace banyan::cuda
