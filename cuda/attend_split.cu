// attend_split: few queries over many keys, as in decoding: bound by reading keys and values once. Four warps walk the same keys in turns of 16; each
// loads keys and values straight into the registers of its own matrix products, in an order of dims and keys that needs neither shared memory nor
// barriers, and the next 16 are under way while these are worked on:
//   scores [rows, keys] = q k^T: a lane's 8 neighbouring dims of a key are two steps of 16 dims, taken in another order on both sides
//   outs^T [dims, rows] += v^T weights^T: rows of v are columns of v^T, so pairs of keys are put together element by element; the weights come out of
//   the first product as the second one wants them, because rows are its columns.
// The first product has 16 rows: the upper halves of 8 queries and the lower ones.
#include "cuda/attend_job.cuh"
#include "cuda/attend_keys.cuh"
#include "cuda/prim/math.cuh"
#include "cuda/prim/mma.cuh"
#include "cuda/prim/opaque.cuh"

namespace banyan::cuda {
namespace {

constexpr int kRows = 8;  // of a tile
constexpr int kWarps = 4;
constexpr int kTurnKeys = 16;    // of a warp at a time
constexpr int kSplitKeys = 256;  // a split of fewer keys would not pay for its part

// x as the sum of two halves.
struct TwoHalves {
  uint32_t high, low;
};
__device__ __forceinline__ TwoHalves split_pair(float first, float second) {
  const uint32_t high = pack_half2(first, second);
  const float2 rounded = unpack_half2(high);
  return {high, pack_half2(first - rounded.x, second - rounded.y)};
}

// Registers of one lane; group = lane / 4, pair = lane % 4. kDim: the head dim rounded up to what the products take, zeros beyond.
template <int kDim, bool kIsQ8> struct Warp {
  static constexpr int kPieces = kDim / 32, kParts = kDim / 64;

  static constexpr bool kIsEager = kDim <= 128;  // values of the next turn are loaded before they are needed; of 256 dims there is no room for them

  int lane;
  uint32_t q[2 * kPieces][4];      // row `group`, dims 16 step..: upper half of a pair, lower half of it, the same of the next pair
  float unit;                      // of row `group`
  Chunk<kIsQ8> keys[2][kPieces];   // keys group and group + 8, the same dims
  Chunk<kIsQ8> values[4][kParts];  // keys 2 pair, 2 pair + 1 and those 8 further; dims 64 part + 8 group + 0..7
  // Q8_0: the d of their blocks, a lane for all that need one. Lane `pair` has those of pieces pair, pair + 4, of the keys; lane group % 4 = i those of
  // values[i], of the half of 64 dims that group / 4 is.
  uint32_t key_ds[2][(kPieces + 3) / 4], value_ds[kParts];
  float out[kParts][4][4];  // dims 64 part + 8 group + 2 i (and + 1: the last two), rows 2 pair, 2 pair + 1
  float highest, sum;       // of row `group`; the sum over this lane's keys only

  __device__ __forceinline__ void load_queries(const float* row_of_q, int head_dim, bool is_row, float scale) {
    const int pair = lane % 4;
    float4 x[kPieces][2];
    float largest = 0.0f;
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      const int dim = 32 * piece + 8 * pair;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float4& y = x[piece][half];
        y = is_row && dim < head_dim ? *reinterpret_cast<const float4*>(row_of_q + dim + 4 * half) : float4{0.0f, 0.0f, 0.0f, 0.0f};
        y = {y.x * scale, y.y * scale, y.z * scale, y.w * scale};
        largest = fmaxf(largest, fmaxf(fmaxf(fabsf(y.x), fabsf(y.y)), fmaxf(fabsf(y.z), fabsf(y.w))));
      }
    }
    const RowUnit row = find_unit(warp_max<4>(largest));
    unit = row.down;
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float4 y = x[piece][half];
        const TwoHalves first = split_pair(y.x * row.up, y.y * row.up), second = split_pair(y.z * row.up, y.w * row.up);
        uint32_t(&step)[4] = q[2 * piece + half];
        step[0] = first.high;
        step[1] = first.low;
        step[2] = second.high;
        step[3] = second.low;
      }
    }
    highest = kNothing;
    sum = 0.0f;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int i = 0; i < 16; ++i) out[part][i / 4][i % 4] = 0.0f;
    }
  }

  // Of keys of which n_left are left, none or more. Beyond them and beyond the head dim stand zeros or, with kKeeps, what stood there before: the
  // products with that were hidden, or added with a weight of zero, when it was loaded. `row` is this lane's first one, `dims` what is left of
  // the head dim from its first chunk on.
  template <bool kKeeps> __device__ __forceinline__ void load_keys(const uint8_t* row, int64_t row_bytes, int dims, int n_left, bool is_whole) {
    if (is_whole && n_left >= kTurnKeys) load_some_keys<true, kKeeps>(row, row_bytes, dims, n_left);
    else load_some_keys<false, kKeeps>(row, row_bytes, dims, n_left);
  }
  template <bool kKeeps> __device__ __forceinline__ void load_values(const uint8_t* row, int64_t row_bytes, int dims, int n_left, bool is_whole) {
    if (is_whole && n_left >= kTurnKeys) load_some_values<true, kKeeps>(row, row_bytes, dims, n_left);
    else load_some_values<false, kKeeps>(row, row_bytes, dims, n_left);
  }

  template <bool kIsAll, bool kKeeps> __device__ __forceinline__ void load_some_keys(const uint8_t* row, int64_t row_bytes, int dims, int n_left) {
    unsigned here = static_cast<unsigned>(lane);
    if constexpr (!kIsAll) make_opaque(here);  // what hangs on the lane is worked out again: the last turn may take its time
    const int group = static_cast<int>(here / 4), pair = static_cast<int>(here % 4);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const ChunkRow<kIsQ8> from(row, pair);
      const int n_dims = group + 8 * half < n_left ? dims : 0;
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        if (kIsAll || 32 * piece < n_dims) keys[half][piece].load(from, 32 * piece);
        else if constexpr (!kKeeps) keys[half][piece].clear();
      }
      if constexpr (kIsQ8) {
#pragma unroll
        for (int i = 0; i < (kPieces + 3) / 4; ++i) {
          if ((kIsAll && kPieces % 4 == 0) || 24 * pair + 128 * i < n_dims) key_ds[half][i] = load_d(row + (pair + 4 * i) * 34);
          else if constexpr (!kKeeps) key_ds[half][i] = 0;
        }
      }
      row += 8 * row_bytes;
    }
  }
  template <bool kIsAll, bool kKeeps> __device__ __forceinline__ void load_some_values(const uint8_t* row, int64_t row_bytes, int dims, int n_left) {
    unsigned here = static_cast<unsigned>(lane);
    if constexpr (!kIsAll) make_opaque(here);  // what hangs on the lane is worked out again: the last turn may take its time
    const int group = static_cast<int>(here / 4), pair = static_cast<int>(here % 4);
    const uint8_t* first_row = row;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const ChunkRow<kIsQ8> from(row, group);
      const int n_dims = 2 * pair + i % 2 + 8 * (i / 2) < n_left ? dims : 0;
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        if (kIsAll || 64 * part < n_dims) values[i][part].load(from, 64 * part);
        else if constexpr (!kKeeps) values[i][part].clear();
      }
      row += (i % 2 == 0 ? 1 : 7) * row_bytes;
    }
    if constexpr (kIsQ8) {
      const int key = group % 2 + group / 2 % 2 * 8;
      const int n_dims = 2 * pair + key < n_left ? dims + group % 4 * 8 : 0;
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        if (kIsAll || 64 * part < n_dims) value_ds[part] = load_d(first_row + key * row_bytes + 68 * part);
        else if constexpr (!kKeeps) value_ds[part] = 0;
      }
    }
  }

  // Scores of row `group` with keys 8 half + 2 pair and the next one.
  __device__ __forceinline__ void score(uint32_t shift, float (&scores)[2][2]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        uint32_t d = 0;
        if constexpr (kIsQ8) d = __shfl_sync(kAllLanes, key_ds[half][piece / 4], piece % 4, 4);
        const uint4 k = keys[half][piece].halves(shift, 32 * piece, d);
        const uint32_t first[2] = {k.x, k.y}, second[2] = {k.z, k.w};
        mma_m16n8k16(total, q[2 * piece], first, F16Tag{});
        mma_m16n8k16(total, q[2 * piece + 1], second, F16Tag{});
      }
      scores[half][0] = total[0] + total[2];
      scores[half][1] = total[1] + total[3];
    }
  }

  // Scores become weights; what was summed so far follows the new maximum. scores[0][0] is that of the `at`-th of the n_seen keys that the row sees,
  // or of one before them, which as a number without a sign is far behind them.
  __device__ __forceinline__ void weigh(float (&scores)[2][2], unsigned at, unsigned n_seen) {
    const int pair = lane % 4;
    float now = kNothing;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float& score = scores[i / 2][i % 2];
      score = at + 8 * (i / 2) + i % 2 < n_seen ? score * unit : kNothing;
      now = fmaxf(now, score);
    }
    const float before = highest;
    highest = fmaxf(highest, warp_max<4>(now));
    const float base = highest == kNothing ? 0.0f : highest - kWeightBits;
    if (__any_sync(kAllLanes, highest != before)) {
      const float correction = before == kNothing ? 0.0f : fast_exp2(before - highest);
      sum *= correction;
      const float first = __shfl_sync(kAllLanes, correction, 8 * pair), second = __shfl_sync(kAllLanes, correction, 8 * pair + 4);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
#pragma unroll
        for (int i = 0; i < 16; ++i) out[part][i / 4][i % 4] *= i % 2 == 0 ? first : second;
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float& score = scores[i / 2][i % 2];
      score = fast_exp2(score - base);
      sum += score;
    }
  }

  // `shift`: those of values[0] and values[2], and those of the others.
  __device__ __forceinline__ void add_values(const uint32_t (&shift)[2], const float (&weights)[2][2]) {
    const TwoHalves first = split_pair(weights[0][0], weights[0][1]), second = split_pair(weights[1][0], weights[1][1]);
    const uint32_t high[2] = {first.high, second.high}, low[2] = {first.low, second.low};
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      uint32_t ds[4] = {};
      if constexpr (kIsQ8) {
#pragma unroll
        for (int i = 0; i < 4; ++i) ds[i] = __shfl_sync(kAllLanes, value_ds[part], (lane & 0x13) | 4 * i);
      }
      const uint4 a = values[0][part].halves(shift[0], 64 * part, ds[0]), b = values[1][part].halves(shift[1], 64 * part, ds[1]);
      const uint4 c = values[2][part].halves(shift[0], 64 * part, ds[2]), d = values[3][part].halves(shift[1], 64 * part, ds[3]);
      const uint32_t lower[4][2] = {{a.x, b.x}, {a.y, b.y}, {a.z, b.z}, {a.w, b.w}}, upper[4][2] = {{c.x, d.x}, {c.y, d.y}, {c.z, d.z}, {c.w, d.w}};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint32_t v[4] = {__byte_perm(lower[i][0], lower[i][1], 0x5410), __byte_perm(lower[i][0], lower[i][1], 0x7632),
            __byte_perm(upper[i][0], upper[i][1], 0x5410), __byte_perm(upper[i][0], upper[i][1], 0x7632)};
        mma_m16n8k16(out[part][i], v, low, F16Tag{});
        mma_m16n8k16(out[part][i], v, high, F16Tag{});
      }
    }
  }
};

