// attend_exact: attention in float32 throughout, for F32 keys, for exact mode, and for head dims and addresses that the others cannot take (any head
// dim up to 1024, any alignment that an element may have). Four warps walk the same keys in turns of 32. A lane owns a key while scores are made and
// dims while values are added; queries and weights are passed through shared memory.
#include "cuda/attend_job.cuh"
#include "cuda/prim/half.cuh"
#include "cuda/prim/memory.cuh"

namespace banyan::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr int kTurnKeys = kWarp;  // of a warp at a time
constexpr int kSplitKeys = 512;   // a split of fewer keys would not pay for its part
constexpr int kMaxDim = 1024;     // as on the CPU

// Elements dim .. dim + 3 of a row, zeros from head_dim on. is_whole: head_dim is a multiple of 4 and the row lies at a multiple of 4 elements.
template <DType kFormat> __device__ __forceinline__ float4 load_four(const uint8_t* row, int dim, int head_dim, bool is_whole) {
  float x[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  if constexpr (kFormat == DType::kQ8_0) {
    const uint8_t* block = row + dim / 32 * 34;
    const float d = half_to_float(__ldg(reinterpret_cast<const uint16_t*>(block)));
    const auto* quants = reinterpret_cast<const uint16_t*>(block + 2 + dim % 32);
    const uint32_t low = __ldg(quants), high = __ldg(quants + 1);
    return {d * static_cast<float>(static_cast<int8_t>(low)), d * static_cast<float>(static_cast<int8_t>(low >> 8)),
        d * static_cast<float>(static_cast<int8_t>(high)), d * static_cast<float>(static_cast<int8_t>(high >> 8))};
  } else if constexpr (kFormat == DType::kF16) {
    const auto* halves = reinterpret_cast<const uint16_t*>(row) + dim;
    if (is_whole) {
      const uint2 bits = __ldg(reinterpret_cast<const uint2*>(halves));
      const float2 low = unpack_half2(bits.x), high = unpack_half2(bits.y);
      return {low.x, low.y, high.x, high.y};
    }
    for (int i = 0; i < 4; ++i) {
      if (dim + i < head_dim) x[i] = half_to_float(__ldg(halves + i));
    }
  } else {
    const float* floats = reinterpret_cast<const float*>(row) + dim;
    if (is_whole) return __ldg(reinterpret_cast<const float4*>(floats));
    for (int i = 0; i < 4; ++i) {
      if (dim + i < head_dim) x[i] = __ldg(floats + i);
    }
  }
  return {x[0], x[1], x[2], x[3]};
}

// Shared memory of a block: queries and, of each warp, weights; then what the warps found.
template <int kRows, int kDim> struct Shared {
  float q[kRows][kDim];
  float weights[kWarps][kTurnKeys][kRows];
  float highest[kWarps][kRows], sum[kWarps][kRows];
  float out[kWarps][kRows][kDim];
};

template <int kRows, int kDim>
__device__ __forceinline__ void load_queries(const AttendJob& job, const Place& place, int first_token, int n_rows, Shared<kRows, kDim>& shared) {
  const float scale = job.scale * kLog2E;
  for (int index = static_cast<int>(threadIdx.x); index < kRows * kDim; index += kThreads) {
    const int row = index / kDim, dim = index % kDim;
    const int64_t at = static_cast<int64_t>(first_token + row / place.n_heads) * job.n_heads + place.first_head + row % place.n_heads;
    shared.q[row][dim] = row < n_rows && dim < job.head_dim ? job.q[at * job.head_dim + dim] * scale : 0.0f;
  }
}

// Puts the four warps' findings together and writes the rows of a tile.
template <int kRows, int kDim>
__device__ __forceinline__ void write(const AttendJob& job, const Place& place, int first_token, int n_rows, const Shared<kRows, kDim>& shared) {
  for (int index = static_cast<int>(threadIdx.x); index < n_rows * job.head_dim; index += kThreads) {
    const int row = index / job.head_dim, dim = index % job.head_dim;
    float highest = shared.highest[0][row], sum = 0.0f, out = 0.0f;
    for (int w = 1; w < kWarps; ++w) highest = fmaxf(highest, shared.highest[w][row]);
    for (int w = 0; w < kWarps; ++w) {
      const float weight = shared.highest[w][row] == kNothing ? 0.0f : exp2f(shared.highest[w][row] - highest);
      sum += weight * shared.sum[w][row];
      out += weight * shared.out[w][row][dim];
    }
    const int64_t at = static_cast<int64_t>(first_token + row / place.n_heads) * job.n_heads + place.first_head + row % place.n_heads;
    if (job.n_splits > 1) {
      const int64_t part = at * job.n_splits + place.split;
      job.parts[part * job.head_dim + dim] = out;
      if (dim == 0) job.states[part] = {highest, sum};
    } else {
      job.out[at * job.head_dim + dim] = sum != 0.0f ? out / sum : 0.0f;
      if (dim == 0 && job.lse != nullptr) job.lse[at] = log_sum(highest, sum);
    }
  }
}

template <DType kFormat, int kRows, int kDim> __global__ void __launch_bounds__(kThreads) attend_exact_kernel(AttendJob job, bool is_whole) {
  constexpr int kVectors = kDim / (4 * kWarp);  // of 4 dims, of a lane
  BANYAN_DYNAMIC_SHARED(bytes);
  auto& shared = *reinterpret_cast<Shared<kRows, kDim>*>(bytes);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const Place place = find_place(job);
  const uint8_t* k = job.k + place.kv_head * job.head_bytes;
  const uint8_t* v = job.v + place.kv_head * job.head_bytes;
  for (int first_token = place.first_token; first_token < place.last_token;) {
    const KeyRun run = find_run(job, first_token, place.last_token);
    const int n_rows = run.n_tokens * place.n_heads;
    const KeySpan span = cut_keys(job, run, place.split);
    load_queries<kRows, kDim>(job, place, first_token, n_rows, shared);
    __syncthreads();
    int begin[kRows], end[kRows];
    float highest[kRows], sum[kRows], out[kRows][4 * kVectors];
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const int token = first_token + row / place.n_heads;
      begin[row] = row < n_rows ? job.begin(token) : 0;
      end[row] = row < n_rows ? min(job.end(token), span.to) : 0;
      highest[row] = kNothing;
      sum[row] = 0.0f;
#pragma unroll
      for (int i = 0; i < 4 * kVectors; ++i) out[row][i] = 0.0f;
    }
    for (int key = span.from + kTurnKeys * warp; key < span.to; key += kWarps * kTurnKeys) {
      const int mine = key + lane, n_keys = min(kTurnKeys, span.to - key);
      float scores[kRows];
#pragma unroll
      for (float& score : scores) score = 0.0f;
      if (mine < span.to) {
        const uint8_t* row_of_key = k + mine * job.row_bytes;
        for (int dim = 0; dim < job.head_dim; dim += 4) {
          const float4 x = load_four<kFormat>(row_of_key, dim, job.head_dim, is_whole);
#pragma unroll
          for (int row = 0; row < kRows; ++row) {
            const float4 q = *reinterpret_cast<const float4*>(&shared.q[row][dim]);
            scores[row] = fmaf(q.x, x.x, fmaf(q.y, x.y, fmaf(q.z, x.z, fmaf(q.w, x.w, scores[row]))));
          }
        }
      }
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        if (mine < begin[row] || mine >= end[row]) scores[row] = kNothing;
        const float before = highest[row];
        highest[row] = fmaxf(before, warp_max(scores[row]));
        const float correction = before == kNothing ? 0.0f : exp2f(before - highest[row]);
        const float weight = exp2f(scores[row] - (highest[row] == kNothing ? 0.0f : highest[row]));
        sum[row] = sum[row] * correction + weight;
        shared.weights[warp][lane][row] = weight;
#pragma unroll
        for (int i = 0; i < 4 * kVectors; ++i) out[row][i] *= correction;
      }
      __syncwarp();
      for (int i = 0; i < n_keys; ++i) {
        const uint8_t* row_of_value = v + (key + i) * job.row_bytes;
#pragma unroll
        for (int n = 0; n < kVectors; ++n) {
          const int dim = 4 * (lane + kWarp * n);
          if (dim >= job.head_dim) continue;
          const float4 x = load_four<kFormat>(row_of_value, dim, job.head_dim, is_whole);
#pragma unroll
          for (int row = 0; row < kRows; ++row) {
            const float weight = shared.weights[warp][i][row];
            out[row][4 * n] = fmaf(weight, x.x, out[row][4 * n]);
            out[row][4 * n + 1] = fmaf(weight, x.y, out[row][4 * n + 1]);
            out[row][4 * n + 2] = fmaf(weight, x.z, out[row][4 * n + 2]);
            out[row][4 * n + 3] = fmaf(weight, x.w, out[row][4 * n + 3]);
          }
        }
      }
      __syncwarp();
    }
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const float total = warp_sum(sum[row]);
      if (lane == 0) {
        shared.highest[warp][row] = highest[row];
        shared.sum[warp][row] = total;
      }
#pragma unroll
      for (int n = 0; n < kVectors; ++n)
        *reinterpret_cast<float4*>(&shared.out[warp][row][4 * (lane + kWarp * n)]) = {
            out[row][4 * n], out[row][4 * n + 1], out[row][4 * n + 2], out[row][4 * n + 3]};
    }
    __syncthreads();
    write<kRows, kDim>(job, place, first_token, n_rows, shared);
    __syncthreads();
    first_token += run.n_tokens;
  }
}

