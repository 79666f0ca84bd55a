// sample: a token out of a row of logits. A block takes a row, of which it may have to look at everything several times: half a megabyte, that stays in
// the L2. The first look leaves the highest logit of each tile; later ones skip the tiles that can hold nothing they ask for. Cuts are found by counting,
// digit by digit, in bins of shared memory; all sums are integers, so no order matters.
#include <cfloat>

#include "cuda/backend.h"
#include "cuda/ops.h"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/vector.cuh"
#include "cuda/prim/warp.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 1024, kWarps = kThreads / kWarp;
constexpr int kTiles = kThreads;  // at most: each thread sums up one
constexpr int kLeastTile = 256;   // logits; a multiple of a warp's vectors
constexpr int kBins = 2 * kThreads;
constexpr int kAll = INT32_MAX;

// The tokens above `bound` and the first n_at_bound of those at it, or kAll.
struct Kept {
  float bound;
  int n_at_bound;
};

struct Shared {
  uint64_t warp_sums[kWarps];
  uint64_t tile_sums[kTiles];
  float tile_highest[kTiles];  // -infinity where there is no tile
  int tile_equals[kTiles];     // tokens at the bound
  unsigned low[kBins], high[kBins];
  float warp_highest[kWarps];
  uint64_t rest;
  int place;  // a bin or a tile
  int n_equals;
  float bound;
};

struct Row {
  const float* logits;
  int n, tile_size, n_tiles;
  float highest, scale;
};

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x) / kWarp; }

