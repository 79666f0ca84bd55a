// gemm of up to 32 tokens: bound by reading the weights, so the arithmetic must hide behind that. The tensor cores multiply 16 rows of weights with
// 8 tokens; nothing is rounded: quants are exact as halves, and x is the sum of two halves (after a power of two) or of three bf16, which keep 22
// and 24 of its bits. Scales of blocks are applied in float32 to the sums.
//
// A warp owns 16 rows and brings their bytes, kStages chunks ahead, into a ring of its own, so that warps never wait for each other. A block
// has x of its slice of the columns in shared memory. Columns are divided among the warps of a block, and if need be among blocks; the last block of
// some rows adds the slices up, always in the same order.
#include "cuda/gemm.h"

#include <algorithm>

#include "cuda/backend.h"
#include "cuda/gemm_few_shared.cuh"
#include "cuda/prim/dequant.cuh"
#include "cuda/prim/launch.cuh"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/mma.cuh"

namespace banyan::cuda {
namespace {

// sums += the products of one step, the small terms first: what the tensor cores cut off is relative to the sum so far.
template <class Format, int kTiles> __device__ __forceinline__ void multiply_step(
    float (&sums)[kTiles][4], const uint32_t (&upper)[4], const uint32_t (&lower)[4], const uint4 (&x)[Format::kTerms][kTiles], int step) {
  const uint32_t a[4] = {upper[2 * step], lower[2 * step], upper[2 * step + 1], lower[2 * step + 1]};
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int term = Format::kTerms - 1; term >= 0; --term) {
      const uint4& v = x[term][tile];
      const uint32_t b[2] = {step == 0 ? v.x : v.z, step == 0 ? v.y : v.w};
      mma_m16n8k16(sums[tile], a, b, typename Format::Tag{});
    }
  }
}

template <int kTiles> __device__ __forceinline__ void add_scaled(float (&to)[kTiles][4], const float (&sums)[kTiles][4], float upper, float lower) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    to[tile][0] = fmaf(upper, sums[tile][0], to[tile][0]), to[tile][1] = fmaf(upper, sums[tile][1], to[tile][1]);
    to[tile][2] = fmaf(lower, sums[tile][2], to[tile][2]), to[tile][3] = fmaf(lower, sums[tile][3], to[tile][3]);
  }
}

// Whether the second half of a chunk is left out where the row ends before it. What matters is that the compiler then keeps the halves apart: otherwise it
// starts so much of these chunks at once that registers do not suffice. Elsewhere the test would cost more than it saves.
#if defined(BANYAN_EMULATE) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000)
template <DType kFormat, int kTiles> constexpr bool kHasHalves = (kTiles == 4 && (kFormat == DType::kQ8_0 || kFormat == DType::kQ6_K)) ||
                                                                 (kTiles == 1 && kFormat == DType::kQ4_K);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
template <DType kFormat, int kTiles> constexpr bool kHasHalves = kTiles == 4 && kFormat == DType::kQ6_K;
#else
template <DType kFormat, int kTiles> constexpr bool kHasHalves = false;
#endif