// Rows of a tile by head dim: what the registers hold.
constexpr int rows_of(int head_dim) { return head_dim <= 128 ? 8 : head_dim <= 256 ? 4 : 1; }

template <DType kFormat, int kDim> void launch_dim(Backend& backend, const AttendJob& job, bool is_whole) {
  constexpr int kRows = rows_of(kDim);
  launch({static_cast<unsigned>(count_blocks(job)), kThreads, sizeof(Shared<kRows, kDim>)}, backend.stream, attend_exact_kernel<kFormat, kRows, kDim>,
      job, is_whole);
}
template <DType kFormat> void launch_format(Backend& backend, const AttendJob& job, bool is_whole) {
  if (job.head_dim <= 128) launch_dim<kFormat, 128>(backend, job, is_whole);
  else if (job.head_dim <= 256) launch_dim<kFormat, 256>(backend, job, is_whole);
  else launch_dim<kFormat, kMaxDim>(backend, job, is_whole);
}

}  // namespace

void plan_attend_exact(AttendJob& job) {
  const int n_rows = rows_of(job.head_dim);
  job.tile_heads = min(job.group, n_rows);
  job.n_head_tiles = (job.group + job.tile_heads - 1) / job.tile_heads;
  job.tile_tokens = n_rows / job.tile_heads;
  job.n_tiles = (job.n_tokens + job.tile_tokens - 1) / job.tile_tokens;
  job.split_keys = kSplitKeys;
}

void launch_attend_exact(Backend& backend, const AttendJob& job, DType dtype) {
  const auto address =
      reinterpret_cast<uintptr_t>(job.k) | reinterpret_cast<uintptr_t>(job.v) | static_cast<uintptr_t>(job.row_bytes | job.head_bytes);
  const bool is_whole = job.head_dim % 4 == 0 && address % row_bytes(dtype == DType::kQ8_0 ? DType::kF16 : dtype, 4) == 0;
  if (dtype == DType::kQ8_0) launch_format<DType::kQ8_0>(backend, job, true);
  else if (dtype == DType::kF16) launch_format<DType::kF16>(backend, job, is_whole);
  else launch_format<DType::kF32>(backend, job, is_whole);
}

}  // namespace banyan::cuda