// What the four warps found, put together: rows of a tile. And who they work for, which nobody needs while keys are read: registers are what is short then.
template <int kDim> struct Found {
  Place place;
  int first_token, n_tokens;
  float highest[kWarps][kRows], sum[kWarps][kRows];
  float out[kWarps][kRows][kDim + 4];  // 4 more, so that rows begin in different banks
};

// Returns the first token behind these.
template <int kDim, bool kIsQ8> __device__ __forceinline__ int put_together(const AttendJob& job, Warp<kDim, kIsQ8>& mine, Found<kDim>& found) {
  unsigned thread = threadIdx.x;
  make_opaque(thread);
  const int lane = static_cast<int>(thread % kWarp), warp = static_cast<int>(thread / kWarp), group = lane / 4, pair = lane % 4;
  mine.sum = warp_sum<4>(mine.sum);
  if (pair == 0) {
    found.highest[warp][group] = mine.highest;
    found.sum[warp][group] = mine.sum;
  }
#pragma unroll
  for (int part = 0; part < mine.kParts; ++part) {
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      const float(&x)[4] = mine.out[part][i];
      const float(&y)[4] = mine.out[part][i + 1];
      const int dim = 64 * part + 8 * group + 2 * i;
      *reinterpret_cast<float4*>(&found.out[warp][2 * pair][dim]) = {x[0], x[2], y[0], y[2]};
      *reinterpret_cast<float4*>(&found.out[warp][2 * pair + 1][dim]) = {x[1], x[3], y[1], y[3]};
    }
  }
  __syncthreads();
  const Place place = found.place;
  const int first_token = found.first_token, n_rows = found.n_tokens * place.n_heads, next_token = first_token + found.n_tokens;
  const int n_vectors = job.head_dim / 4;
  for (int index = static_cast<int>(thread); index < n_rows * n_vectors; index += kWarps * kWarp) {
    const int row = index / n_vectors, dim = index % n_vectors * 4;
    float highest = found.highest[0][row];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) highest = fmaxf(highest, found.highest[w][row]);
    float sum = 0.0f;
    float4 out{0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float weight = found.highest[w][row] == kNothing ? 0.0f : fast_exp2(found.highest[w][row] - highest);
      const float4 x = *reinterpret_cast<const float4*>(&found.out[w][row][dim]);
      sum += weight * found.sum[w][row];
      out = {out.x + weight * x.x, out.y + weight * x.y, out.z + weight * x.z, out.w + weight * x.w};
    }
    const int64_t at = static_cast<int64_t>(first_token + row / place.n_heads) * job.n_heads + place.first_head + row % place.n_heads;
    if (job.n_splits > 1) {
      const int64_t part = at * job.n_splits + place.split;
      *reinterpret_cast<float4*>(job.parts + part * job.head_dim + dim) = out;
      if (dim == 0) job.states[part] = {highest - kWeightBits, sum};
    } else {
      const float norm = sum != 0.0f ? 1.0f / sum : 0.0f;
      *reinterpret_cast<float4*>(job.out + at * job.head_dim + dim) = {out.x * norm, out.y * norm, out.z * norm, out.w * norm};
      if (dim == 0 && job.lse != nullptr) job.lse[at] = log_sum(highest - kWeightBits, sum);
    }
  }
  __syncthreads();
  return next_token;
}

