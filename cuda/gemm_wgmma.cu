// gemm of many tokens on compute capability 9.0: one warp asks the copy engine for boxes of tokens and of weights, two warpgroups multiply 64 tokens
// each with 128 or 256 rows of weights, four steps of 64 columns in flight; a block goes from tile to tile. Weights are F16 or BF16 in memory; other
// formats, and rows that are not aligned, are unpacked to f16 first, so many rows at a time that the scratch memory stays small.
//
// BANYAN_CUDA_WGMMA=0 leaves this path out, and so does the emulator: it cannot be emulated. gemm_mma.cu then does the same work.
#include "cuda/gemm.h"

#ifdef BANYAN_EMULATE

namespace banyan::cuda {
bool gemm_wgmma(Backend&, const GemmArgs&) { return false; }
}  // namespace banyan::cuda

#else

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cuda/backend.h"
#include "cuda/prim/launch.cuh"
#include "cuda/prim/tma.cuh"
#include "cuda/prim/warp.cuh"
#include "cuda/prim/wgmma.cuh"

namespace banyan::cuda {
namespace {

constexpr int kM = 128;  // tokens of a tile
constexpr int kStages = 4;
constexpr int kGroup = 16;  // tiles of tokens that run together: with 8 of rows they fill the device and fit into its L2
constexpr int kWarpgroup = 128;
constexpr int kThreads = 3 * kWarpgroup;
constexpr int kConsumerWarps = 8;
// Registers a thread, multiples of 8: (40 + 2 * 232) * 128 = 64512 of 65536. 256 rows are 128 sums a thread.
constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;

constexpr int kXBytes = kM * 2 * kDepth;
template <int kN> constexpr int kStageBytes = kXBytes + kN * 2 * kDepth;
template <int kN> constexpr size_t kSharedBytes = size_t{kStages} * kStageBytes<kN> + 1024;  // tiles begin at multiples of 1024

struct Hopper {
  float* out;                   // row stride out_stride; [slices, T, out_stride] if there are several
  const float* inverse_scales;  // [T]
  const float* bias;
  int64_t rows, out_stride;
  int n_tokens, n_steps, slice_steps, n_slices, tiles_m, tiles_n;
  bool is_accumulated;
};

// The work of a block, one tile after another.
struct Tile {
  int m, n, slice, first_step, end_step;
};
__device__ __forceinline__ Tile tile_of(const Hopper& p, int index) {
  Tile tile;
  const int n_tiles = p.tiles_m * p.tiles_n;
  tile.slice = index / n_tiles;
  const int i = index % n_tiles, group = i / (kGroup * p.tiles_n), in_group = i % (kGroup * p.tiles_n);
  const int group_m = min(kGroup, p.tiles_m - group * kGroup);
  tile.m = group * kGroup + in_group % group_m;
  tile.n = in_group / group_m;
  tile.first_step = tile.slice * p.slice_steps;
  tile.end_step = min(tile.first_step + p.slice_steps, p.n_steps);
  return tile;
}

// Where the ring stands: the parity of a stage's phase turns each time round.
struct Ring {
  int stage = 0, parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

template <int kN> __device__ __forceinline__ void produce(
    const CUtensorMap& x_map, const CUtensorMap& w_map, const Hopper& p, unsigned char* tiles, Barrier* full, Barrier* empty) {
  Ring ring;
  for (int index = static_cast<int>(blockIdx.x); index < p.tiles_m * p.tiles_n * p.n_slices; index += static_cast<int>(gridDim.x)) {
    const Tile tile = tile_of(p, index);
    for (int step = tile.first_step; step < tile.end_step; ++step, ring.advance()) {
      barrier_wait(empty[ring.stage], ring.parity ^ 1);
      barrier_arrive_expect(full[ring.stage], kStageBytes<kN>);
      unsigned char* stage = tiles + ring.stage * kStageBytes<kN>;
      copy_box(stage, x_map, full[ring.stage], step * kDepth, tile.m * kM);
      copy_box(stage + kXBytes, w_map, full[ring.stage], step * kDepth, tile.n * kN);
    }
  }
}

// Tiles in the middle of an aligned matrix are stored in pairs; the code for all others is out of their way.
template <int kN> __device__ __forceinline__ void store_tile(const Hopper& p, const Tile& tile, const float (&sums)[kN / 2], int warpgroup) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  const int64_t first_row = static_cast<int64_t>(tile.n) * kN + 2 * (thread % 4);
  float* const out = p.out + static_cast<int64_t>(tile.slice) * p.n_tokens * p.out_stride;
  const bool is_whole = p.out_stride % 2 == 0 && reinterpret_cast<uintptr_t>(p.out) % 8 == 0 && static_cast<int64_t>(tile.n + 1) * kN <= p.rows;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t token = static_cast<int64_t>(tile.m) * kM + 64 * warpgroup + thread / 32 * 16 + thread % 32 / 4 + 8 * half;
    if (token >= p.n_tokens) continue;
    const float scale = p.inverse_scales[token];
    float* const at = out + token * p.out_stride + first_row;
    const float* const bias = p.bias + first_row;
    if (is_whole) {
#pragma unroll
      for (int j = 0; j < kN / 8; ++j) {
        float2 pair{sums[4 * j + 2 * half] * scale, sums[4 * j + 2 * half + 1] * scale};
        if (p.bias != nullptr) {
          pair.x += bias[8 * j];
          pair.y += bias[8 * j + 1];
        }
        if (p.is_accumulated) {
          const float2 before = *reinterpret_cast<const float2*>(at + 8 * j);
          pair.x += before.x;
          pair.y += before.y;
        }
        *reinterpret_cast<float2*>(at + 8 * j) = pair;
      }
    } else {
#pragma unroll
      for (int j = 0; j < kN / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (first_row + 8 * j + i >= p.rows) break;
          float sum = sums[4 * j + 2 * half + i] * scale;
          if (p.bias != nullptr) sum += bias[8 * j + i];
          at[8 * j + i] = p.is_accumulated ? at[8 * j + i] + sum : sum;
        }
      }
    }
  }
}

