// attend_mma: many queries, in tiles of up to 128 rows (token x head of one kv head, so that the heads of a group share every key that is loaded) against
// 64 keys at a time, on the tensor cores. Four warps have 32 rows each: a key that ldmatrix has fetched serves two products. The next keys and values
// come by cp.async while these are worked on (Q8_0: by loads that are converted on the way); one barrier a turn.
#include "cuda/attend_job.cuh"
#include "cuda/attend_keys.cuh"
#include "cuda/prim/math.cuh"
#include "cuda/prim/mma.cuh"
#include "cuda/prim/opaque.cuh"

namespace banyan::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr int kSplitKeys = 256;  // a split of fewer keys would not pay for its part

// Who a block works for: nobody needs it while keys are read, when registers are short.
struct Task {
  Place place;
  int first_token, n_tokens;
};

// Sizes for head dims up to kDim; shared memory: queries, then two turns of keys and values, all as halves, then a token's range and a unit per row,
// per warp the keys that some row sees and those that all rows see, and the task.
template <int kDim> struct Tile {
  static constexpr int kAtoms = kDim <= 128 ? 2 : 1;  // 16 rows each, of a warp; the sums of 256 dims leave no registers for more
  static constexpr int kRows = kWarps * kAtoms * 16;
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
                       kBoundsAt = kUnitsAt + kRows * static_cast<int>(sizeof(float)), kTaskAt = kBoundsAt + kWarps * static_cast<int>(sizeof(int4));
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
  for (int row = static_cast<int>(thread / kLanes); row < T::kRows; row += kThreads / kLanes) {
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
  static constexpr int kPass = kThreads / T::kLanes;

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

// What a warp keeps of its rows: atom a has rows 16 a + lane / 4 and 8 further.
template <int kDim> struct Rows {
  using T = Tile<kDim>;
  float out[T::kAtoms][kDim / 8][4];
  float highest[T::kAtoms][2], sum[T::kAtoms][2];  // the sum over this lane's keys only
  // Where this lane's rows begin, and what it names of queries, keys and values to ldmatrix: kept, or in a tight tile worked out in each turn.
  int row_;
  SharedAddress q_at_, k_at_, v_at_;

  static __device__ __forceinline__ unsigned thread() {
    unsigned thread = threadIdx.x;
    if constexpr (T::kIsTight) make_opaque(thread);
    return thread;
  }
  static __device__ __forceinline__ int find_row(unsigned thread) { return static_cast<int>(thread / kWarp * T::kAtoms * 16 + thread % kWarp / 4); }
  static __device__ __forceinline__ SharedAddress find_q(unsigned thread, unsigned char* shared) {
    return shared_address(shared + T::offset(static_cast<int>(thread / kWarp * T::kAtoms * 16 + thread % 16), static_cast<int>(thread % kWarp / 16)));
  }
  static __device__ __forceinline__ SharedAddress find_k(unsigned thread, unsigned char* shared) {
    return shared_address(T::keys(shared) + T::offset(static_cast<int>(thread % 8 + thread % kWarp / 16 * 8), static_cast<int>(thread / 8 % 2)));
  }
  static __device__ __forceinline__ SharedAddress find_v(unsigned thread, unsigned char* shared) {
    return shared_address(T::values(shared) + T::offset(static_cast<int>(thread % 16), static_cast<int>(thread % kWarp / 16)));
  }
  __device__ __forceinline__ int row() const { return T::kIsTight ? find_row(thread()) : row_; }
  __device__ __forceinline__ SharedAddress q_at(unsigned char* shared) const { return T::kIsTight ? find_q(thread(), shared) : q_at_; }
  __device__ __forceinline__ SharedAddress k_at(unsigned char* shared) const { return T::kIsTight ? find_k(thread(), shared) : k_at_; }
  __device__ __forceinline__ SharedAddress v_at(unsigned char* shared) const { return T::kIsTight ? find_v(thread(), shared) : v_at_; }

  __device__ __forceinline__ void start(unsigned thread, unsigned char* shared, int n_rows) {
    const int lane = static_cast<int>(thread % kWarp);
    const auto* ranges = reinterpret_cast<const int2*>(shared + T::kRangesAt);
    const int at = static_cast<int>(thread / kWarp) * T::kAtoms * 16 + lane % (T::kAtoms * 16);
    const int2 range = ranges[at];
    const bool is_row = at < n_rows;
    constexpr int kFar = 0x7FFFFFFF;
    int begin = is_row && range.x < range.y ? range.x : kFar, end = is_row && range.x < range.y ? range.y : -kFar;
    int all_begin = is_row ? range.x : -kFar, all_end = is_row ? range.y : kFar;
#pragma unroll
    for (int bits = kWarp / 2; bits > 0; bits /= 2) {
      begin = min(begin, __shfl_xor_sync(kAllLanes, begin, bits));
      end = max(end, __shfl_xor_sync(kAllLanes, end, bits));
      all_begin = max(all_begin, __shfl_xor_sync(kAllLanes, all_begin, bits));
      all_end = min(all_end, __shfl_xor_sync(kAllLanes, all_end, bits));
    }
    row_ = find_row(thread);
    q_at_ = find_q(thread, shared);
    k_at_ = find_k(thread, shared);
    v_at_ = find_v(thread, shared);
    make_opaque(row_);
    make_opaque(q_at_);
    make_opaque(k_at_);
    make_opaque(v_at_);
    if (lane == 0) reinterpret_cast<int4*>(shared + T::kBoundsAt)[thread / kWarp] = {begin, end, all_begin, all_end};
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 2 * T::kAtoms; ++i) {
      highest[i / 2][i % 2] = kNothing;
      sum[i / 2][i % 2] = 0.0f;
    }
#pragma unroll
    for (int a = 0; a < T::kAtoms; ++a) {
#pragma unroll
      for (int i = 0; i < kDim / 2; ++i) out[a][i / 4][i % 4] = 0.0f;
    }
  }

  // Scores of the rows with the keys of a turn, columns as in prim/mma.cuh.
  __device__ __forceinline__ void score(unsigned char* shared, unsigned side, float (&scores)[T::kAtoms][T::kKeys / 8][4]) const {
    const SharedAddress q_from = q_at(shared), k_from = k_at(shared) + side;
#pragma unroll
    for (int a = 0; a < T::kAtoms; ++a) {
#pragma unroll
      for (int i = 0; i < T::kKeys / 2; ++i) scores[a][i / 4][i % 4] = 0.0f;
    }
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
      uint32_t q[T::kAtoms][4];
#pragma unroll
      for (int a = 0; a < T::kAtoms; ++a) ldmatrix_x4(q[a], T::further(q_from, step) + 16 * a * T::kRowBytes);
#pragma unroll
      for (int i = 0; i < T::kKeys / 16; ++i) {
        uint32_t k[4];
        ldmatrix_x4(k, T::further(k_from, step) + 16 * i * T::kRowBytes);
#pragma unroll
        for (int a = 0; a < T::kAtoms; ++a) {
          mma_m16n8k16(scores[a][2 * i], q[a], {k[0], k[1]}, F16Tag{});
          mma_m16n8k16(scores[a][2 * i + 1], q[a], {k[2], k[3]}, F16Tag{});
        }
      }
    }
  }

  // Hides the keys that a row does not see; scores[a][0][0] is that of key `key`. Keys behind the span of a split are behind all rows' ranges.
  __device__ __forceinline__ void hide(const unsigned char* shared, int key, float (&scores)[T::kAtoms][T::kKeys / 8][4]) const {
    const int row = this->row(), lane = static_cast<int>(threadIdx.x) % kWarp;
    const auto* ranges = reinterpret_cast<const int2*>(shared + T::kRangesAt);
#pragma unroll
    for (int a = 0; a < T::kAtoms; ++a) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int2 range = ranges[row + 16 * a + 8 * half];
        const int from = range.x - key - 2 * (lane % 4), to = range.y - key - 2 * (lane % 4);
#pragma unroll
        for (int i = 0; i < T::kKeys / 8; ++i) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& score = scores[a][i][2 * half + e];
            score = 8 * i + e >= from && 8 * i + e < to ? score : kNothing;
          }
        }
      }
    }
  }

  // Scores become weights; what was summed so far follows the new maxima.
  __device__ __forceinline__ void weigh(const unsigned char* shared, float (&scores)[T::kAtoms][T::kKeys / 8][4]) {
    const auto* units = reinterpret_cast<const float*>(shared + T::kUnitsAt);
    const int row = this->row();
    float correction[T::kAtoms][2];
    bool is_higher = false;
#pragma unroll
    for (int a = 0; a < T::kAtoms; ++a) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float unit = units[row + 16 * a + 8 * half];
        float now = fmaxf(scores[a][0][2 * half], scores[a][0][2 * half + 1]);
#pragma unroll
        for (int i = 1; i < T::kKeys / 8; ++i) now = fmaxf(now, fmaxf(scores[a][i][2 * half], scores[a][i][2 * half + 1]));
        const float before = highest[a][half], after = fmaxf(before, warp_max<4>(now) * unit);
        const float base = after == kNothing ? 0.0f : after - kWeightBits;
        correction[a][half] = after == before ? 1.0f : fast_exp2(before - after);
        is_higher = is_higher || after != before;
        float total = sum[a][half] * correction[a][half];
#pragma unroll
        for (int i = 0; i < T::kKeys / 8; ++i) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& score = scores[a][i][2 * half + e];
            score = fast_exp2(fmaf(score, unit, -base));
            total += score;
          }
        }
        sum[a][half] = total;
        highest[a][half] = after;
      }
    }
    if (!__any_sync(kAllLanes, is_higher)) return;
