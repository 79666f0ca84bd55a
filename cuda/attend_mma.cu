// attend_mma: many queries, in tiles of up to 128 rows (token x head of one kv head, so that the heads of a group share every key that is loaded) against
// 64 keys at a time, on the tensor cores. Four warps have 32 rows each: a key that ldmatrix has fetched serves two products. The next keys and values
// come by cp.async while these are worked on (Q8_0: by loads that are converted on the way); one barrier a turn.
#include "cuda/attend_tile.cuh"
#include "cuda/prim/mma.cuh"
#include "cuda/prim/opaque.cuh"

namespace banyan::cuda {
namespace {

constexpr int kSplitKeys = 256;  // a split of fewer keys would not pay for its part

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

template <int kDim, bool kIsQ8> __global__ void __launch_bounds__(kTileThreads, 2) attend_mma_kernel(AttendJob job) {
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
  const LaunchShape shape{static_cast<unsigned>(count_blocks(job)), kTileThreads, T::kSharedBytes};
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
