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

template <> struct Chunk<false> {
  uint4 bits;

  __device__ __forceinline__ void clear() { bits = {0, 0, 0, 0}; }
  static __device__ __forceinline__ int offset(int i) { return 16 * i; }
  __device__ __forceinline__ void load(const uint8_t* place, int, int element) {
    bits = load_streaming(reinterpret_cast<const uint4*>(place + 2 * element));
  }
  __device__ __forceinline__ uint4 halves(const uint8_t*, int) const { return bits; }
};

// Eight quants of a block of 34 bytes {half d, int8 q[32]}, which lies at an even address: words from the last multiple of 4 at or before the quants,
// and the last two quants by themselves, so that nothing outside of the block is read.
template <> struct Chunk<true> {
  uint32_t first, second;
  uint32_t tail;  // the last two quants in the upper half, d in the lower one

  __device__ __forceinline__ void clear() { first = second = tail = 0; }
  static __device__ __forceinline__ int offset(int i) { return i / 4 * 34; }
  __device__ __forceinline__ void load(const uint8_t* place, int i, int element) {
    const uint8_t* block = place + element / 32 * 34;
    const uint8_t* quants = block + 2 + i % 4 * 8;
    const auto offset = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(quants)) & 2u;
    const auto* words = reinterpret_cast<const uint32_t*>(quants - offset);
    first = __ldg(words);
    second = __ldg(words + 1);
    tail = __ldg(reinterpret_cast<const uint16_t*>(block)) | static_cast<uint32_t>(__ldg(reinterpret_cast<const uint16_t*>(quants + 6))) << 16;
  }
  // `place`: as for load, or anything that lies a multiple of 4 bytes from it.
  __device__ __forceinline__ uint4 halves(const uint8_t* place, int element) const {
    const uint32_t shift =
        8 * (static_cast<uint32_t>(reinterpret_cast<uintptr_t>(place + element / 32 * 34 + 2)) & 2u);  // 16: quants begin within a word
    const uint32_t d = __byte_perm(tail, 0, 0x1010);
    const uint32_t low = __funnelshift_r(first, second, shift) ^ kSigns, high = __funnelshift_r(second, tail >> 16, shift) ^ kSigns;
    return {pair<0x4140>(low, d), pair<0x4342>(low, d), pair<0x4140>(high, d), pair<0x4342>(high, d)};
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