template <int kDim, bool kIsQ8> __global__ void __launch_bounds__(kWarps* kWarp, kDim <= 128 ? 3 : 2) attend_split_kernel(AttendJob job) {
  BANYAN_SHARED(found, Found<kDim>);
  const Place first_place = find_place(job);
  if (!is_ours(job, first_place.first_token)) return;
  if (threadIdx.x == 0) found.place = first_place;
  __syncthreads();
  for (int first_token = first_place.first_token; first_token < found.place.last_token;) {
    unsigned thread = threadIdx.x;
    make_opaque(thread);
    const int lane = static_cast<int>(thread % kWarp), warp = static_cast<int>(thread / kWarp), group = lane / 4, pair = lane % 4;
    const Place place = found.place;
    const KeyRun run = find_run(job, first_token, place.last_token);
    const int n_rows = run.n_tokens * place.n_heads;
    const KeySpan span = cut_keys(job, run, place.split);
    if (threadIdx.x == 0) {
      found.first_token = first_token;
      found.n_tokens = run.n_tokens;
    }
    const int token = first_token + group / place.n_heads;  // of row `group`
    const bool is_row = group < n_rows;
    const int begin = is_row ? job.begin(token) : 0, end = is_row ? min(job.end(token), span.to) : 0;
    const int64_t row = static_cast<int64_t>(token) * job.n_heads + place.first_head + group % place.n_heads;
    Warp<kDim, kIsQ8> mine;
    mine.lane = lane;
    const int first = span.from + kTurnKeys * warp;
    const int64_t turn_bytes = kWarps * kTurnKeys * job.row_bytes;
    const uint8_t* k = job.k + place.kv_head * job.head_bytes + (first + group) * job.row_bytes + Chunk<kIsQ8>::offset(pair);
    const uint8_t* v = job.v + place.kv_head * job.head_bytes + (first + 2 * pair) * job.row_bytes + Chunk<kIsQ8>::offset(group);
    int n_left = span.to - first;
    unsigned at = static_cast<unsigned>(first + 2 * pair - begin);
    const auto n_seen = static_cast<unsigned>(max(end - begin, 0));
    const uint32_t k_shift = ChunkRow<kIsQ8>::shift(k);
    uint32_t v_shift = ChunkRow<kIsQ8>::shift(v);
    int k_dims = job.head_dim - 8 * pair, v_dims = job.head_dim - 8 * group;
    mine.template load_keys<false>(k, job.row_bytes, k_dims, n_left, job.head_dim == kDim);
    if constexpr (mine.kIsEager) mine.template load_values<false>(v, job.row_bytes, v_dims, n_left, job.head_dim == kDim);
    mine.load_queries(job.q + row * job.head_dim, job.head_dim, is_row, job.scale * kLog2E);
    while (n_left > 0) {
      const int n_next = n_left - kWarps * kTurnKeys;
      float scores[2][2];
      make_opaque(k);
      make_opaque(v);
      make_opaque(k_dims);
      make_opaque(v_dims);
      if constexpr (kIsQ8) make_opaque(v_shift);
      mine.score(k_shift, scores);
      k += turn_bytes;
      if constexpr (mine.kIsEager) mine.template load_keys<true>(k, job.row_bytes, k_dims, n_next, job.head_dim == kDim);
      else mine.template load_values<false>(v, job.row_bytes, v_dims, n_left, job.head_dim == kDim);
      mine.weigh(scores, at, n_seen);
      mine.add_values({v_shift, v_shift ^ static_cast<uint32_t>(job.row_bytes & 2) * 8}, scores);
      v += turn_bytes;
      if constexpr (mine.kIsEager) mine.template load_values<true>(v, job.row_bytes, v_dims, n_next, job.head_dim == kDim);
      else mine.template load_keys<false>(k, job.row_bytes, k_dims, n_next, job.head_dim == kDim);
      n_left = n_next;
      at += kWarps * kTurnKeys;
    }
    first_token = put_together<kDim, kIsQ8>(job, mine, found);
  }
}

template <int kDim> void launch_dim(Backend& backend, const AttendJob& job, DType dtype) {
  const auto n_blocks = static_cast<unsigned>(count_blocks(job));
  launch({n_blocks, kWarps * kWarp}, backend.stream, dtype == DType::kQ8_0 ? attend_split_kernel<kDim, true> : attend_split_kernel<kDim, false>, job);
}

}  // namespace

void plan_attend_split(AttendJob& job) {
  job.tile_heads = min(job.group, kRows);
  job.n_head_tiles = (job.group + job.tile_heads - 1) / job.tile_heads;
  job.tile_tokens = kRows / job.tile_heads;
  job.n_tiles = (job.n_tokens + job.tile_tokens - 1) / job.tile_tokens;
  job.split_keys = kSplitKeys;
}

void launch_attend_split(Backend& backend, const AttendJob& job, DType dtype) {
  if (job.head_dim <= 64) launch_dim<64>(backend, job, dtype);
  else if (job.head_dim <= 128) launch_dim<128>(backend, job, dtype);
  else launch_dim<256>(backend, job, dtype);
}

}  // namespace banyan::cuda
