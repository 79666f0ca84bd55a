// gemm_few_shared: what gemm_few.cu keeps in shared memory: the bytes of some chunks of its rows of weights, and x as 16-bit terms.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/gemm.h"
#include "cuda/gemm_scale.cuh"
#include "cuda/prim/dequant.cuh"
#include "cuda/prim/launch.cuh"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/mma.cuh"
#include "cuda/prim/opaque.cuh"
#include "cuda/prim/warp.cuh"

namespace banyan::cuda {

constexpr int kStages = 3;
constexpr int kStripRows = 16;  // of a warp
constexpr int kTileTokens = 8;  // the columns of one product
constexpr int kMaxWarps = 8;

struct Few {
  float* out;
  const float* x;
  const uint8_t* w;
  const float* bias;
  float* partials;     // [row tiles, slices, T, rows of a block]; null if there is one slice
  unsigned* counters;  // [row tiles]
  int64_t rows, cols, row_bytes;
  int n_tokens, warps_k, n_chunks, slice_chunks;  // warps that share rows; chunks of the columns, and of a slice
  bool is_accumulated;
};

template <DType kFormat> struct FewFormat {
  static constexpr bool kIsPlain = traits(kFormat).block_size == 1;
  static constexpr bool kIsBF16 = kFormat == DType::kBF16;
  static constexpr int kTerms = kIsBF16 ? 3 : 2;
  static constexpr int kGroups = kIsPlain ? 4 : 8;  // of 32 columns in a chunk: 128 to 288 bytes
  static constexpr int kCols = 32 * kGroups;
  static constexpr int kBytes = static_cast<int>(row_bytes(kFormat, kCols));
  static constexpr int kPieces = (kBytes + 15 + 15) / 16;  // 16-byte pieces that touch a chunk, wherever it begins
  // A row of the ring. Rows are an odd number of pieces apart, which is the fewest bank conflicts for words; 16-byte reads want 64 mod 128.
  static constexpr int kPitch = kIsPlain ? (16 * kPieces + 63) / 128 * 128 + 64 : 16 * (kPieces | 1);
  static constexpr int kWarpBytes = kStages * kStripRows * kPitch;
  using Tag = std::conditional_t<kIsBF16, BF16Tag, F16Tag>;

  // Bytes between the rows [term, token] of x in shared memory: 64 mod 128, so that 16-byte reads of 8 tokens meet no bank twice.
  __host__ __device__ static int x_pitch(int slice_cols) { return 2 * slice_cols + 64; }
  __host__ __device__ static int sum_pitch(int slice_cols) { return kHasMins<kFormat> ? slice_cols / 16 : 0; }
  static size_t x_bytes(int slice_cols, int n_tokens) {
    return static_cast<size_t>(kTerms * n_tokens) * static_cast<size_t>(x_pitch(slice_cols) + sum_pitch(slice_cols));
  }
};

// The two rows of a strip, 8 apart, of which a lane copies every fourth 16-byte piece and multiplies a quarter. Byte `offset` of a row is at its start +
// offset, where the start is 16-byte aligned and offset begins with `skip`. Instead of a row that is not there the last one is copied once more: what
// stands in the ring then only reaches rows that nobody stores.
struct StripRows {
  const uint8_t* start;  // of the lane's first piece of the first row
  int apart;             // from there to the second row's
  int skip[2];
};

__device__ __forceinline__ StripRows rows_of(const Few& p, int64_t first_row, int group, int quad) {
  const int64_t last = p.rows - 1, first = min(first_row + group, last), second = min(first_row + group + 8, last);
  const auto address = reinterpret_cast<uintptr_t>(p.w + first * p.row_bytes);
  const auto next = reinterpret_cast<uintptr_t>(p.w + second * p.row_bytes);
  StripRows rows;
  rows.skip[0] = static_cast<int>(address & 15);
  rows.skip[1] = static_cast<int>(next & 15);
  rows.start = p.w + first * p.row_bytes - rows.skip[0] + 16 * quad;
  rows.apart = static_cast<int>((next - rows.skip[1]) - (address - rows.skip[0]));
  return rows;
}

// Starts the copies of one chunk of the warp's rows. `to`: the lane's first piece of its first row.
template <DType kFormat> __device__ __forceinline__ void fetch_chunk(const StripRows& rows, unsigned char* to, int chunk, int quad, int row_bytes) {
  using Format = FewFormat<kFormat>;
  const int end = min((chunk + 1) * Format::kBytes, row_bytes) - 16 * quad;
  SharedAddress piece_at = shared_address(to);
  make_opaque(piece_at);  // or else it is worked out for each piece
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int aligned = (rows.skip[i] + chunk * Format::kBytes) & ~15, n_bytes = end + rows.skip[i] - aligned;
    const uint8_t* from = rows.start + (i == 0 ? aligned : rows.apart + aligned);
#pragma unroll
    for (int piece = 0; piece < Format::kPieces; piece += 4) {
      if (16 * piece < n_bytes) cp_async16(piece_at + 8 * i * Format::kPitch + 16 * piece, from + 16 * piece, true);
    }
  }
}

