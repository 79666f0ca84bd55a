// attend_keys: eight neighbouring elements of a key or value as halves, from F16 or Q8_0 memory.
#pragma once

#include <cstdint>

#include "cuda/prim/half.cuh"
#include "cuda/prim/memory.cuh"

namespace banyan::cuda {

constexpr int kChunk = 8;  // elements: 16 bytes of halves

// What was loaded and not yet converted, so that loads can be under way while something else is computed. A lane keeps its place in a row, chunk i of
// it, as the address of the row + offset(i), and loads chunk i or, `element` elements (a multiple of 32) behind that, another one.
template <bool kIsQ8> struct Chunk;

// Where the chunks of a lane lie in a row: what loading them has in common.
template <bool kIsQ8> struct ChunkRow;

template <> struct ChunkRow<false> {
  const uint8_t* at;

  __device__ __forceinline__ ChunkRow(const uint8_t* place, int) : at(place) {}
  static __device__ __forceinline__ uint32_t shift(const uint8_t*) { return 0; }
};

template <> struct Chunk<false> {
  uint4 bits;

  __device__ __forceinline__ void clear() { bits = {0, 0, 0, 0}; }
  static __device__ __forceinline__ int offset(int i) { return 16 * i; }
  __device__ __forceinline__ void load(const ChunkRow<false>& row, int element) {
    bits = load_streaming(reinterpret_cast<const uint4*>(row.at + 2 * element));
  }
  __device__ __forceinline__ uint4 halves(uint32_t, int, uint32_t) const { return bits; }
};

// Eight quants of a block of 34 bytes {half d, int8 q[32]}, which lies at an even address: words from the last multiple of 4 at or before the quants,
// and the last two quants by themselves, so that nothing outside of the block is read. Blocks lie at multiples of 4 by turns.
template <> struct ChunkRow<true> {
  const uint8_t* block;
  const uint8_t* quants;    // 2 bytes before them
  const uint8_t* words[2];  // less 34 times the block's number; those of even and of odd blocks

  __device__ __forceinline__ ChunkRow(const uint8_t* place, int i) : block(place), quants(place + static_cast<unsigned>(i % 4 * 8)) {
    const unsigned skew = static_cast<unsigned>(reinterpret_cast<uintptr_t>(place)) & 2u;
    words[0] = quants + skew;
    words[1] = quants + (skew ^ 2u);
  }
  // For Chunk::halves; the same for all that lies a multiple of 4 bytes from `place`.
  static __device__ __forceinline__ uint32_t shift(const uint8_t* place) { return (reinterpret_cast<uintptr_t>(place) & 2) == 0 ? 16 : 0; }
};

// d of a block, by the block's address.
__device__ __forceinline__ uint32_t load_d(const uint8_t* block) { return __ldg(reinterpret_cast<const uint16_t*>(block)); }

template <> struct Chunk<true> {
  uint32_t first, second, last;  // the last two quants; d stands elsewhere, because putting the two into one register would wait for both

  __device__ __forceinline__ void clear() { first = second = last = 0; }
  static __device__ __forceinline__ int offset(int i) { return i / 4 * 34; }
  __device__ __forceinline__ void load(const ChunkRow<true>& row, int element) {
    const int number = element / 32;
    const auto* words = reinterpret_cast<const uint32_t*>(row.words[number % 2] + 34 * number);
    first = __ldg(words);
    second = __ldg(words + 1);
    last = __ldg(reinterpret_cast<const uint16_t*>(row.quants + 34 * number + 8));
  }
  // `shift`: 16 where the quants of even blocks begin within a word, else 0; d: of the block.
  __device__ __forceinline__ uint4 halves(uint32_t even_shift, int element, uint32_t d) const {
    const uint32_t shift = element / 32 % 2 == 0 ? even_shift : even_shift ^ 16u;
    const uint32_t twice = __byte_perm(d, 0, 0x1010);
    const uint32_t low = __funnelshift_r(first, second, shift) ^ kSigns, high = __funnelshift_r(second, last, shift) ^ kSigns;
    return {pair<0x4140>(low, twice), pair<0x4342>(low, twice), pair<0x4140>(high, twice), pair<0x4342>(high, twice)};
  }

 private:
  static constexpr uint32_t kSigns = 0x80808080u;

  // Two quants, with their sign bits turned, times d, rounded once: a half of 1024 + n has n in its lower byte, so 1024 + 128 + q is made by putting
  // bytes together, and less 1152 it is q.
  template <unsigned kBytes> static __device__ __forceinline__ uint32_t pair(uint32_t turned, uint32_t d) {
    return multiply_half2(add_half2(__byte_perm(turned, 0x64u, kBytes), 0xE480E480u), d);
  }
};

}  // namespace banyan::cuda