#pragma unroll
    for (int a = 0; a < T::kAtoms; ++a) {
#pragma unroll
      for (int i = 0; i < kDim / 2; ++i) out[a][i / 4][i % 4] *= correction[a][i % 4 / 2];
    }
  }

  __device__ __forceinline__ void add_values(unsigned char* shared, unsigned side, const float (&weights)[T::kAtoms][T::kKeys / 8][4]) {
    const SharedAddress v_from = v_at(shared) + side;
#pragma unroll
    for (int step = 0; step < T::kKeys / 16; ++step) {
      uint32_t p[T::kAtoms][4];
#pragma unroll
      for (int a = 0; a < T::kAtoms; ++a) {
#pragma unroll
        for (int i = 0; i < 4; ++i) p[a][i] = pack_half2(weights[a][2 * step + i / 2][i % 2 * 2], weights[a][2 * step + i / 2][i % 2 * 2 + 1]);
      }
#pragma unroll
      for (int i = 0; i < kDim / 16; ++i) {
        uint32_t v[4];
        ldmatrix_x4_trans(v, T::further(v_from, i) + 16 * step * T::kRowBytes);
#pragma unroll
        for (int a = 0; a < T::kAtoms; ++a) {
          mma_m16n8k16(out[a][2 * i], p[a], {v[0], v[1]}, F16Tag{});
          mma_m16n8k16(out[a][2 * i + 1], p[a], {v[2], v[3]}, F16Tag{});
        }
      }
    }
  }

  __device__ __forceinline__ void write(const AttendJob& job, const Place& place, int first_token, int n_rows) {
    const int row = this->row(), lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int a = 0; a < T::kAtoms; ++a) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float total = warp_sum<4>(sum[a][half]), base = highest[a][half] - kWeightBits;
        const int index = row + 16 * a + 8 * half;
        if (index >= n_rows) continue;
        const int64_t at = static_cast<int64_t>(first_token + index / place.n_heads) * job.n_heads + place.first_head + index % place.n_heads;
        float* to = job.out + at * job.head_dim;
        float norm = total != 0.0f ? 1.0f / total : 0.0f;
        if (job.n_splits > 1) {
          const int64_t part = at * job.n_splits + place.split;
          to = job.parts + part * job.head_dim;
          norm = 1.0f;
          if (lane % 4 == 0) job.states[part] = {base, total};
        } else if (lane % 4 == 0 && job.lse != nullptr) {
          job.lse[at] = log_sum(base, total);
        }