// Behind the columns, in the last chunk, lie the next row or nothing, numbers that may be none: they become zero, so that no product has to know where
// a row ends. `to`: the lane's first row.
template <DType kFormat> __device__ __forceinline__ void clear_behind(const StripRows& rows, unsigned char* to, int chunk, int quad, int row_bytes) {
  using Format = FewFormat<kFormat>;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int begin = rows.skip[i] + chunk * Format::kBytes, left = row_bytes + rows.skip[i] - (begin & ~15);
#pragma unroll 1
    for (int at = max(left, 0) + quad; at < Format::kPitch; at += 4) to[8 * i * Format::kPitch + at] = 0;
  }
}

// x of the slice as kTerms 16-bit numbers an element, in the order of load_fragment; behind the columns zeros. `inverse` [T] undoes the scaling.
template <DType kFormat> __device__ __forceinline__ void put_x(
    const Few& p, unsigned char* x_shared, float* inverse, float (*maxima)[kFewBlockTokens], int64_t from, int slice_cols) {
  using Format = FewFormat<kFormat>;
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp),
            n_warps = static_cast<int>(blockDim.x / kWarp);
  const int x_pitch = Format::x_pitch(slice_cols), n_groups = slice_cols / 32;
  if constexpr (!Format::kIsBF16) {
    for (int t = 0; t < p.n_tokens; ++t) {
      const float* x = p.x + t * p.cols + from;
      float largest = 0.0f;
#pragma unroll 8
      for (int g = warp; g < n_groups; g += n_warps) {
        const int k = 32 * g + lane;
        largest = fmaxf(largest, from + k < p.cols ? fabsf(x[k]) : 0.0f);
      }
      largest = warp_max(largest);
      if (lane == 0) maxima[warp][t] = largest;
    }
    __syncthreads();
  }
  for (int t = 0; t < p.n_tokens; ++t) {
    const float* x = p.x + t * p.cols + from;
    PowerOfTwo scale{1.0f, 1.0f};
    if constexpr (!Format::kIsBF16) {
      float largest = 0.0f;
      for (int w = 0; w < n_warps; ++w) largest = fmaxf(largest, maxima[w][t]);
      scale = scale_for_halves(largest);
    }
    if (threadIdx.x == 0) inverse[t] = scale.inverse;
    constexpr int kBatch = 4;  // loads in flight
    for (int first = warp; first < n_groups; first += kBatch * n_warps) {
      float values[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int k = 32 * (first + i * n_warps) + lane;
        values[i] = first + i * n_warps < n_groups && from + k < p.cols ? x[k] * scale.value : 0.0f;
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int g = first + i * n_warps;
        if (g >= n_groups) break;
        float rest = values[i];
        unsigned char* at = x_shared + t * x_pitch + 64 * g + 2 * position_in_group<kFormat>(lane);
#pragma unroll
        for (int term = 0; term < Format::kTerms; ++term) {
          const uint16_t bits = Format::kIsBF16 ? float_to_bf16(rest) : float_to_half(rest);
          *reinterpret_cast<uint16_t*>(at + term * p.n_tokens * x_pitch) = bits;
          rest -= Format::kIsBF16 ? bf16_to_float(bits) : half_to_float(bits);
        }
        if constexpr (kHasMins<kFormat>) {
          float sum = warp_sum(values[i]) * 0.03125f;  // a mean, so that it fits into a half like x
          unsigned char* sums = x_shared + Format::kTerms * p.n_tokens * x_pitch + t * Format::sum_pitch(slice_cols) + 2 * g;
          if (lane < Format::kTerms) {
            uint16_t bits = float_to_half(sum);
            if (lane == 1) bits = float_to_half(sum - half_to_float(bits));
            *reinterpret_cast<uint16_t*>(sums + lane * p.n_tokens * Format::sum_pitch(slice_cols)) = bits;
          }
        }
      }
    }
  }
}

// x of the lane's token and quad at a chunk; the terms lie a stride apart. `sums` likewise of the sums over groups.
template <int kTiles> struct XView {
  const unsigned char* x[kTiles];
  const unsigned char* sums[kTiles];
  int x_stride, sum_stride;
};

}  // namespace banyan::cuda