// to += one chunk, or the first half of one.
template <DType kFormat, int kTiles, bool kIsAligned> __device__ __forceinline__ void multiply_chunk(float (&to)[kTiles][4],
    const FragmentRow<kFormat, kIsAligned>& upper_row, const FragmentRow<kFormat, kIsAligned>& lower_row, const XView<kTiles>& view, int quad,
    bool is_half) {
  using Format = FewFormat<kFormat>;
  float sums[kTiles][4] = {};
  ScalesMins upper_scales{}, lower_scales{};
  float upper_d = 1.0f, lower_d = 1.0f;
  if constexpr (kHasMins<kFormat>) {
    const uint4 upper_header = upper_row.header.words4(0), lower_header = lower_row.header.words4(0);
    upper_scales = scales_mins(upper_header.y, upper_header.z, upper_header.w),
    lower_scales = scales_mins(lower_header.y, lower_header.z, lower_header.w);
    upper_d = first_half(upper_header.x), lower_d = first_half(lower_header.x);
    // minimums x sums of x: a product of its own, of 8 columns
    const uint32_t upper_mins = quad < 2 ? upper_scales.mins[0] : upper_scales.mins[1],
                   lower_mins = quad < 2 ? lower_scales.mins[0] : lower_scales.mins[1];
    const bool is_high = quad % 2 != 0;
    const uint32_t a[4] = {half2_add(is_high ? high_bytes_1024(upper_mins) : low_bytes_1024(upper_mins), 0xE400E400u),
        half2_add(is_high ? high_bytes_1024(lower_mins) : low_bytes_1024(lower_mins), 0xE400E400u), 0, 0};
    float min_sums[kTiles][4] = {};
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int term = Format::kTerms - 1; term >= 0; --term) {
        const uint32_t b[2] = {*reinterpret_cast<const uint32_t*>(view.sums[tile] + term * view.sum_stride), 0};
        mma_m16n8k16(min_sums[tile], a, b, F16Tag{});
      }
    }
    add_scaled(to, min_sums, -32.0f * second_half(upper_header.x), -32.0f * second_half(lower_header.x));
  } else if constexpr (kFormat == DType::kQ6_K) {
    upper_d = upper_row.half_at(208), lower_d = lower_row.half_at(208);
  }
#pragma unroll
  for (int group = 0; group < Format::kGroups; ++group) {
    if (kHasHalves<kFormat, kTiles> && group == Format::kGroups / 2 && is_half) return;
    uint4 x[Format::kTerms][kTiles];
#pragma unroll
    for (int term = 0; term < Format::kTerms; ++term) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) x[term][tile] = *reinterpret_cast<const uint4*>(view.x[tile] + term * view.x_stride + 64 * group);
    }
    uint32_t upper[4], lower[4];
    upper_row.load(group, kHasMins<kFormat> ? byte_as_halves(upper_scales.scales[group / 4], group % 4) : 0, upper);
    lower_row.load(group, kHasMins<kFormat> ? byte_as_halves(lower_scales.scales[group / 4], group % 4) : 0, lower);
    if constexpr (Format::kIsPlain || kHasMins<kFormat>) {
      multiply_step<Format>(sums, upper, lower, x, 0);
      multiply_step<Format>(sums, upper, lower, x, 1);
      if (group % 2 == 1) {  // float32 sums of 64 columns: the tensor cores do not round to nearest
        add_scaled(to, sums, upper_d, lower_d);
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) sums[tile][0] = sums[tile][1] = sums[tile][2] = sums[tile][3] = 0.0f;
      }
    } else if constexpr (kFormat == DType::kQ6_K) {
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        float step_sums[kTiles][4] = {};
        multiply_step<Format>(step_sums, upper, lower, x, step);
        add_scaled(to, step_sums, upper_row.step_scale(upper_d, group, step), lower_row.step_scale(lower_d, group, step));
      }
    } else {
      float group_sums[kTiles][4] = {};
      multiply_step<Format>(group_sums, upper, lower, x, 0);
      multiply_step<Format>(group_sums, upper, lower, x, 1);
      add_scaled(to, group_sums, upper_row.block_scale(group), lower_row.block_scale(group));
    }
  }
}