#pragma unroll
        for (int i = 0; i < kDim / 8; ++i) {
          if (8 * i < job.head_dim)
            *reinterpret_cast<float2*>(to + 8 * i + lane % 4 * 2) = {out[a][i][2 * half] * norm, out[a][i][2 * half + 1] * norm};
        }
      }
    }
  }
};

template <int kDim, bool kIsQ8> __global__ void __launch_bounds__(kThreads, 2) attend_mma_kernel(AttendJob job) {
  using T = Tile<kDim>;
  BANYAN_DYNAMIC_SHARED_ALIGNED(shared, 512);
  auto& task = *reinterpret_cast<Task*>(shared + T::kTaskAt);
  const Place first_place = find_place(job);
  if (!is_ours(job, first_place.first_token)) return;
  if (threadIdx.x == 0) task.place = first_place;
  __syncthreads();
  for (int first_token = first_place.first_token; first_token < task.place.last_token;) {
    const Place place = task.place;
    const KeyRun run = find_run(job, first_token, place.last_token);
    const int n_rows = run.n_tokens * place.n_heads;
    const KeySpan span = cut_keys(job, run, place.split);
    unsigned thread = Rows<kDim>::thread();
    using F = Filler<kDim, kIsQ8>;
    int64_t at = place.kv_head * job.head_bytes + span.from * job.row_bytes + F::place(job, thread);  // of keys and of values
    F::fill(job, thread, job.k + at, span.to - span.from, T::keys(shared));
    F::fill(job, thread, job.v + at, span.to - span.from, T::values(shared));
    cp_async_commit();
    load_queries<kDim>(job, place, first_token, n_rows, span.to, thread, shared);
    if (thread == 0) {
      task.first_token = first_token;
      task.n_tokens = run.n_tokens;
    }
    __syncthreads();
    Rows<kDim> rows;
    rows.start(thread, shared, n_rows);
    unsigned side = 0;
    for (int key = span.from - span.to; key < 0; key += T::kKeys, side ^= T::kOtherSide) {
      thread = rows.thread();
      make_opaque(at);
      cp_async_wait<0>();
      __syncthreads();  // this turn has come, and nobody reads the one before it any more
      if (key + T::kKeys < 0) {
        at += T::kKeys * job.row_bytes;
        F::fill(job, thread, job.k + at, -T::kKeys - key, T::keys(shared) + (side ^ T::kOtherSide));
        F::fill(job, thread, job.v + at, -T::kKeys - key, T::values(shared) + (side ^ T::kOtherSide));
      }
      cp_async_commit();
      const int4 bounds = reinterpret_cast<const int4*>(shared + T::kBoundsAt)[thread / kWarp];
      if (key >= bounds.y || key + T::kKeys <= bounds.x) continue;
      float scores[T::kAtoms][T::kKeys / 8][4];
      rows.score(shared, side, scores);
      if (key < bounds.z || key + T::kKeys > bounds.w) rows.hide(shared, key, scores);
      rows.weigh(shared, scores);
      rows.add_values(shared, side, scores);
    }
    const Task done = task;
    rows.write(job, done.place, done.first_token, done.n_tokens * done.place.n_heads);
    first_token = done.first_token + done.n_tokens;
    if (first_token < done.place.last_token) {
      cp_async_wait<0>();
      __syncthreads();
    }
  }
}

