// attend_tile: what a block of attend_mma has in shared memory, queries and two turns of keys and values, and how it is filled.
#pragma once

#include "cuda/attend_job.cuh"
#include "cuda/attend_keys.cuh"
#include "cuda/prim/math.cuh"

namespace banyan::cuda {

constexpr int kTileWarps = 4, kTileThreads = kTileWarps * kWarp;

// Who a block works for: nobody needs it while keys are read, when registers are short.
struct Task {
  Place place;
  int first_token, n_tokens;
};

// Sizes for head dims up to kDim; shared memory: queries, then two turns of keys and values, all as halves, then a token's range and a unit per row,
// per warp the keys that some row sees and those that all rows see, and the task.
template <int kDim> struct Tile {
  static constexpr int kAtoms = kDim <= 128 ? 2 : 1;  // 16 rows each, of a warp; the sums of 256 dims leave no registers for more
  static constexpr int kRows = kTileWarps * kAtoms * 16;
  static constexpr int kKeys = kDim <= 128 ? 64 : 32;
  static constexpr bool kIsTight =
      kDim == 128;  // sums and scores leave so few registers that whatever a turn can work out itself must not wait in one
  static constexpr int kChunks = kDim / kChunk;
  static constexpr int kLanes = kDim <= 64 ? 8 : kDim <= 128 ? 16 : 32;  // that load a row, a chunk each
  // Eight rows of one chunk must lie in different banks: either whole lines of 128 bytes with chunks exchanged by the row, or rows of an odd number of chunks.
  static constexpr bool kIsSwizzled = kDim % 64 == 0;
  static constexpr int kRowBytes = kDim * 2 + (kIsSwizzled ? 0 : 16);
  static constexpr int kQueryBytes = kRows * kRowBytes, kSideBytes = kKeys * kRowBytes;
  static constexpr int kRangesAt = kQueryBytes + 4 * kSideBytes, kUnitsAt = kRangesAt + kRows * static_cast<int>(sizeof(int2)),
                       kBoundsAt = kUnitsAt + kRows * static_cast<int>(sizeof(float)),
                       kTaskAt = kBoundsAt + kTileWarps * static_cast<int>(sizeof(int4));
  static constexpr size_t kSharedBytes = (kTaskAt + sizeof(Task) + 511) / 512 * 512;

  static __device__ __forceinline__ int offset(int row, int chunk) { return row * kRowBytes + (kIsSwizzled ? chunk ^ (row & 7) : chunk) * 16; }
  // 2 n chunks further in the same row, for the address of chunk 0 or 1. Exchanged chunks want rows that lie at multiples of their length, a power of two.
  static __device__ __forceinline__ SharedAddress further(SharedAddress at, unsigned n) { return kIsSwizzled ? at ^ 32 * n : at + 32 * n; }
  // Keys of a turn lie at keys() + side, where side is 0 or kOtherSide by turns, values behind them.
  static constexpr int kOtherSide = 2 * kSideBytes;
  static __device__ __forceinline__ unsigned char* keys(unsigned char* shared) { return shared + kQueryBytes; }
  static __device__ __forceinline__ unsigned char* values(unsigned char* shared) { return shared + kQueryBytes + kSideBytes; }
  static_assert(!kIsSwizzled || (512 % kRowBytes == 0 && kQueryBytes % 512 == 0 && kSideBytes % 512 == 0));
};
static_assert(Tile<128>::kSharedBytes <= 99 * 1024 && Tile<256>::kSharedBytes <= 99 * 1024);  // what sm_86, sm_89 and sm_120 give a block

// Queries of a run, times scale and the row's power of two, as halves; rows from n_rows on are zeros. A row is loaded by kLanes neighbouring lanes. Keys
// are counted from the end of the span on, here and below: those of the span are the negative ones, and one number says how many are left.
template <int kDim> __device__ __forceinline__ void load_queries(
    const AttendJob& job, const Place& place, int first_token, int n_rows, int span_to, unsigned thread, unsigned char* shared) {
  using T = Tile<kDim>;
  constexpr int kLanes = T::kLanes;
  const int chunk = static_cast<int>(thread % kLanes);
  auto* ranges = reinterpret_cast<int2*>(shared + T::kRangesAt);
  auto* units = reinterpret_cast<float*>(shared + T::kUnitsAt);
  const float scale = job.scale * kLog2E;
#pragma unroll 4
  for (int row = static_cast<int>(thread / kLanes); row < T::kRows; row += kTileThreads / kLanes) {
    const int token = first_token + row / place.n_heads;
    const bool is_row = row < n_rows;
    float4 x[2] = {{0.0f, 0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f, 0.0f}};
    if (is_row && chunk * kChunk < job.head_dim) {
      const int64_t at = static_cast<int64_t>(token) * job.n_heads + place.first_head + row % place.n_heads;
      const auto* from = reinterpret_cast<const float4*>(job.q + at * job.head_dim + chunk * kChunk);
      x[0] = load_streaming(from);
      x[1] = load_streaming(from + 1);
    }
    float highest = 0.0f;
#pragma unroll
    for (float4& y : x) {
      y = {y.x * scale, y.y * scale, y.z * scale, y.w * scale};
      highest = fmaxf(highest, fmaxf(fmaxf(fabsf(y.x), fabsf(y.y)), fmaxf(fabsf(y.z), fabsf(y.w))));
    }
    const RowUnit unit = find_unit(warp_max<kLanes>(highest));
    if (chunk < T::kChunks) {
      *reinterpret_cast<uint4*>(shared + T::offset(row, chunk)) = {pack_half2(x[0].x * unit.up, x[0].y * unit.up),
          pack_half2(x[0].z * unit.up, x[0].w * unit.up), pack_half2(x[1].x * unit.up, x[1].y * unit.up),
          pack_half2(x[1].z * unit.up, x[1].w * unit.up)};
    }
    if (chunk == 0) {
      ranges[row] = is_row ? int2{job.begin(token) - span_to, job.end(token) - span_to} : int2{0, 0};
      units[row] = unit.down;
    }
  }
}

// The part of a thread in copying keys or values: one chunk of every kPass-th row of a turn, kLanes neighbouring threads a row.
template <int kDim, bool kIsQ8> struct Filler {
  using T = Tile<kDim>;
  static constexpr int kPass = kTileThreads / T::kLanes;

  // Where the thread begins in a turn whose first key lies at `side`.
  static __device__ __forceinline__ int64_t place(const AttendJob& job, unsigned thread) {
    return static_cast<int>(thread / T::kLanes) * job.row_bytes + Chunk<kIsQ8>::offset(static_cast<int>(thread % T::kLanes));
  }

  // A turn of n_left keys or, if there are more, kKeys; zeros from n_left on and beyond the head dim. `from`: the thread's place.
  static __device__ __forceinline__ void fill(const AttendJob& job, unsigned thread, const uint8_t* from, int n_left, unsigned char* shared) {
    if (kIsQ8 && n_left >= T::kKeys && job.head_dim == kDim) fill_some<true>(job, thread, from, n_left, shared);
    else fill_some<false>(job, thread, from, n_left, shared);
  }

 private:
  template <bool kIsAll>
  static __device__ __forceinline__ void fill_some(const AttendJob& job, unsigned thread, const uint8_t* from, int n_left, unsigned char* shared) {
    const int row = static_cast<int>(thread / T::kLanes), chunk = static_cast<int>(thread % T::kLanes);
    if (T::kLanes > T::kChunks && chunk >= T::kChunks) n_left = -1;
    const int n_mine = chunk * kChunk < job.head_dim ? n_left - row : 0;  // of rows from this thread's first one on
    const int even = T::offset(row, chunk), odd = T::offset(row + kPass, chunk) - kPass * T::kRowBytes;
#pragma unroll
    for (int i = 0; i < T::kKeys / kPass; ++i) {
      const bool is_key = kIsAll || i * kPass < n_mine;
      unsigned char* at = shared + (i % 2 == 0 ? even : odd) + i * kPass * T::kRowBytes;
      if (T::kLanes == T::kChunks || n_left >= 0) {
        if constexpr (kIsQ8) {
          Chunk<true> x;
          uint32_t d = 0;
          x.clear();
          if (is_key) {
            x.load(ChunkRow<true>(from, chunk), 0);
            d = load_d(from);
          }
          *reinterpret_cast<uint4*>(at) = x.halves(ChunkRow<true>::shift(from), 0, d);
        } else {
          cp_async16(at, from, is_key);
        }
      }
      from += kPass * job.row_bytes;
    }
  }
};

}  // namespace banyan::cuda