template <class Tag, int kN>
__device__ __forceinline__ void consume(const Hopper& p, unsigned char* tiles, Barrier* full, Barrier* empty, int warpgroup) {
  const bool is_first_lane = threadIdx.x % kWarp == 0;
  const uint32_t tiles_address = shared_address(tiles);
  Ring ring;
  for (int index = static_cast<int>(blockIdx.x); index < p.tiles_m * p.tiles_n * p.n_slices; index += static_cast<int>(gridDim.x)) {
    const Tile tile = tile_of(p, index);
    float sums[kN / 2];
    int last_stage = -1;
    for (int step = tile.first_step; step < tile.end_step; ++step, ring.advance()) {
      barrier_wait(full[ring.stage], ring.parity);
      const uint32_t stage = tiles_address + static_cast<uint32_t>(ring.stage * kStageBytes<kN>);
      const uint64_t x = tile_descriptor(stage + static_cast<uint32_t>(warpgroup * 64 * 2 * kDepth)), w = tile_descriptor(stage + kXBytes);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < kDepth / 16; ++k)
        wgmma_k16(sums, x + static_cast<uint64_t>(2 * k), w + static_cast<uint64_t>(2 * k), step != tile.first_step || k != 0, Tag{});
      wgmma_commit();
      // The step before is done: its stage may be filled. This one goes on while the next is waited for.
      wgmma_wait<1>();
      if (last_stage >= 0 && is_first_lane) barrier_arrive(empty[last_stage]);
      last_stage = ring.stage;
    }
    wgmma_wait<0>();
    if (is_first_lane) barrier_arrive(empty[last_stage]);
    store_tile<kN>(p, tile, sums, warpgroup);
  }
}

