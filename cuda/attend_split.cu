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

  uint32_t q[2 * kPieces][4];      // row `group`, dims 16 step..: upper half of a pair, lower half of it, the same of the next pair
  float unit;                      // of row `group`
  Chunk<kIsQ8> keys[2][kPieces];   // keys group and group + 8, the same dims
  Chunk<kIsQ8> values[4][kParts];  // keys 2 pair, 2 pair + 1 and those 8 further; dims 64 part + 8 group + 0..7
  float out[kParts][4][4];         // dims 64 part + 8 group + 2 i (and + 1: the last two), rows 2 pair, 2 pair + 1
  float highest, sum;              // of row `group`; the sum over this lane's keys only

  __device__ __forceinline__ void load_queries(const float* row_of_q, int head_dim, bool is_row, float scale) {
    const int pair = static_cast<int>(threadIdx.x) % 4;
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

  // Of keys of which n_left are left, none or more; zeros beyond. `row` is this lane's first one, at its first chunk.
  __device__ __forceinline__ void load_keys(const uint8_t* row, int64_t row_bytes, int head_dim, int n_left) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, group = lane / 4, pair = lane % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        if (group + 8 * half < n_left && 32 * piece + 8 * pair < head_dim) keys[half][piece].load(row, pair, 32 * piece);
        else keys[half][piece].clear();
      }
      row += 8 * row_bytes;
    }
  }
  __device__ __forceinline__ void load_values(const uint8_t* row, int64_t row_bytes, int head_dim, int n_left) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, group = lane / 4, pair = lane % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        if (2 * pair + i % 2 + 8 * (i / 2) < n_left && 64 * part + 8 * group < head_dim) values[i][part].load(row, group, 64 * part);
        else values[i][part].clear();
      }
      row += (i % 2 == 0 ? 1 : 7) * row_bytes;
    }
  }

  // Scores of row `group` with keys 8 half + 2 pair and the next one.
  __device__ __forceinline__ void score(const uint8_t* row, int64_t row_bytes, float (&scores)[2][2]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        const uint4 k = keys[half][piece].halves(row + 8 * half * row_bytes, 32 * piece);
        const uint32_t first[2] = {k.x, k.y}, second[2] = {k.z, k.w};
        mma_m16n8k16(total, q[2 * piece], first, F16Tag{});
        mma_m16n8k16(total, q[2 * piece + 1], second, F16Tag{});
      }
      scores[half][0] = total[0] + total[2];
      scores[half][1] = total[1] + total[3];
    }
  }

  // Scores become weights; what was summed so far follows the new maximum. `key`: that of scores[0][0]; the row sees keys [begin, end).
  __device__ __forceinline__ void weigh(float (&scores)[2][2], int key, int begin, int end) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, pair = lane % 4;
    float now = kNothing;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = key + 8 * (i / 2) + i % 2;
      float& score = scores[i / 2][i % 2];
      score = at >= begin && at < end ? score * unit : kNothing;
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

  __device__ __forceinline__ void add_values(const uint8_t* row, int64_t row_bytes, const float (&weights)[2][2]) {
    const TwoHalves first = split_pair(weights[0][0], weights[0][1]), second = split_pair(weights[1][0], weights[1][1]);
    const uint32_t high[2] = {first.high, second.high}, low[2] = {first.low, second.low};
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const uint4 a = values[0][part].halves(row, 64 * part), b = values[1][part].halves(row + row_bytes, 64 * part);
      const uint4 c = values[2][part].halves(row + 8 * row_bytes, 64 * part), d = values[3][part].halves(row + 9 * row_bytes, 64 * part);
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

// What the four warps found, put together: rows of a tile.
template <int kDim> struct Found {
  float highest[kWarps][kRows], sum[kWarps][kRows];
  float out[kWarps][kRows][kDim + 4];  // 4 more, so that rows begin in different banks
};

template <int kDim, bool kIsQ8> __device__ __forceinline__ void put_together(
    const AttendJob& job, const Place& place, int first_token, int n_rows, Warp<kDim, kIsQ8>& mine, Found<kDim>& found) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp, group = lane / 4, pair = lane % 4;
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
  const int n_vectors = job.head_dim / 4;
  for (int index = static_cast<int>(threadIdx.x); index < n_rows * n_vectors; index += kWarps * kWarp) {
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
}

template <int kDim, bool kIsQ8> __global__ void __launch_bounds__(kWarps* kWarp, kDim <= 128 ? 3 : 2) attend_split_kernel(AttendJob job) {
  BANYAN_SHARED(found, Found<kDim>);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp, group = lane / 4, pair = lane % 4;
  const Place place = find_place(job);
  if (!is_ours(job, place.first_token)) return;
  for (int first_token = place.first_token; first_token < place.last_token;) {
    const KeyRun run = find_run(job, first_token, place.last_token);
    const int n_rows = run.n_tokens * place.n_heads;
    const KeySpan span = cut_keys(job, run, place.split);
    const int token = first_token + group / place.n_heads;  // of row `group`
    const bool is_row = group < n_rows;
    const int begin = is_row ? job.begin(token) : 0, end = is_row ? min(job.end(token), span.to) : 0;
    const int64_t row = static_cast<int64_t>(token) * job.n_heads + place.first_head + group % place.n_heads;
    Warp<kDim, kIsQ8> mine;
    const int first = span.from + kTurnKeys * warp;
    const int64_t turn_bytes = kWarps * kTurnKeys * job.row_bytes;
    const uint8_t* k = job.k + place.kv_head * job.head_bytes + (first + group) * job.row_bytes + Chunk<kIsQ8>::offset(pair);
    const uint8_t* v = job.v + place.kv_head * job.head_bytes + (first + 2 * pair) * job.row_bytes + Chunk<kIsQ8>::offset(group);
    mine.load_keys(k, job.row_bytes, job.head_dim, span.to - first);
    if constexpr (mine.kIsEager) mine.load_values(v, job.row_bytes, job.head_dim, span.to - first);
    mine.load_queries(job.q + row * job.head_dim, job.head_dim, is_row, job.scale * kLog2E);
    for (int key = first; key < span.to; key += kWarps * kTurnKeys) {
      const int n_left = span.to - key, n_next = n_left - kWarps * kTurnKeys;
      float scores[2][2];
      mine.score(k, job.row_bytes, scores);
      k += turn_bytes;
      if constexpr (mine.kIsEager) mine.load_keys(k, job.row_bytes, job.head_dim, n_next);
      else mine.load_values(v, job.row_bytes, job.head_dim, n_left);
      mine.weigh(scores, key + 2 * pair, begin, end);
      mine.add_values(v, job.row_bytes, scores);
      v += turn_bytes;
      if constexpr (mine.kIsEager) mine.load_values(v, job.row_bytes, job.head_dim, n_next);
      else mine.load_keys(k, job.row_bytes, job.head_dim, n_next);
    }
    put_together<kDim, kIsQ8>(job, place, first_token, n_rows, mine, found);
    first_token += run.n_tokens;
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
