// attend_job: what the attention kernels share: their parameters, and who is done together. Flash attention (arXiv 2205.14135, 2307.08691) in four forms:
//   attend_mma.cu    many queries: tiles of 128 rows (token x head of one kv head) on the tensor cores
//   attend_split.cu  few queries over many keys: tiles of 8 rows, the keys cut into splits, bound by reading keys and values once
//   attend_exact.cu  float32 throughout: F32 keys, exact mode, head dims or addresses that the others cannot take
//   attend_join.cu   puts the splits of a row together
// Numbers. Scores are kept as binary logarithms: q is multiplied by scale * log2(e) in float32 first. Statistics and sums are float32.
//   mma    q is rounded to a half after a power of two per row, weights e^(score - maximum) to a half; keys and values are halves
//   split  q and the weights are the sums of two halves each (22 bits); keys and values are halves
//   exact  nothing is rounded to fewer than 24 bits
// Q8_0 elements become halves in the first two: d * q in float32, rounded once.
#pragma once

#include <cstdint>

#include "cuda/attend.h"
#include "cuda/backend.h"
#include "cuda/prim/launch.cuh"
#include "cuda/prim/warp.cuh"

namespace banyan::cuda {

constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.69314718055994531f;
constexpr float kNothing = -__builtin_huge_valf();  // the maximum of no scores

// Weights are 2^10 e^(score - maximum): as halves they then keep 11 bits down to 2^-24 of the largest one.
constexpr float kWeightBits = 10.0f;

// A later first key than that of the tile's first token: keys before a token's own are computed and hidden, at most one tile of them.
constexpr int kLaterKeys = 64;

// Who takes a window of tokens when both kernels are launched (the host does not know the ranges).
enum class Takes { kAll, kTogether, kRagged };

// Parameters of a kernel. A tile is `tile_tokens` tokens x `tile_heads` heads of one kv head; row = token * heads + head, counted from the tile's first.
struct AttendJob {
  float* out;
  float* lse;
  const float* q;
  const uint8_t* k;
  const uint8_t* v;
  int64_t row_bytes, head_bytes;  // from one key to the next, from one kv head to the next
  const int32_t* kv_begin;        // null: all keys 0 .. n_slots - 1 (inject)
  const int32_t* kv_end;
  int n_slots;
  int n_tokens, n_heads, n_kv_heads, head_dim, group;
  float scale;
  int tile_tokens, n_tiles;
  int tile_heads, n_head_tiles;  // heads of a group in one tile: all of them, unless the group is very large
  int n_splits;
  int split_keys;  // the fewest keys worth a split
  float* parts;    // [T, H, n_splits, C] sums of weight * value; unused with one split
  float2* states;  // [T, H, n_splits] of those: (the logarithm that weights are relative to, sum of weights)
  Takes takes;
  int window_tokens;  // the tile_tokens of attend_mma, by which Takes decides; a multiple of this job's

  __device__ int begin(int t) const { return kv_begin != nullptr ? kv_begin[t] : 0; }
  __device__ int end(int t) const { return kv_end != nullptr ? kv_end[t] : n_slots; }
};

// Where a block works.
struct Place {
  int first_token, last_token;  // [first, last)
  int first_head, n_heads, kv_head;
  int split;
};

// Late tiles come first: in a causal run they have the most keys, and short ones fill the end of the launch.
__device__ __forceinline__ Place find_place(const AttendJob& job) {
  int index = static_cast<int>(blockIdx.x);
  Place place;
  const int head_tile = index % job.n_head_tiles;
  index /= job.n_head_tiles;
  place.kv_head = index % job.n_kv_heads;
  index /= job.n_kv_heads;
  place.split = index % job.n_splits;
  const int tile = job.n_tiles - 1 - index / job.n_splits;
  place.first_token = tile * job.tile_tokens;
  place.last_token = min(job.n_tokens, place.first_token + job.tile_tokens);
  place.first_head = place.kv_head * job.group + head_tile * job.tile_heads;
  place.n_heads = min(job.tile_heads, job.group - head_tile * job.tile_heads);
  return place;
}

// Consecutive tokens that are done together: each begins where the first one does or up to kLaterKeys later, and not behind the keys of those before
// it, so that every key of [begin, end) is one of some token (what nobody sees is never read).
struct KeyRun {
  int n_tokens;
  int begin, end;
};

// The run that starts with token t. All lanes of a warp call it with the same arguments.
__device__ __forceinline__ KeyRun find_run(const AttendJob& job, int t, int last_token) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (job.kv_begin == nullptr) return {last_token - t, 0, job.n_slots};
  KeyRun run{0, job.begin(t), job.begin(t)};
  for (int first = t; first < last_token; first += kWarp) {
    const int token = first + lane;
    const bool is_token = token < last_token;
    const int begin = is_token ? job.begin(token) : 0;
    int reach = is_token ? job.end(token) : 0;  // the farthest end of the tokens up to this one
#pragma unroll
    for (int by = 1; by < kWarp; by *= 2) {
      const int before = __shfl_up_sync(kAllLanes, reach, by);
      if (lane >= by) reach = max(reach, before);
    }
    const int before = __shfl_up_sync(kAllLanes, reach, 1), seen = lane > 0 ? max(run.end, before) : run.end;
    const int later = begin - run.begin;
    const bool is_together = is_token && (later == 0 || (later > 0 && later <= kLaterKeys && begin <= seen));
    const unsigned apart = ~__ballot_sync(kAllLanes, is_together);
    const int n = apart == 0 ? kWarp : __ffs(static_cast<int>(apart)) - 1;
    if (n > 0) run.end = max(run.end, __shfl_sync(kAllLanes, reach, n - 1));
    run.n_tokens += n;
    if (n < kWarp) break;
  }
  return run;
}

