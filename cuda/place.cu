// place: pieces of keys or values into a cache, pooled and turned on the way: read once, written once. How long a piece is only the device knows, so a few
// blocks share its rows.
#include "cuda/backend.h"
#include "cuda/decode.cuh"
#include "cuda/ops.h"
#include "cuda/prim/memory.cuh"
#include "cuda/rotation.cuh"
#include "cuda/slot_row.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kBlocksOfPiece =
    4;  // a node has 32 to 64 slots: some rows a block, and four blocks a piece fill the device with a document of 64 chunks

// Parts of rows are multiples of 2 bytes; of 16 where they can be taken so.
__device__ __forceinline__ void copy_part(uint8_t* to, const uint8_t* from, size_t n_bytes) {
  if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from) | n_bytes) % 16 == 0) {
    for (size_t i = threadIdx.x; i < n_bytes / 16; i += kThreads) reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
  } else {
    for (size_t i = threadIdx.x; i < n_bytes / 2; i += kThreads) reinterpret_cast<uint16_t*>(to)[i] = reinterpret_cast<const uint16_t*>(from)[i];
  }
}

// part[dim] = the mean of so much of n rows; a thread's columns are its own.
template <DType kFormat> __device__ __forceinline__ void read_rows(float* part, const uint8_t* from, int n, int dim, size_t n_bytes) {
  for (int c = 4 * static_cast<int>(threadIdx.x); c < dim; c += 4 * kThreads) {
    float sum[4] = {};
    for (int r = 0; r < n; ++r) {
      const uint8_t* in = from + static_cast<size_t>(r) * n_bytes;
      if constexpr (kTraits<kFormat>.block_size == 1) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sum[e] += c + e < dim ? decode_one<kFormat>(in, c + e) : 0.0f;
      } else {
        const float4 value = decode_4<kFormat>(in, c);
        sum[0] += value.x, sum[1] += value.y, sum[2] += value.z, sum[3] += value.w;
      }
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (c + e < dim) part[c + e] = sum[e] / static_cast<float>(n);
    }
  }
}

template <DType kFormat> __global__ void __launch_bounds__(kThreads) place_kernel(PlaceArgs a, int n_part, size_t n_bytes) {
  const PlacedRows piece = a.pieces[blockIdx.x];
  const int head = static_cast<int>(blockIdx.z) * n_part, n_heads = min(n_part, a.n_heads - head), n_elements = n_heads * a.head_dim;
  const size_t first = row_bytes(kFormat, static_cast<int64_t>(head) * a.head_dim);
  const auto* from = static_cast<const uint8_t*>(piece.from) + first;
  uint8_t* out = static_cast<uint8_t*>(a.out) + static_cast<size_t>(piece.row) * n_bytes + first;
  const bool turns_rows = a.inv_freq != nullptr && (piece.position != 0 || piece.step != 0 || piece.index != 0 || a.magnitude != 1.0f);
  const int n_pairs = a.head_dim / 2;
  BANYAN_DYNAMIC_SHARED(bytes);
  auto* turns = reinterpret_cast<float2*>(bytes);          // [n_pairs]
  auto* part = reinterpret_cast<float*>(turns + n_pairs);  // [n_elements]
  const int first_row = static_cast<int>(blockIdx.y);
  for (int j = first_row; j < piece.n_rows; j += static_cast<int>(gridDim.y)) {
    const int begin = j * piece.stride, n = min(piece.pooled, piece.n_from - begin);
    const uint8_t* in = from + static_cast<size_t>(begin) * n_bytes;
    uint8_t* to = out + static_cast<size_t>(j) * n_bytes;
    if (!turns_rows && piece.pooled == 1) {
      copy_part(to, in, row_bytes(kFormat, n_elements));
      continue;
    }
    __syncthreads();                                          // the row before has been written
    if (turns_rows && (j == first_row || piece.step != 0)) {  // without a step all rows of a piece turn alike
      const double position = piece.position + j * piece.step;
      for (int m = static_cast<int>(threadIdx.x); m < n_pairs; m += kThreads) {
        double angle = position * static_cast<double>(a.inv_freq[m]);
        if (a.slow_freq != nullptr) angle += static_cast<double>(piece.index) * static_cast<double>(a.slow_freq[m]);
        const float2 turn = cos_sin(angle);
        turns[m] = {turn.x * a.magnitude, turn.y * a.magnitude};
      }
    }
    read_rows<kFormat>(part, in, n, n_elements, n_bytes);
    __syncthreads();
    if (turns_rows) {
      turn_heads<kThreads>(part, turns, n_heads, n_pairs, a.is_interleaved);
      __syncthreads();
    }
    write_part<kFormat, kThreads>(to, part, n_elements);
  }
}

}  // namespace

void place(Stream& stream, const PlaceArgs& a) {
  if (a.n_pieces == 0 || a.n_heads == 0 || a.head_dim == 0 || stream.cancelled()) return;
  const SlotParts parts(a.n_heads, a.head_dim);
  const LaunchShape shape{{static_cast<unsigned>(a.n_pieces), kBlocksOfPiece, parts.count}, kThreads, parts.shared_bytes};
  const auto kernel = a.dtype == DType::kQ8_0  ? place_kernel<DType::kQ8_0>
                      : a.dtype == DType::kF16 ? place_kernel<DType::kF16>
                                               : place_kernel<DType::kF32>;
  launch(shape, backend_of(stream).stream, kernel, a, parts.n_heads, row_bytes(a.dtype, static_cast<int64_t>(a.n_heads) * a.head_dim));
}

}  // namespace banyan::cuda