template <int kDim> void launch_dim(Backend& backend, const AttendJob& job, DType dtype) {
  using T = Tile<kDim>;
  const LaunchShape shape{static_cast<unsigned>(count_blocks(job)), kThreads, T::kSharedBytes};
  launch(shape, backend.stream, dtype == DType::kQ8_0 ? attend_mma_kernel<kDim, true> : attend_mma_kernel<kDim, false>, job);
}

}  // namespace

void plan_attend_mma(AttendJob& job) {
  const int n_rows = job.head_dim <= 128 ? Tile<128>::kRows : Tile<256>::kRows;
  job.tile_heads = min(job.group, n_rows);
  job.n_head_tiles = (job.group + job.tile_heads - 1) / job.tile_heads;
  job.tile_tokens = n_rows / job.tile_heads;
  job.n_tiles = (job.n_tokens + job.tile_tokens - 1) / job.tile_tokens;
  job.split_keys = kSplitKeys;
}

void launch_attend_mma(Backend& backend, const AttendJob& job, DType dtype) {
  if (job.head_dim <= 64) launch_dim<64>(backend, job, dtype);
  else if (job.head_dim <= 96) launch_dim<96>(backend, job, dtype);
  else if (job.head_dim <= 128) launch_dim<128>(backend, job, dtype);
  else launch_dim<256>(backend, job, dtype);
}

}  // namespace banyan::cuda