template <class Tag, int kN> __global__ void __launch_bounds__(kThreads, 1)
    gemm_wgmma_kernel(const __grid_constant__ CUtensorMap x_map, const __grid_constant__ CUtensorMap w_map, const __grid_constant__ Hopper p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  BANYAN_DYNAMIC_SHARED(shared);
  __shared__ Barrier full[kStages], empty[kStages];
  unsigned char* const tiles = shared + (1024 - shared_address(shared) % 1024) % 1024;
  if (threadIdx.x == 0) {
    prefetch_tensor_map(x_map);
    prefetch_tensor_map(w_map);
    for (int stage = 0; stage < kStages; ++stage) {
      barrier_init(full[stage], 1);
      barrier_init(empty[stage], kConsumerWarps);
    }
    barrier_init_fence();
  }
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup;
  if (warpgroup == 0) {
    give_registers<kProducerRegisters>();
    if (threadIdx.x == 0) produce<kN>(x_map, w_map, p, tiles, full, empty);
  } else {
    take_registers<kConsumerRegisters>();
    consume<Tag, kN>(p, tiles, full, empty, warpgroup - 1);
  }
#else
  __trap();  // never launched: is_usable
#endif
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class Tag, int kN> void launch_wgmma(Backend& backend, const CUtensorMap& x_map, const CUtensorMap& w_map, Hopper p) {
  p.tiles_n = static_cast<int>(ceil_div(p.rows, kN));
  const int64_t n_tiles = int64_t{p.tiles_m} * p.tiles_n * p.n_slices;
  launch({dim3(static_cast<unsigned>(std::min<int64_t>(n_tiles, backend.sm_count))), dim3(kThreads), kSharedBytes<kN>}, backend.stream,
      gemm_wgmma_kernel<Tag, kN>, x_map, w_map, p);
}

// The share of the device that tiles of kM x n keep busy, over all rounds.
double busy_share(const Backend& backend, int64_t n_tokens, int64_t rows, int n) {
  const int64_t n_tiles = ceil_div(n_tokens, kM) * ceil_div(rows, n), rounds = ceil_div(n_tiles, backend.sm_count);
  return static_cast<double>(n_tokens * rows) / static_cast<double>(rounds * backend.sm_count * kM * n);
}

// Wanted, and in this build: without code for sm_90a the kernel is an empty one, which shows in its registers. Asked on a device of 9.0.
bool is_usable() {
  static const bool is_usable = [] {
    const char* text = std::getenv("BANYAN_CUDA_WGMMA");
    if (text != nullptr && std::strcmp(text, "0") == 0) return false;
    cudaFuncAttributes attributes{};
    if (cudaFuncGetAttributes(&attributes, gemm_wgmma_kernel<F16Tag, 256>) != cudaSuccess) return cudaGetLastError(), false;
    return attributes.numRegs > 128;
  }();
  return is_usable;
}

constexpr int64_t kUnpackedBytes = 256 << 20;  // of scratch memory for unpacked weights: the widest matrix of an 8B model in one piece
constexpr int kSliceSteps = 8;                 // at least

}  // namespace