template <DType kFormat, int kTiles, bool kIsAligned> __global__ void __launch_bounds__(
    32 * kMaxWarps, kTiles == 1 && kFormat != DType::kQ6_K && kFormat != DType::kQ8_0 ? 2 : 1) gemm_few_kernel(const Few p) {
  using Format = FewFormat<kFormat>;
  BANYAN_DYNAMIC_SHARED(shared);
  BANYAN_SHARED(maxima, float[kMaxWarps][kFewBlockTokens]);
  BANYAN_SHARED(inverse, float[kFewBlockTokens]);
  BANYAN_SHARED(is_last, int);
  const int warp = static_cast<int>(threadIdx.x / kWarp), n_warps = static_cast<int>(blockDim.x / kWarp);
  const int warp_k = warp % p.warps_k, warp_row = warp / p.warps_k, block_rows = n_warps / p.warps_k * kStripRows;
  const int64_t block_row = static_cast<int64_t>(blockIdx.x) * block_rows, first_row = block_row + warp_row * kStripRows;
  const int first_chunk = static_cast<int>(blockIdx.y) * p.slice_chunks, end_chunk = min(first_chunk + p.slice_chunks, p.n_chunks);
  const int slice_cols = p.slice_chunks * Format::kCols;
  const int group = static_cast<int>(threadIdx.x % kWarp / 4), quad = static_cast<int>(threadIdx.x % 4);
  constexpr int kSlotBytes = kStripRows * Format::kPitch;
  unsigned char* const ring = shared + warp * Format::kWarpBytes + group * Format::kPitch;  // from the lane's first row on
  unsigned char* const first_piece = ring + 16 * quad;
  unsigned char* x_shared = shared + n_warps * Format::kWarpBytes;

  // the first chunks of the weights are on their way while x is put in place
  const StripRows rows = rows_of(p, first_row, group, quad);
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    const int next = first_chunk + warp_k + stage * p.warps_k;
    if (next < end_chunk) fetch_chunk<kFormat>(rows, first_piece + stage * kSlotBytes, next, quad, static_cast<int>(p.row_bytes));
    cp_async_commit();
  }
  put_x<kFormat>(p, x_shared, inverse, maxima, static_cast<int64_t>(first_chunk) * Format::kCols, slice_cols);
  __syncthreads();

  // multiply; in the columns of tokens that are not there stands the last token once more, and nobody stores it
  XView<kTiles> first_view;
  first_view.x_stride = p.n_tokens * Format::x_pitch(slice_cols);
  first_view.sum_stride = p.n_tokens * Format::sum_pitch(slice_cols);
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const int token = min(tile * kTileTokens + group, p.n_tokens - 1);
    first_view.x[tile] = x_shared + token * Format::x_pitch(slice_cols) + 16 * quad;
    first_view.sums[tile] = x_shared + Format::kTerms * first_view.x_stride + token * Format::sum_pitch(slice_cols) + 4 * quad;
  }
  float sums[kTiles][4] = {};
  int slot = 0;
  for (int chunk = first_chunk + warp_k; chunk < end_chunk; chunk += p.warps_k) {
    cp_async_wait<kStages - 2>();
    __syncwarp();  // all lanes' copies are there, and all lanes are done with the slot that is filled next
    const int next = chunk + (kStages - 1) * p.warps_k;
    if (next < end_chunk)
      fetch_chunk<kFormat>(rows, first_piece + (slot == 0 ? kStages - 1 : slot - 1) * kSlotBytes, next, quad, static_cast<int>(p.row_bytes));
    cp_async_commit();
    XView<kTiles> view = first_view;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      view.x[tile] += (chunk - first_chunk) * 2 * Format::kCols;
      view.sums[tile] += (chunk - first_chunk) * 2 * Format::kGroups;
    }
    unsigned char* const upper = ring + slot * kSlotBytes;
    const FragmentRow<kFormat, kIsAligned> upper_row(reinterpret_cast<const uint32_t*>(upper), (rows.skip[0] + chunk * Format::kBytes) & 15, quad);
    const FragmentRow<kFormat, kIsAligned> lower_row(
        reinterpret_cast<const uint32_t*>(upper + 8 * Format::kPitch), (rows.skip[1] + chunk * Format::kBytes) & 15, quad);
    if (traits(kFormat).block_size < Format::kCols && (chunk + 1) * Format::kBytes > p.row_bytes) {
      clear_behind<kFormat>(rows, upper, chunk, quad, static_cast<int>(p.row_bytes));
      __syncwarp();
    }
    multiply_chunk<kFormat, kTiles, kIsAligned>(
        sums, upper_row, lower_row, view, quad, chunk * Format::kCols + Format::kCols / 2 >= static_cast<int>(p.cols));
    slot = slot == kStages - 1 ? 0 : slot + 1;
  }
  cp_async_wait<0>();
  __syncthreads();  // the ring is free: sums[warp][token][row]

  // add up the warps that share rows
  float* exchange = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = tile * kTileTokens + 2 * quad + i % 2, row = group + i / 2 * 8;
      exchange[(warp * kTiles * kTileTokens + token) * kStripRows + row] = sums[tile][i];
    }
  }
  __syncthreads();
  const bool is_sliced = gridDim.y > 1;
  const int n_values = p.n_tokens * block_rows;
  float* tile_partials = is_sliced ? p.partials + static_cast<int64_t>(blockIdx.x) * gridDim.y * n_values : nullptr;
  for (int i = static_cast<int>(threadIdx.x); i < n_values; i += static_cast<int>(blockDim.x)) {
    const int token = i / block_rows, row = i % block_rows;
    float sum = 0.0f;
    for (int k = 0; k < p.warps_k; ++k)
      sum += exchange[((row / kStripRows * p.warps_k + k) * kTiles * kTileTokens + token) * kStripRows + row % kStripRows];
    sum *= inverse[token];
    if (is_sliced) {
      __stcg(tile_partials + static_cast<int64_t>(blockIdx.y) * n_values + i, sum);
    } else if (block_row + row < p.rows) {
      float* out = p.out + token * p.rows + block_row + row;
      if (p.bias != nullptr) sum += p.bias[block_row + row];
      *out = p.is_accumulated ? *out + sum : sum;
    }
  }
  if (!is_sliced) return;

  // add up the slices
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(p.counters + blockIdx.x, 1u) == gridDim.y - 1;
    if (is_last) p.counters[blockIdx.x] = 0;
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  for (int i = static_cast<int>(threadIdx.x); i < n_values; i += static_cast<int>(blockDim.x)) {
    const int token = i / block_rows, row = i % block_rows;
    if (block_row + row >= p.rows) continue;
    float sum = 0.0f;
    for (unsigned slice = 0; slice < gridDim.y; ++slice) sum += __ldcg(tile_partials + static_cast<int64_t>(slice) * n_values + i);
    float* out = p.out + token * p.rows + block_row + row;
    if (p.bias != nullptr) sum += p.bias[block_row + row];
    *out = p.is_accumulated ? *out + sum : sum;
  }
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <DType kFormat, int kTiles, bool kIsAligned> void launch_few(Backend& backend, const GemmArgs& a) {
  using Format = FewFormat<kFormat>;
  // More rows in a block read x less often; more warps along the columns make more blocks, which matters as long as they do not fill the device.
  const int n_chunks = static_cast<int>(ceil_div(a.w.cols, Format::kCols));
  const size_t shared_limit = backend.shared_per_block - 2048;  // the rest is for static variables
  const bool is_wide = a.n_tokens > 4 && 8 * Format::kWarpBytes + Format::x_bytes(Format::kCols, a.n_tokens) <= shared_limit;
  const int n_warps = is_wide ? 8 : 4;
  const int64_t n_wanted = int64_t{16} * backend.sm_count;  // warps: what two to four blocks of a multiprocessor are
  const int64_t n_strips = ceil_div(a.w.rows, kStripRows);
  int warps_k = 1;
  while (2 * warps_k <= (is_wide ? 2 : 4) && 2 * warps_k <= n_chunks && n_strips * warps_k < 4 * n_wanted) warps_k *= 2;
  const int64_t n_tiles = ceil_div(n_strips, n_warps / warps_k);
  // Slices: as many as fill the device, and short enough that x fits beside the rings.
  const size_t ring_bytes = static_cast<size_t>(n_warps) * Format::kWarpBytes;
  const size_t x_limit = std::min<size_t>(shared_limit - ring_bytes, is_wide ? 64 * 1024 : 32 * 1024);
  const int64_t n_fill = std::max<int64_t>(1, n_wanted / (n_tiles * n_warps));
  int slice_chunks = static_cast<int>(ceil_div(n_chunks, std::min<int64_t>(n_fill, ceil_div(n_chunks, warps_k))));
  while (slice_chunks > 1 && Format::x_bytes(slice_chunks * Format::kCols, a.n_tokens) > x_limit) slice_chunks = (slice_chunks + 1) / 2;
  const int64_t n_slices = ceil_div(n_chunks, slice_chunks);
  Few p{a.out, a.x, static_cast<const uint8_t*>(a.w.data), a.bias, nullptr, nullptr, a.w.rows, a.w.cols,
      static_cast<int64_t>(row_bytes(kFormat, a.w.cols)), a.n_tokens, warps_k, n_chunks, slice_chunks, a.accumulate};
  if (n_slices > 1) {
    const int64_t block_rows = n_warps / warps_k * kStripRows;
    p.partials = static_cast<float*>(backend.scratch.take(static_cast<size_t>(n_tiles * n_slices * block_rows * a.n_tokens) * sizeof(float)));
    p.counters = backend.scratch.counters(static_cast<size_t>(n_tiles));
    if (p.partials == nullptr || p.counters == nullptr) return;
  }
  const size_t exchange_bytes = static_cast<size_t>(n_warps * kTiles * kTileTokens * kStripRows) * sizeof(float);
  const size_t shared_bytes = std::max(exchange_bytes, ring_bytes + Format::x_bytes(slice_chunks * Format::kCols, a.n_tokens));
  launch({dim3(static_cast<unsigned>(n_tiles), static_cast<unsigned>(n_slices)), dim3(static_cast<unsigned>(32 * n_warps)), shared_bytes},
      backend.stream, gemm_few_kernel<kFormat, kTiles, kIsAligned>, p);
}

