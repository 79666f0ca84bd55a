// dequant: weights of every format (tensor/dtype.h) out of memory that may begin at any byte: words are read aligned and shifted into place.
// Layouts are those of ggml (ggml-common.h block_*). 16 elements of a row are a unit, 32 a group; element 0 of a piece of a row lies at byte
// `at` behind an address that is a multiple of 4. Everything here reads shared and global memory alike, and nothing outside the words that hold
// the wanted bytes.
#pragma once

#include <cstdint>

#include "cuda/prim/half.cuh"
#include "cuda/prim/launch.cuh"
#include "tensor/dtype.h"

namespace banyan::cuda {

// ---- arithmetic on pairs of halves ----

#ifdef BANYAN_EMULATE
inline uint32_t half2_fma(uint32_t a, uint32_t b, uint32_t c) {
  const float2 x = unpack_half2(a), y = unpack_half2(b), z = unpack_half2(c);
  // A product of halves and its sum with one are exact in double; the one rounding to float in between cannot move the rounding to half, as the
  // operands below have at most 22 bits from first to last.
  const auto one = [](float p, float q, float r) {
    return static_cast<float>(static_cast<double>(p) * static_cast<double>(q) + static_cast<double>(r));
  };
  return pack_half2(one(x.x, y.x, z.x), one(x.y, y.y, z.y));
}
inline uint32_t half2_add(uint32_t a, uint32_t b) { return half2_fma(a, 0x3C003C00u, b); }
inline uint32_t half2_mul(uint32_t a, uint32_t b) { return half2_fma(a, b, 0x80008000u); }
#else
__device__ __forceinline__ uint32_t half2_fma(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
__device__ __forceinline__ uint32_t half2_add(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
__device__ __forceinline__ uint32_t half2_mul(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
#endif

// (bits & mask) | base in one instruction even where both are constants.
#ifdef BANYAN_EMULATE
inline uint32_t masked_or(uint32_t bits, uint32_t mask, uint32_t base) { return (bits & mask) | base; }
#else
__device__ __forceinline__ uint32_t masked_or(uint32_t bits, uint32_t mask, uint32_t base) {
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(result) : "r"(bits), "r"(mask), "r"(base));
  return result;
}
#endif

// 1024 + q as a half is 0x6400 | q for 0 <= q < 1024: integers become halves by a bit operation and one exact sum.
constexpr uint32_t kHalf1024 = 0x64006400u;

// Halves 1024 + byte of bytes 0 and 1 (or 2 and 3) of a word.
__device__ __forceinline__ uint32_t low_bytes_1024(uint32_t word) { return __byte_perm(word, kHalf1024, 0x5150); }
__device__ __forceinline__ uint32_t high_bytes_1024(uint32_t word) { return __byte_perm(word, kHalf1024, 0x5352); }

// ---- bytes ----

// 4 bytes from byte `at` on. Where they are one word, the second load is of the same.
__device__ __forceinline__ uint32_t word_at(const uint32_t* words, int at) {
  return __funnelshift_r(words[at >> 2], words[(at + 3) >> 2], static_cast<unsigned>(8 * (at & 3)));
}
__device__ __forceinline__ uint2 words2_at(const uint32_t* words, int at) {
  const unsigned shift = static_cast<unsigned>(8 * (at & 3));
  const uint32_t middle = words[(at >> 2) + 1];
  return {__funnelshift_r(words[at >> 2], middle, shift), __funnelshift_r(middle, words[(at + 7) >> 2], shift)};
}
__device__ __forceinline__ uint4 words4_at(const uint32_t* words, int at) {
  if ((reinterpret_cast<uintptr_t>(words) + static_cast<uintptr_t>(at)) % 16 == 0) return *reinterpret_cast<const uint4*>(words + (at >> 2));
  const uint2 first = words2_at(words, at), second = words2_at(words, at + 8);
  return {first.x, first.y, second.x, second.y};
}
__device__ __forceinline__ uint32_t byte_at(const uint32_t* words, int at) { return words[at >> 2] >> (8 * (at & 3)) & 0xFFu; }
__device__ __forceinline__ float first_half(uint32_t word) { return half_to_float(static_cast<uint16_t>(word & 0xFFFFu)); }
__device__ __forceinline__ float second_half(uint32_t word) { return half_to_float(static_cast<uint16_t>(word >> 16)); }

// The aligned address at or before `data`, and how far behind it `data` is.
struct Aligned {
  const uint32_t* words;
  int at;
};
__device__ __forceinline__ Aligned align_down(const uint8_t* data) {
  const int at = static_cast<int>(reinterpret_cast<uintptr_t>(data) & 3);
  return {reinterpret_cast<const uint32_t*>(data - at), at};
}

// ---- units: value = scale * q + shift, q unsigned ----

struct Unit {
  uint32_t q[4];  // 16 bytes, in the order of the elements
  float scale, shift;
};

// Scales of Q4_K and Q5_K: 8 scales and 8 minimums of 6 bits in 12 bytes; here as bytes, in words of four.
struct ScalesMins {
  uint32_t scales[2], mins[2];
};
__device__ __forceinline__ ScalesMins scales_mins(uint32_t a, uint32_t b, uint32_t c) {
  return {{a & 0x3F3F3F3Fu, (c & 0x0F0F0F0Fu) | (a >> 2 & 0x30303030u)}, {b & 0x3F3F3F3Fu, (c >> 4 & 0x0F0F0F0Fu) | (b >> 2 & 0x30303030u)}};
}

// Unit `unit` of a row of blocks.
template <DType kFormat> __device__ __forceinline__ Unit load_unit(const uint32_t* words, int at, int unit) {
  constexpr int kUnits = traits(kFormat).block_size / 16, kBytes = traits(kFormat).block_bytes;
  static_assert(kUnits > 1);
  const int block = at + unit / kUnits * kBytes, u = unit % kUnits;
  Unit out;
  if constexpr (kFormat == DType::kQ8_0) {
    const uint4 q = words4_at(words, block + 2 + 16 * u);
    const float d = first_half(word_at(words, block));
    out = {{q.x ^ 0x80808080u, q.y ^ 0x80808080u, q.z ^ 0x80808080u, q.w ^ 0x80808080u}, d, -128.0f * d};
  } else if constexpr (kFormat == DType::kQ4_0) {
    const uint4 q = words4_at(words, block + 2);
    const float d = first_half(word_at(words, block));
    constexpr uint32_t kMask = 0x0F0F0F0Fu;
    const int shift = 4 * u;
    out = {{q.x >> shift & kMask, q.y >> shift & kMask, q.z >> shift & kMask, q.w >> shift & kMask}, d, -8.0f * d};
  } else if constexpr (kFormat == DType::kQ4_K || kFormat == DType::kQ5_K) {
    const int group = u / 2;
    const uint4 q = words4_at(words, block + (kFormat == DType::kQ4_K ? 16 : 48) + 32 * (group / 2) + 16 * (u % 2));
    const uint4 header = words4_at(words, block);  // d, minimum's d, scales
    const ScalesMins s = scales_mins(header.y, header.z, header.w);
    const int byte = 8 * (group % 4), nibble = 4 * (group % 2);
    constexpr uint32_t kMask = 0x0F0F0F0Fu;
    out.scale = first_half(header.x) * static_cast<float>((group < 4 ? s.scales[0] : s.scales[1]) >> byte & 0xFFu);
    out.shift = -second_half(header.x) * static_cast<float>((group < 4 ? s.mins[0] : s.mins[1]) >> byte & 0xFFu);
    out.q[0] = q.x >> nibble & kMask, out.q[1] = q.y >> nibble & kMask, out.q[2] = q.z >> nibble & kMask, out.q[3] = q.w >> nibble & kMask;
    if constexpr (kFormat == DType::kQ5_K) {
      const uint4 fifth = words4_at(words, block + 16 + 16 * (u % 2));
      constexpr uint32_t kOnes = 0x01010101u;
      out.q[0] |= (fifth.x >> group & kOnes) << 4, out.q[1] |= (fifth.y >> group & kOnes) << 4;
      out.q[2] |= (fifth.z >> group & kOnes) << 4, out.q[3] |= (fifth.w >> group & kOnes) << 4;
    }
  } else {
    static_assert(kFormat == DType::kQ6_K);
    const int half = u / 8, quarter = u % 8 / 2, lane = 16 * (u % 2);
    const uint4 low = words4_at(words, block + 64 * half + 32 * (quarter % 2) + lane), upper = words4_at(words, block + 128 + 32 * half + lane);
    const int nibble = 4 * (quarter / 2), bits = 2 * quarter;
    constexpr uint32_t kMask = 0x0F0F0F0Fu, kBits = 0x03030303u;
    out.q[0] = (low.x >> nibble & kMask) | (upper.x >> bits & kBits) << 4, out.q[1] = (low.y >> nibble & kMask) | (upper.y >> bits & kBits) << 4;
    out.q[2] = (low.z >> nibble & kMask) | (upper.z >> bits & kBits) << 4, out.q[3] = (low.w >> nibble & kMask) | (upper.w >> bits & kBits) << 4;
    out.scale = second_half(word_at(words, block + 206)) * static_cast<float>(static_cast<int8_t>(byte_at(words, block + 192 + u)));
    out.shift = -32.0f * out.scale;
  }
  return out;
}

// The 4 elements of word w, in float. In all formats scale * q and shift are exact or rounded once; so is their sum.
__device__ __forceinline__ void unit_floats(const Unit& unit, int w, float (&out)[4]) {
  constexpr uint32_t kMinus1024 = 0xE400E400u;
  const float2 low = unpack_half2(half2_add(low_bytes_1024(unit.q[w]), kMinus1024)),
               high = unpack_half2(half2_add(high_bytes_1024(unit.q[w]), kMinus1024));
  out[0] = fmaf(low.x, unit.scale, unit.shift), out[1] = fmaf(low.y, unit.scale, unit.shift);
  out[2] = fmaf(high.x, unit.scale, unit.shift), out[3] = fmaf(high.y, unit.scale, unit.shift);
}

// A unit as 16 halves, d * q rounded once. In Q8_0 and Q4_0 d is a half: its product with q as halves is that rounding.
template <DType kFormat> __device__ __forceinline__ void unit_halves(const Unit& unit, uint32_t (&out)[8]) {
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    if constexpr (kFormat == DType::kQ8_0 || kFormat == DType::kQ4_0) {
      constexpr uint32_t kOffset = kFormat == DType::kQ8_0 ? 0xE480E480u : 0xE408E408u;  // -(1024 + 128), -(1024 + 8)
      const uint32_t d = pack_half2(unit.scale, unit.scale);
      out[2 * w] = half2_mul(half2_add(low_bytes_1024(unit.q[w]), kOffset), d);
      out[2 * w + 1] = half2_mul(half2_add(high_bytes_1024(unit.q[w]), kOffset), d);
    } else {
      float x[4];
      unit_floats(unit, w, x);
      out[2 * w] = pack_half2(x[0], x[1]);
      out[2 * w + 1] = pack_half2(x[2], x[3]);
    }
  }
}

// Unit `unit` of a row in any format as floats; of a format without blocks only the first n_valid elements are read, the others are 0.
template <DType kFormat> __device__ __forceinline__ void unit_as_floats(const uint32_t* words, int at, int unit, int n_valid, float (&out)[16]) {
  if constexpr (traits(kFormat).block_size > 1) {
    const Unit packed = load_unit<kFormat>(words, at, unit);
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      float x[4];
      unit_floats(packed, w, x);
#pragma unroll
      for (int i = 0; i < 4; ++i) out[4 * w + i] = x[i];
    }
  } else if constexpr (kFormat == DType::kF32) {
    const int from = at + 64 * unit;
    if (n_valid >= 16 && (reinterpret_cast<uintptr_t>(words) + static_cast<uintptr_t>(from)) % 16 == 0) {
      const auto* vectors = reinterpret_cast<const float4*>(reinterpret_cast<const unsigned char*>(words) + from);
#pragma unroll
      for (int v = 0; v < 4; ++v) {
        const float4 x = vectors[v];
        out[4 * v] = x.x, out[4 * v + 1] = x.y, out[4 * v + 2] = x.z, out[4 * v + 3] = x.w;
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < 16; ++i) out[i] = i < n_valid ? __uint_as_float(word_at(words, from + 4 * i)) : 0.0f;
  } else {
    const int from = at + 32 * unit;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      uint16_t bits = 0;
      if (i < n_valid) bits = static_cast<uint16_t>(byte_at(words, from + 2 * i) | byte_at(words, from + 2 * i + 1) << 8);
      out[i] = kFormat == DType::kF16 ? half_to_float(bits) : bf16_to_float(bits);
    }
  }
}

// ---- fragments: what a lane multiplies of one row and one group on the tensor cores, integers as exact halves ----
//
// A sum does not care in which order its terms come, so the 16 columns of mma.m16n8k16 are given whatever elements lie together in memory; x is put
// in the same order (position_in_group). Lane quad q of four holds 8 elements of the group: halves[0..1] are its two pairs in the first product,
// halves[2..3] in the second.

template <DType kFormat> inline constexpr bool kIsSplit = kFormat == DType::kQ4_0 || kFormat == DType::kQ6_K;  // a lane has 4 + 4 elements, 16 apart
template <DType kFormat> inline constexpr bool kIsInterleaved = kIsSplit<kFormat> || kFormat == DType::kQ4_K || kFormat == DType::kQ5_K;
template <DType kFormat> inline constexpr bool kHasMins = kFormat == DType::kQ4_K || kFormat == DType::kQ5_K;

// Where element k of a group lies: 8 * quad + place among the lane's eight.
template <DType kFormat> __device__ __forceinline__ int position_in_group(int k) {
  const int quad = kIsSplit<kFormat> ? k / 4 % 4 : k / 8, place = kIsSplit<kFormat> ? k / 16 * 4 + k % 4 : k % 8;
  // Pairs (0, 2) and (1, 3): the halves of a word whose nibbles are masked in place.
  return 8 * quad + (kIsInterleaved<kFormat> ? place / 4 * 4 + place % 2 * 2 + place / 2 % 2 : place);
}

// Byte `byte` < 4 of a word as a half, twice.
__device__ __forceinline__ uint32_t byte_as_halves(uint32_t word, int byte) {
  return half2_add(__byte_perm(word, kHalf1024, 0x5050u | static_cast<unsigned>(byte) | static_cast<unsigned>(byte) << 8), 0xE400E400u);
}

// Reads words at constant distances (multiples of 4) from one byte: the place of the words and the shift are worked out once.
template <bool kIsAligned> struct Reader {
  __device__ __forceinline__ Reader(const uint32_t* words, int at) : first(words + (at >> 2)), shift(static_cast<unsigned>(8 * (at & 3))) {}
  // `n_words` words further.
  __device__ __forceinline__ Reader(const Reader& from, int n_words) : first(from.first + n_words), shift(from.shift) {}
  __device__ __forceinline__ uint32_t word(int offset) const {
    if constexpr (kIsAligned) return first[offset / 4];
    return __funnelshift_r(first[offset / 4], first[offset / 4 + 1], shift);
  }
  // kIsAligned: to 8 bytes
  __device__ __forceinline__ uint2 words2(int offset) const {
    if constexpr (kIsAligned) return *reinterpret_cast<const uint2*>(first + offset / 4);
    const uint32_t middle = first[offset / 4 + 1];
    return {__funnelshift_r(first[offset / 4], middle, shift), __funnelshift_r(middle, first[offset / 4 + 2], shift)};
  }
  // kIsAligned: to 16 bytes
  __device__ __forceinline__ uint4 words4(int offset) const {
    if constexpr (kIsAligned) return *reinterpret_cast<const uint4*>(first + offset / 4);
    const uint2 low = words2(offset), high = words2(offset + 8);
    return {low.x, low.y, high.x, high.y};
  }
  const uint32_t* first;
  unsigned shift;
};

// What data must be a multiple of for kIsAligned: whole vectors where blocks are, else the halves in them.
template <DType kFormat> constexpr int natural_alignment() { return traits(kFormat).block_size == 1 || kHasMins<kFormat> ? 16 : 2; }

// A lane's view of one row of a chunk: up to 8 groups from byte `at` of `words` (16-byte aligned) on.
template <DType kFormat, bool kIsAligned> struct FragmentRow {
  static constexpr bool kIsWide = natural_alignment<kFormat>() == 16, kHasPairs = kFormat == DType::kQ8_0 || kFormat == DType::kQ4_0;
  static constexpr int kQuadBytes = kFormat == DType::kF16 || kFormat == DType::kBF16    ? 16
                                    : kFormat == DType::kQ4_0 || kFormat == DType::kQ6_K ? 4
                                                                                         : 8;
  static constexpr int kBlockBytes = traits(kFormat).block_bytes;
  using Words = Reader<kIsAligned && kIsWide>;

  // In Q8_0 and Q4_0 every second block lies 2 bytes off a word more than the first.
  __device__ __forceinline__ FragmentRow(const uint32_t* words, int at, int quad)
      : bytes(reinterpret_cast<const uint8_t*>(words) + at),
        header(words, at),
        even(kHasMins<kFormat> ? Words(header, kQuadBytes / 4 * quad) : Words(words, at + (kHasPairs ? 2 : 0) + kQuadBytes * quad)),
        odd(words, at + (kHasPairs ? kBlockBytes + 2 : 0) + kQuadBytes * quad) {}

  __device__ __forceinline__ float half_at(int offset) const {
    if constexpr (kIsAligned) return half_to_float(*reinterpret_cast<const uint16_t*>(bytes + offset));
    return half_to_float(static_cast<uint16_t>(bytes[offset] | static_cast<uint32_t>(bytes[offset + 1]) << 8));
  }

  // The scale of a block of Q8_0 or Q4_0.
  __device__ __forceinline__ float block_scale(int group) const { return half_at(group * kBlockBytes); }
  // The scale of 16 elements of Q6_K: step 0 or 1 of a group.
  __device__ __forceinline__ float step_scale(float d, int group, int step) const {
    return d * static_cast<float>(static_cast<int8_t>(bytes[192 + 2 * group + step]));
  }

  __device__ __forceinline__ void load(int group, uint32_t scale, uint32_t (&halves)[4]) const;

  const uint8_t* bytes;
  Words header, even, odd;
};

// Halves of the group's elements. Of Q4_K and Q5_K: q times its group's scale, at most 31 * 63 and so still exact; `scale` is that scale twice.
template <DType kFormat, bool kIsAligned>
__device__ __forceinline__ void FragmentRow<kFormat, kIsAligned>::load(int group, uint32_t scale, uint32_t (&halves)[4]) const {
  constexpr uint32_t kNibbles = 0x000F000Fu, kHighNibbles = 0x00F000F0u, kSixteenth = 0x2C002C00u;
  if constexpr (kFormat == DType::kF16 || kFormat == DType::kBF16) {
    const uint4 x = even.words4(64 * group);
    halves[0] = x.x, halves[1] = x.y, halves[2] = x.z, halves[3] = x.w;
  } else if constexpr (kFormat == DType::kQ8_0) {
    const uint2 q = (group % 2 == 0 ? even : odd).words2(group / 2 * 2 * kBlockBytes);
    constexpr uint32_t kOffset = 0xE480E480u;  // -(1024 + 128)
    const uint32_t first = q.x ^ 0x80808080u, second = q.y ^ 0x80808080u;
    halves[0] = half2_add(low_bytes_1024(first), kOffset), halves[1] = half2_add(high_bytes_1024(first), kOffset);
    halves[2] = half2_add(low_bytes_1024(second), kOffset), halves[3] = half2_add(high_bytes_1024(second), kOffset);
  } else if constexpr (kFormat == DType::kQ4_0) {
    const uint32_t q = (group % 2 == 0 ? even : odd).word(group / 2 * 2 * kBlockBytes), next = q >> 8;
    constexpr uint32_t kOffset = 0xE408E408u, kOffsetHigh = 0xD480D480u;  // -(1024 + 8); -(64 + 8): a high nibble in place is 16 q
    halves[0] = half2_add(masked_or(q, kNibbles, kHalf1024), kOffset), halves[1] = half2_add(masked_or(next, kNibbles, kHalf1024), kOffset);
    halves[2] = half2_fma(masked_or(q, kHighNibbles, kHalf1024), kSixteenth, kOffsetHigh);
    halves[3] = half2_fma(masked_or(next, kHighNibbles, kHalf1024), kSixteenth, kOffsetHigh);
  } else if constexpr (kFormat == DType::kQ4_K) {
    // s * (1024 + q) - 1024 * s: a fused multiply-add of exact numbers with an exact result. High nibbles stay in place: s is then a 16th.
    const uint2 q = even.words2(16 + 32 * (group / 2));
    const uint32_t s = group % 2 == 0 ? scale : half2_mul(scale, kSixteenth), offset = half2_mul(s, 0xE400E400u);
    const uint32_t mask = group % 2 == 0 ? kNibbles : kHighNibbles;
    halves[0] = half2_fma(masked_or(q.x, mask, kHalf1024), s, offset), halves[1] = half2_fma(masked_or(q.x >> 8, mask, kHalf1024), s, offset);
    halves[2] = half2_fma(masked_or(q.y, mask, kHalf1024), s, offset), halves[3] = half2_fma(masked_or(q.y >> 8, mask, kHalf1024), s, offset);
  } else if constexpr (kFormat == DType::kQ5_K) {
    const uint2 q = even.words2(48 + 32 * (group / 2)), fifth = even.words2(16);
    const uint32_t offset = half2_mul(scale, 0xE400E400u);
    const int nibble = group % 2 * 4;
    const auto place = [&](uint32_t low, uint32_t bit, int byte) {  // byte 0: elements 0 and 2 of the word, 1: 1 and 3
      const int to = 4 - group - 8 * byte;                          // the fifth bit goes to bit 4
      return masked_or(to >= 0 ? bit << to : bit >> -to, 0x00100010u, masked_or(low >> (nibble + 8 * byte), kNibbles, kHalf1024));
    };
    halves[0] = half2_fma(place(q.x, fifth.x, 0), scale, offset), halves[1] = half2_fma(place(q.x, fifth.x, 1), scale, offset);
    halves[2] = half2_fma(place(q.y, fifth.y, 0), scale, offset), halves[3] = half2_fma(place(q.y, fifth.y, 1), scale, offset);
  } else {
    static_assert(kFormat == DType::kQ6_K);
    const int half = group / 4, quarter = group % 4, nibble = quarter / 2 * 4;
    constexpr uint32_t kOffset = 0xE420E420u, kBits = 0x00300030u;  // -(1024 + 32)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t low = even.word(64 * half + 32 * (quarter % 2) + 16 * i), upper = even.word(128 + 32 * half + 16 * i);
      // Bits 2 * quarter and the next one of each byte become bits 4 and 5.
      const uint32_t first = quarter < 2 ? upper << (4 - 2 * quarter) : upper >> (2 * quarter - 4), second = upper >> (4 + 2 * quarter);
      halves[2 * i] = half2_add(masked_or(first, kBits, masked_or(low >> nibble, kNibbles, kHalf1024)), kOffset);
      halves[2 * i + 1] = half2_add(masked_or(second, kBits, masked_or(low >> (nibble + 8), kNibbles, kHalf1024)), kOffset);
    }
  }
}

}  // namespace banyan::cuda