// Whether the window of `token` is better done in small tiles: its runs have fewer than 8 tokens on average. All lanes of a warp call it.
__device__ __forceinline__ bool is_ragged(const AttendJob& job, int token) {
  if (job.kv_begin == nullptr) return false;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first = token / job.window_tokens * job.window_tokens, last = min(job.n_tokens, first + job.window_tokens);
  int n_runs = 1;
  for (int t = first + 1; t < last; t += kWarp) {
    const int at = t + lane, later = at < last ? job.begin(at) - job.begin(at - 1) : 0;
    n_runs += __popc(__ballot_sync(kAllLanes, later < 0 || later > kLaterKeys));
  }
  return n_runs > 1 && n_runs * 8 > last - first;
}

// Whether this block is the one that takes its window. All lanes of a warp call it.
__device__ __forceinline__ bool is_ours(const AttendJob& job, int token) {
  return job.takes == Takes::kAll || is_ragged(job, token) == (job.takes == Takes::kRagged);
}

// The piece [from, to) of a run's keys that a split works on; empty where the run is too short for so many splits.
struct KeySpan {
  int from, to;
};
__device__ __forceinline__ KeySpan cut_keys(const AttendJob& job, const KeyRun& run, int split) {
  const int n_keys = run.end - run.begin, even = (n_keys + job.n_splits - 1) / job.n_splits;
  const int each = (max(even, job.split_keys) + 63) / 64 * 64;
  const int64_t from = run.begin + static_cast<int64_t>(split) * each;
  if (job.n_splits == 1) return {run.begin, run.end};
  if (from >= run.end) return {run.end, run.end};
  return {static_cast<int>(from), static_cast<int>(min(static_cast<int64_t>(run.end), from + each))};
}

// The power of two that brings a row of queries, whose largest magnitude is `highest`, to [2^12, 2^13), and its inverse: rounded to halves, elements
// down to 2^-26 of the largest keep all their bits, and no sum of products with halves overflows.
struct RowUnit {
  float up, down;
};
__device__ __forceinline__ RowUnit find_unit(float highest) {
  const unsigned exponent = min(max(__float_as_uint(highest) >> 23, 13u), 253u);  // biased; `highest` has no sign
  return {__uint_as_float((266u - exponent) << 23), __uint_as_float((exponent - 12u) << 23)};
}

// lse of a row from the logarithm its weights are relative to and their sum.
__device__ __forceinline__ float log_sum(float base, float sum) { return sum > 0.0f ? (base + log2f(sum)) * kLn2 : sum == 0.0f ? kNothing : sum; }

// ---- each in its own file: plan fills a job's tiles, launch runs it ----
void plan_attend_mma(AttendJob& job);
void plan_attend_split(AttendJob& job);
void plan_attend_exact(AttendJob& job);
void launch_attend_mma(Backend& backend, const AttendJob& job, DType dtype);
void launch_attend_split(Backend& backend, const AttendJob& job, DType dtype);
void launch_attend_exact(Backend& backend, const AttendJob& job, DType dtype);
void launch_attend_join(Backend& backend, const AttendJob& job);

inline int count_blocks(const AttendJob& job) { return job.n_tiles * job.n_kv_heads * job.n_head_tiles * job.n_splits; }

}  // namespace banyan::cuda