// The whole part of 2^40 e^((logit - highest) * scale): operation by operation what cpu/sample.inl does.
__device__ __forceinline__ uint64_t weight_of(const Row& row, float logit) {
  const float x = fmaxf(__fmul_rn(__fsub_rn(logit, row.highest), row.scale), -29.0f);
  const float n = rintf(__fmul_rn(x, 1.44269504f));
  float r = __fsub_rn(x, __fmul_rn(n, 0.693359375f));
  r = __fsub_rn(r, __fmul_rn(n, -2.12194440e-4f));
  constexpr float kSeries[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  float p = 1.0f / 5040;
#pragma unroll
  for (int i = 0; i < 7; ++i) p = __fadd_rn(__fmul_rn(p, r), kSeries[i]);
  return static_cast<uint64_t>(p * __uint_as_float(static_cast<unsigned>(static_cast<int>(n) + 40 + 127) << 23));
}

// Keys sort as numbers do; both zeros have the same.
__device__ __forceinline__ unsigned key_of(float x) {
  const unsigned bits = __float_as_uint(x + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float number_of(unsigned key) { return __uint_as_float((key >> 31) != 0 ? key & 0x7FFFFFFFu : ~key); }

// A first digit for cuts: higher logits have lower ones. Unlike the leading bits of a key it spreads the logits, so that few threads meet in a bin.
__device__ __forceinline__ int distance_of(const Row& row, float logit) {
  return static_cast<int>(fminf(__fmul_rn(__fsub_rn(row.highest, logit), row.scale), 29.0f) * ((kBins - 1) / 29.0f));
}

// The exact sum in two halves: whose addition wraps the lower one carries.
__device__ __forceinline__ void add_to_bin(Shared& shared, unsigned bin, uint64_t amount) {
  const auto low = static_cast<unsigned>(amount);
  const unsigned before = atomicAdd(&shared.low[bin], low);
  const unsigned high = static_cast<unsigned>(amount >> 32) + (before + low < before ? 1u : 0u);
  if (high != 0) atomicAdd(&shared.high[bin], high);
}

// Calls f(logit) for the row's part of a tile that this lane takes.
template <int kWidth, class F> __device__ __forceinline__ void each_of_tile(const Row& row, int tile, F&& f) {
  const int begin = tile * row.tile_size, end = min(row.n, begin + row.tile_size);
#pragma unroll 2
  for (int i = begin + lane_index() * kWidth; i < end; i += kWarp * kWidth) {
    const Floats<kWidth> x = load<kWidth>(row.logits + i);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) f(x.x[e]);
  }
}

template <int kWidth> __device__ float find_highest(const Row& row, Shared& shared) {
  for (int tile = warp_index(); tile < kTiles; tile += kWarps) {
    float highest = -INFINITY;
    if (tile < row.n_tiles) {
      each_of_tile<kWidth>(row, tile, [&](float x) { highest = fmaxf(highest, x); });
      highest = warp_max(highest);
    }
    if (lane_index() == 0) shared.tile_highest[tile] = highest;
  }
  __syncthreads();
  return block_max(shared.tile_highest[threadIdx.x], shared.warp_highest);
}

// The lowest id of the highest logit, for the first warp.
__device__ int first_highest(const Row& row, Shared& shared) {
  if (threadIdx.x == 0) shared.place = kTiles;
  __syncthreads();
  if (shared.tile_highest[threadIdx.x] == row.highest) atomicMin(&shared.place, static_cast<int>(threadIdx.x));
  __syncthreads();
  if (warp_index() > 0) return 0;
  int i = shared.place * row.tile_size + lane_index();
  for (;; i += kWarp) {
    const unsigned found = __ballot_sync(kAllLanes, i < row.n && row.logits[i] == row.highest);
    if (found != 0) return i - lane_index() + __ffs(static_cast<int>(found)) - 1;
  }
}

// The k-th highest of the tiles' highest: so many tokens at least are not below it. 0 < k <= n_tiles.
__device__ float kth_tile(const Row& row, Shared& shared, int k) {
  const float mine = shared.tile_highest[threadIdx.x];
  int n_above = 0, n_equal = 0;
  for (int tile = 0; tile < row.n_tiles; tile += 4) {
    const Floats<4> others = load<4>(&shared.tile_highest[tile]);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      n_above += others.x[e] > mine ? 1 : 0;
      n_equal += others.x[e] == mine ? 1 : 0;
    }
  }
  if (n_above < k && k <= n_above + n_equal) shared.bound = mine;  // several threads may say the same
  __syncthreads();
  return shared.bound;
}

// The bin in which the sums of the bins reach `need`, and what of it they lack before: `place` and `rest`. False if they never do.
__device__ __forceinline__ bool find_bin(Shared& shared, uint64_t need) {
  const unsigned first = 2 * threadIdx.x;
  const uint64_t one = static_cast<uint64_t>(shared.high[first]) << 32 | shared.low[first];
  const uint64_t two = static_cast<uint64_t>(shared.high[first + 1]) << 32 | shared.low[first + 1];
  const Scanned<uint64_t> scanned = block_scan(one + two, shared.warp_sums);
  const uint64_t before = scanned.sum - one - two;
  if (before < need && need <= scanned.sum) {
    const bool is_first = need <= before + one;
    shared.place = static_cast<int>(is_first ? first : first + 1);
    shared.rest = need - before - (is_first ? 0 : one);
  }
  __syncthreads();
  return need <= scanned.total;
}

// The fewest kept tokens, by logit and then by id, that are `need` in number or in weight; all of them if that is not enough.
template <bool kIsWeight, int kWidth> __device__ Kept fewest(const Row& row, Shared& shared, Kept kept, uint64_t need) {
  unsigned key = 0;  // the leading digits of the last token's
  int distance = 0, known = 32;
  for (int digit = 0; digit < 4; ++digit) {  // its distance, then 11, 11 and 10 bits of its key
    const int shift = digit == 0 ? 32 : digit == 1 ? 21 : digit == 2 ? 10 : 0, n_bits = known - shift;
    const unsigned last = (1u << n_bits) - 1;
    const auto count = [&](float logit, int n) {
      const int at = distance_of(row, logit);
      unsigned bin = static_cast<unsigned>(at);
      if (digit > 0) {
        const unsigned digits = key_of(logit) >> shift;
        if (at != distance || (digit > 1 && digits >> n_bits != key)) return;
        bin = last - (digits & last);
      }
      if constexpr (kIsWeight) add_to_bin(shared, bin, static_cast<uint64_t>(n) * weight_of(row, logit));
      else atomicAdd(&shared.low[bin], static_cast<unsigned>(n));
    };
    for (int bin = static_cast<int>(threadIdx.x); bin < kBins; bin += kThreads) shared.low[bin] = shared.high[bin] = 0;
    __syncthreads();
    for (int tile = warp_index(); tile < row.n_tiles; tile += kWarps) {
      const float highest = shared.tile_highest[tile];
      if (highest < kept.bound || (digit > 0 && distance_of(row, highest) > distance)) continue;
      each_of_tile<kWidth>(row, tile, [&](float x) {
        if (x > kept.bound || (x == kept.bound && kept.n_at_bound == kAll)) count(x, 1);
      });
    }
    if (threadIdx.x == 0 && kept.n_at_bound != kAll) count(kept.bound, kept.n_at_bound);
    __syncthreads();
    if (!find_bin(shared, need)) return kept;
    need = shared.rest;
    if (digit == 0) distance = shared.place;
    else key = key << n_bits | (last - static_cast<unsigned>(shared.place));
    known = shift;
  }
  const float bound = number_of(key);
  if constexpr (kIsWeight) {
    const uint64_t each = weight_of(row, bound);
    need = (need + each - 1) / each;
  }
  return {bound, static_cast<int>(need)};
}

// What of its tile each thread keeps.
struct Tile {
  Scanned<uint64_t> weight;
  uint64_t own;
  int n_equals;  // kept ones at the bound
};

template <int kWidth> __device__ Tile weigh_tiles(const Row& row, Shared& shared, Kept kept) {
  for (int tile = warp_index(); tile < kTiles; tile += kWarps) {
    uint64_t sum = 0;
    int n_equals = 0;
    if (tile < row.n_tiles && shared.tile_highest[tile] >= kept.bound) {
      each_of_tile<kWidth>(row, tile, [&](float x) {
        if (x > kept.bound) sum += weight_of(row, x);
        n_equals += x == kept.bound ? 1 : 0;
      });
      sum = warp_scan(sum);
      n_equals = warp_scan(n_equals);
    }
    if (lane_index() != kWarp - 1) continue;
    shared.tile_sums[tile] = sum;
    shared.tile_equals[tile] = n_equals;
  }
  __syncthreads();
  const auto n_equals = static_cast<uint64_t>(shared.tile_equals[threadIdx.x]), n_kept = static_cast<uint64_t>(kept.n_at_bound);
  const uint64_t before = block_scan(n_equals, shared.warp_sums).sum - n_equals;
  __syncthreads();
  Tile tile;
  tile.n_equals = static_cast<int>(before >= n_kept ? 0 : min(n_equals, n_kept - before));
  tile.own = shared.tile_sums[threadIdx.x] + static_cast<uint64_t>(tile.n_equals) * weight_of(row, kept.bound);
  tile.weight = block_scan(tile.own, shared.warp_sums);
  __syncthreads();
  return tile;
}

// The token of the tile `place` with which its weights sum to more than `rest`, for the first warp.
__device__ int find_in_tile(const Row& row, const Shared& shared, Kept kept) {
  int n_equals = shared.n_equals;
  uint64_t rest = shared.rest;
  for (int first = shared.place * row.tile_size;; first += kWarp) {
    const int i = first + lane_index();
    const float x = i < row.n ? row.logits[i] : -INFINITY;
    const unsigned equals = __ballot_sync(kAllLanes, x == kept.bound);
    const bool is_kept = x > kept.bound || (x == kept.bound && __popc(equals & ((1u << lane_index()) - 1)) < n_equals);
    const uint64_t sum = warp_scan(is_kept ? weight_of(row, x) : 0);
    const unsigned beyond = __ballot_sync(kAllLanes, sum > rest);
    if (beyond != 0) return first + __ffs(static_cast<int>(beyond)) - 1;
    rest -= __shfl_sync(kAllLanes, sum, kWarp - 1);
    n_equals -= __popc(equals);
  }
}

template <int kWidth> __device__ int draw_token(const Row& row, Shared& shared, const SampleRow& how) {
  Kept kept{fmaxf(-FLT_MAX, row.highest + how.reach), kAll};
  if (how.top_k > 0 && how.top_k < row.n) {
    if (how.top_k <= row.n_tiles) kept.bound = fmaxf(kept.bound, kth_tile(row, shared, how.top_k));
    kept = fewest<false, kWidth>(row, shared, kept, static_cast<uint64_t>(how.top_k));
  }
  Tile tile = weigh_tiles<kWidth>(row, shared, kept);
  if (how.top_p < 1.0f) {
    const double need = ceil(static_cast<double>(how.top_p) * static_cast<double>(tile.weight.total));
    kept = fewest<true, kWidth>(row, shared, kept, max(uint64_t{1}, static_cast<uint64_t>(need)));
    tile = weigh_tiles<kWidth>(row, shared, kept);
  }
  const uint64_t total = tile.weight.total;
  if (total == 0) return first_highest(row, shared);
  const uint64_t target = min(static_cast<uint64_t>(how.draw * static_cast<double>(total)), total - 1);
  const uint64_t before = tile.weight.sum - tile.own;
  if (before <= target && target < tile.weight.sum) {
    shared.place = static_cast<int>(threadIdx.x);
    shared.rest = target - before;
    shared.n_equals = tile.n_equals;
  }
  __syncthreads();
  return warp_index() == 0 ? find_in_tile(row, shared, kept) : 0;
}

template <int kWidth> __global__ void __launch_bounds__(kThreads, 1) sample_kernel(SampleArgs args) {
  BANYAN_SHARED(shared, Shared);
  const SampleRow how = args.rows[blockIdx.x];
  float* logits = args.logits + static_cast<int64_t>(blockIdx.x) * args.vocab_size;
  for (int i = static_cast<int>(threadIdx.x); i < how.n_edits; i += kThreads) {
    const LogitEdit edit = args.edits[how.first_edit + i];
    const float x = __fadd_rn(logits[edit.id], edit.bias);
    logits[edit.id] = __fsub_rn(x > 0 ? __fdiv_rn(x, edit.repetition) : __fmul_rn(x, edit.repetition), edit.subtracted);
  }
  __syncthreads();
  const int tile_size = (args.vocab_size + kLeastTile * kTiles - 1) / (kLeastTile * kTiles) * kLeastTile;
  Row row{logits, args.vocab_size, tile_size, (args.vocab_size + tile_size - 1) / tile_size, 0, how.scale};
  row.highest = find_highest<kWidth>(row, shared);
  int id = -1;
  if (row.highest != -INFINITY)
    id = how.scale == INFINITY || row.highest == INFINITY ? first_highest(row, shared) : draw_token<kWidth>(row, shared, how);
  if (threadIdx.x == 0) args.ids[blockIdx.x] = id;
}

}  // namespace

void sample(Stream& stream, const SampleArgs& a) {
  if (a.n_rows == 0 || stream.cancelled()) return;
  const cudaStream_t on = backend_of(stream).stream;
  const auto n_rows = static_cast<unsigned>(a.n_rows);
  if (takes_fours(a.vocab_size, a.logits)) launch({n_rows, kThreads}, on, sample_kernel<4>, a);
  else launch({n_rows, kThreads}, on, sample_kernel<1>, a);
}

}  // namespace banyan::cuda