bool gemm_wgmma(Backend& backend, const GemmArgs& a) {
  if (backend.compute_capability != 90 || a.w.dtype == DType::kF32 || !is_usable() || backend.shared_per_block < kSharedBytes<256>) return false;
  const bool is_16_bit = a.w.dtype == DType::kF16 || is_bf16(a.w.dtype);
  const int64_t padded = padded_cols(a.w.cols), bytes = static_cast<int64_t>(row_bytes(a.w.dtype, a.w.cols));
  const bool is_unpacked = !is_16_bit || bytes % 16 != 0 || reinterpret_cast<uintptr_t>(a.w.data) % 16 != 0;
  const int n_steps = static_cast<int>(padded / kDepth);

  // rows of weights at once, tile width, slices
  const int64_t piece_rows = is_unpacked ? std::min(a.w.rows, std::max<int64_t>(256, kUnpackedBytes / (2 * padded) / 256 * 256)) : a.w.rows;
  const bool is_wide = busy_share(backend, a.n_tokens, piece_rows, 256) >= 0.9 * busy_share(backend, a.n_tokens, piece_rows, 128);
  const int tiles_m = static_cast<int>(ceil_div(a.n_tokens, kM));
  const int64_t n_tiles = tiles_m * ceil_div(piece_rows, is_wide ? 256 : 128);
  const int64_t n_wanted = std::clamp<int64_t>(backend.sm_count / n_tiles, 1, std::max(1, n_steps / kSliceSteps));
  const int slice_steps = static_cast<int>(ceil_div(n_steps, n_wanted)), n_slices = static_cast<int>(ceil_div(n_steps, slice_steps));

  // scratch
  Layout layout;
  const size_t x_at = layout.add(static_cast<size_t>(a.n_tokens * padded) * 2), scales_at = layout.add(static_cast<size_t>(a.n_tokens) * 4);
  const size_t w_at = layout.add(is_unpacked ? static_cast<size_t>(piece_rows * padded) * 2 : 0);
  const size_t partials_at = layout.add(n_slices > 1 ? static_cast<size_t>(n_slices * a.n_tokens * a.w.rows) * 4 : 0);
  void* scratch = backend.scratch.take(layout.total());
  if (scratch == nullptr) return true;
  unsigned char* base = Layout::base(scratch);
  auto* x = reinterpret_cast<uint16_t*>(base + x_at);
  auto* scales = reinterpret_cast<float*>(base + scales_at);
  auto* unpacked = reinterpret_cast<uint16_t*>(base + w_at);
  auto* partials = reinterpret_cast<float*>(base + partials_at);

  // All maps before any work: a driver that refuses one leaves everything to gemm_mma.
  CUtensorMap x_map;
  if (!make_tensor_map(x_map, is_bf16(a.w.dtype), x, a.n_tokens, padded, 2 * padded, kM)) return false;
  const int64_t w_row_bytes = is_unpacked ? 2 * padded : bytes, w_cols = is_unpacked ? padded : a.w.cols;
  std::vector<CUtensorMap> w_maps;
  for (int64_t row = 0; row < a.w.rows; row += piece_rows) {
    const void* data = is_unpacked ? static_cast<const void*>(unpacked) : static_cast<const uint8_t*>(a.w.data) + row * bytes;
    if (!make_tensor_map(
            w_maps.emplace_back(), is_bf16(a.w.dtype), data, std::min(piece_rows, a.w.rows - row), w_cols, w_row_bytes, is_wide ? 256 : 128))
      return false;
  }

  round_activations(backend, x, scales, a);
  const bool is_sliced = n_slices > 1;
  const auto run = is_bf16(a.w.dtype) ? (is_wide ? launch_wgmma<BF16Tag, 256> : launch_wgmma<BF16Tag, 128>)
                                      : (is_wide ? launch_wgmma<F16Tag, 256> : launch_wgmma<F16Tag, 128>);
  for (int64_t row = 0; row < a.w.rows; row += piece_rows) {
    const int64_t n_rows = std::min(piece_rows, a.w.rows - row);
    if (is_unpacked) unpack_weights(backend, unpacked, {static_cast<const uint8_t*>(a.w.data) + row * bytes, a.w.dtype, n_rows, a.w.cols});
    run(backend, x_map, w_maps[static_cast<size_t>(row / piece_rows)],
        {(is_sliced ? partials : a.out) + row, scales, is_sliced || a.bias == nullptr ? nullptr : a.bias + row, n_rows, a.w.rows, a.n_tokens, n_steps,
            slice_steps, n_slices, tiles_m, 0, !is_sliced && a.accumulate});
  }
  if (n_slices > 1) sum_slices(backend, partials, n_slices, a);
  return true;
}

}  // namespace banyan::cuda

#endif