template <DType kFormat> void choose_tiles(Backend& backend, const GemmArgs& a) {
  constexpr uintptr_t kAlignment = natural_alignment<kFormat>();
  const bool is_aligned = (reinterpret_cast<uintptr_t>(a.w.data) | row_bytes(kFormat, a.w.cols)) % kAlignment == 0;
  if (a.n_tokens <= kTileTokens) return is_aligned ? launch_few<kFormat, 1, true>(backend, a) : launch_few<kFormat, 1, false>(backend, a);
  if (a.n_tokens <= 2 * kTileTokens) return is_aligned ? launch_few<kFormat, 2, true>(backend, a) : launch_few<kFormat, 2, false>(backend, a);
  if constexpr (traits(kFormat).block_size > 1)
    return is_aligned ? launch_few<kFormat, 4, true>(backend, a) : launch_few<kFormat, 4, false>(backend, a);
}

}  // namespace

void gemm_few(Backend& backend, const GemmArgs& a) {
  switch (a.w.dtype) {
    case DType::kF16: return choose_tiles<DType::kF16>(backend, a);
    case DType::kBF16: return choose_tiles<DType::kBF16>(backend, a);
    case DType::kQ8_0: return choose_tiles<DType::kQ8_0>(backend, a);
    case DType::kQ4_0: return choose_tiles<DType::kQ4_0>(backend, a);
    case DType::kQ4_K: return choose_tiles<DType::kQ4_K>(backend, a);
    case DType::kQ5_K: return choose_tiles<DType::kQ5_K>(backend, a);
    case DType::kQ6_K: return choose_tiles<DType::kQ6_K>(backend, a);
    default: return;
  }
}

}  // namespace banyan::cuda
