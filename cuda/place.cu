// place: pieces of keys or values into a cache, keys turned on the way: read once, written once. How long a piece is only the device knows, so a few
// blocks share its rows.
#include "cuda/backend.h"
#include "cuda/decode.cuh"
#include "cuda/ops.h"
#include "cuda/prim/half.cuh"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/warp.cuh"
#include "cuda/rotation.cuh"
#include "cuda/store_block.cuh"

namespace banyan::cuda {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kBlocksOfPiece =
    4;  // a node has 32 to 64 slots: some rows a block, and four blocks a piece fill the device with a document of 64 chunks

struct Place {
  uint8_t* out;
  const PlacedRows* pieces;
  const float* inv_freq;  // null: nothing turns
  int n_heads, head_dim;
  bool is_interleaved;
};

// Rows are multiples of 2 bytes; of 16 where they can be taken so.
__device__ __forceinline__ void copy_rows(uint8_t* to, const uint8_t* from, size_t n_bytes) {
  const size_t first = blockIdx.y * kThreads + threadIdx.x, step = kThreads * gridDim.y;
  if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from) | n_bytes) % 16 == 0) {
    for (size_t i = first; i < n_bytes / 16; i += step) reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
  } else {
    for (size_t i = first; i < n_bytes / 2; i += step) reinterpret_cast<uint16_t*>(to)[i] = reinterpret_cast<const uint16_t*>(from)[i];
  }
}

template <DType kFormat> __global__ void __launch_bounds__(kThreads) place_kernel(Place place, size_t n_bytes) {
  const PlacedRows piece = place.pieces[blockIdx.x];
  const auto* from = static_cast<const uint8_t*>(piece.from);
  uint8_t* out = place.out + static_cast<size_t>(piece.row) * n_bytes;
  if (place.inv_freq == nullptr || piece.position == 0) {
    copy_rows(out, from, static_cast<size_t>(piece.n_rows) * n_bytes);
    return;
  }
  const int thread = static_cast<int>(threadIdx.x), n_pairs = place.head_dim / 2, dim = place.n_heads * place.head_dim;
  BANYAN_DYNAMIC_SHARED(bytes);
  auto* turns = reinterpret_cast<float2*>(bytes);         // [n_pairs]
  auto* row = reinterpret_cast<float*>(turns + n_pairs);  // [dim]
  for (int m = thread; m < n_pairs; m += kThreads) turns[m] = cos_sin(static_cast<double>(piece.position) * static_cast<double>(place.inv_freq[m]));
  for (int r = static_cast<int>(blockIdx.y); r < piece.n_rows; r += static_cast<int>(gridDim.y)) {
    const uint8_t* in = from + static_cast<size_t>(r) * n_bytes;
    uint8_t* to = out + static_cast<size_t>(r) * n_bytes;
    __syncthreads();  // the turns are there, and the row before has been written
    for (int c = 4 * thread; c < dim; c += 4 * kThreads) {
      if constexpr (kTraits<kFormat>.block_size == 1) {
        for (int e = 0; e < 4 && c + e < dim; ++e) row[c + e] = decode_one<kFormat>(in, c + e);
      } else {
        const float4 value = decode_4<kFormat>(in, c);
        row[c] = value.x;
        row[c + 1] = value.y;
        row[c + 2] = value.z;
        row[c + 3] = value.w;
      }
    }
    __syncthreads();
    for (int i = thread; i < place.n_heads * n_pairs; i += kThreads) {
      const int head = i / n_pairs, m = i - head * n_pairs;
      float* x = row + head * place.head_dim;
      const int first = place.is_interleaved ? 2 * m : m, second = place.is_interleaved ? 2 * m + 1 : m + n_pairs;
      const float a = x[first], b = x[second], cosine = turns[m].x, sine = turns[m].y;
      x[first] = a * cosine - b * sine;
      x[second] = a * sine + b * cosine;
    }
    __syncthreads();
    if constexpr (kFormat == DType::kQ8_0) {
      for (int begin = 0; begin < dim; begin += 4 * kThreads) {  // whole warps vote
        const int c = begin + 4 * thread;
        float value[4] = {};
        for (int e = 0; e < 4 && c < dim; ++e) value[e] = row[c + e];
        const float highest = warp_max<8>(fmaxf(fmaxf(fabsf(value[0]), fabsf(value[1])), fmaxf(fabsf(value[2]), fabsf(value[3]))));
        if (c < dim) store_four_q8_0(to + c / 32 * 34, c % 32, value, highest);
      }
    } else {
      for (int c = thread; c < dim; c += kThreads) {
        if constexpr (kFormat == DType::kF16) reinterpret_cast<uint16_t*>(to)[c] = float_to_half(row[c]);
        else reinterpret_cast<float*>(to)[c] = row[c];
      }
    }
  }
}

}  // namespace

void place(Stream& stream, const PlaceArgs& a) {
  const int dim = a.n_heads * a.head_dim;
  if (a.n_pieces == 0 || dim == 0 || stream.cancelled()) return;
  const Place args{static_cast<uint8_t*>(a.out), a.pieces, a.inv_freq, a.n_heads, a.head_dim, a.is_interleaved};
  const size_t shared = a.inv_freq == nullptr ? 0 : static_cast<size_t>(a.head_dim / 2) * sizeof(float2) + static_cast<size_t>(dim) * sizeof(float);
  const LaunchShape shape{{static_cast<unsigned>(a.n_pieces), kBlocksOfPiece}, kThreads, shared};
  const auto kernel = a.dtype == DType::kQ8_0  ? place_kernel<DType::kQ8_0>
                      : a.dtype == DType::kF16 ? place_kernel<DType::kF16>
                                               : place_kernel<DType::kF32>;
  launch(shape, backend_of(stream).stream, kernel, args, row_bytes(a.dtype, dim));
}

}  // namespace banyan::cuda
