// int8_format_avx2: what the integer gemm knows of a block format, in vectors of 32 bytes. Weights become unsigned bytes in registers, a block of 32 elements
// at a time and in their order; a unit is 8 blocks. The variant brings the products (products_maddubs.inl, products_dpbusd.inl).
// With x of block b as d_x * q_x and a weight as (scale * q_w - minimum), sum(w x) over the block = d_x (scale sum(q_w q_x) - minimum sum(q_x)).

using Bytes = __m256i;

template <DType kFormat> struct Int8Format {
  static constexpr bool kIsK = traits(kFormat).block_size == 256;
  static constexpr int kBlocks = 8;  // of 32 elements, in a unit
  static constexpr int kElements = 32 * kBlocks;
  static constexpr int kBytes = static_cast<int>(row_bytes(kFormat, kElements));
  static constexpr bool kHasMin = kFormat == DType::kQ4_K || kFormat == DType::kQ5_K;
  static constexpr int kGroups = kFormat == DType::kQ6_K ? 2 : 1;  // scales in 32 elements
  // What was added to make the weights unsigned.
  static constexpr int kOffset = kFormat == DType::kQ8_0 ? 128 : kFormat == DType::kQ4_0 ? 8 : kFormat == DType::kQ6_K ? 32 : 0;
  static constexpr int kHighest = kFormat == DType::kQ8_0 ? 255 : kFormat == DType::kQ6_K ? 63 : kFormat == DType::kQ5_K ? 31 : 15;
};

BANYAN_INLINE Bytes bytes_of(int value) { return _mm256_set1_epi8(static_cast<char>(value)); }
BANYAN_INLINE __m128i load_16(const void* at) { return _mm_loadu_si128(static_cast<const __m128i*>(at)); }
BANYAN_INLINE Bytes load_bytes(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
BANYAN_INLINE void store_bytes(void* at, Bytes a) { _mm256_store_si256(static_cast<__m256i*>(at), a); }
BANYAN_INLINE Bytes four_bytes(const void* at) {  // the same in every dword
  int32_t four;
  std::memcpy(&four, at, sizeof four);
  return _mm256_set1_epi32(four);
}
// Whole numbers as words.
BANYAN_INLINE void store_rounded(void* at, Vec x) {
  const IVec rounded = _mm256_cvtps_epi32(x);
  _mm_storeu_si128(static_cast<__m128i*>(at), _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1)));
}
// n <= kLanes. Whole vectors without a mask, whose stores some processors take dozens of steps for.
BANYAN_INLINE Vec load_up_to(const float* at, int n) { return n == kLanes ? load(at) : load_n(at, n); }
BANYAN_INLINE void store_up_to(float* at, Vec x, int n) {
  if (n == kLanes) store(at, x);
  else store_n(at, x, n);
}

BANYAN_INLINE Bytes low_nibbles(Bytes a) { return _mm256_and_si256(a, bytes_of(15)); }
BANYAN_INLINE Bytes high_nibbles(Bytes a) { return _mm256_and_si256(_mm256_srli_epi16(a, 4), bytes_of(15)); }
BANYAN_INLINE Bytes flip(Bytes a, Bytes bits) { return _mm256_xor_si256(a, bits); }
// (a & mask) | b
BANYAN_INLINE Bytes and_or(Bytes a, Bytes mask, Bytes b) { return _mm256_or_si256(_mm256_and_si256(a, mask), b); }
BANYAN_INLINE IVec shift_right_by(IVec a, int n_bits) { return _mm256_srl_epi32(a, _mm_cvtsi32_si128(n_bits)); }
BANYAN_INLINE IVec shift_left_by(IVec a, int n_bits) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(n_bits)); }
template <int kBits> BANYAN_INLINE IVec shift_right_signed(IVec a) { return _mm256_srai_epi32(a, kBits); }
// Bits of every byte to the left, or to the right (n_bits < 0). Those that leave their byte are the caller's to mask.
BANYAN_INLINE Bytes shift_bits(Bytes a, int n_bits) { return n_bits >= 0 ? shift_left_by(a, n_bits) : shift_right_by(a, -n_bits); }
// The float16 in the lower half of every dword.
BANYAN_INLINE Vec lower_half(IVec dwords) {
  const IVec words = bit_and(dwords, 0xffff), halves = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0x08);
  return _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
}

// The float16 at the beginning of 8 dwords, `stride` bytes apart, or at their end.
template <bool kIsAtEnd = false> BANYAN_INLINE Vec load_halves(const uint8_t* dwords, int64_t stride) {
  const auto one = [&](int i) {  // not _mm_loadu_si32, which GCC 11.2 gets wrong
    int32_t dword;
    std::memcpy(&dword, dwords + i * stride, sizeof dword);
    return _mm_cvtsi32_si128(dword);
  };
  const auto two = [&](int i) { return _mm_unpacklo_epi16(one(i), one(i + 1)); };
  const auto four = [&](int i) { return _mm_unpacklo_epi32(two(i), two(i + 2)); };
  return _mm256_cvtph_ps(kIsAtEnd ? _mm_unpackhi_epi64(four(0), four(4)) : _mm_unpacklo_epi64(four(0), four(4)));
}

// Eight bytes, each times `factor`.
BANYAN_INLINE Vec scale_bytes(uint32_t first, uint32_t second, float factor) {
  return mul(to_float(_mm256_cvtepu8_epi32(_mm_set_epi32(0, 0, static_cast<int>(second), static_cast<int>(first)))), broadcast(factor));
}

// Q4_K, Q5_K: scales and minimums of the 8 blocks (scale_min in dequant.inl).
BANYAN_INLINE void load_scales_mins(const uint8_t* unit, Vec& scales, Vec& minimums) {
  uint32_t six[3];
  std::memcpy(six, unit + 4, sizeof six);
  scales = scale_bytes(six[0] & 0x3f3f3f3f, (six[2] & 0x0f0f0f0f) | (six[0] >> 2 & 0x30303030), half(unit));
  minimums = scale_bytes(six[1] & 0x3f3f3f3f, (six[2] >> 4 & 0x0f0f0f0f) | (six[1] >> 2 & 0x30303030), half(unit + 2));
}

// Block kBlock of a unit, unsigned but for Q8_0.
template <DType kFormat, int kBlock> BANYAN_INLINE Bytes unpack(const uint8_t* unit) {
  if constexpr (kFormat == DType::kQ8_0) {
    return load_bytes(unit + 34 * kBlock + 2);
  } else if constexpr (kFormat == DType::kQ4_0) {
    const __m128i nibbles = load_16(unit + 18 * kBlock + 2);
    return low_nibbles(_mm256_inserti128_si256(_mm256_castsi128_si256(nibbles), _mm_srli_epi16(nibbles, 4), 1));
  } else if constexpr (kFormat == DType::kQ6_K) {  // halves of 128 elements: 64 bytes of nibbles, 32 of upper pairs of bits
    constexpr int kHalf = kBlock / 4, kQuarter = kBlock % 4;
    const Bytes nibbles = load_bytes(unit + 64 * kHalf + 32 * (kQuarter % 2)), upper = load_bytes(unit + 128 + 32 * kHalf);
    return and_or(shift_bits(upper, 4 - 2 * kQuarter), bytes_of(48), kQuarter < 2 ? low_nibbles(nibbles) : high_nibbles(nibbles));
  } else {  // 64 elements share 32 bytes of nibbles, all of them their fifth bits
    const Bytes nibbles = load_bytes(unit + (kFormat == DType::kQ4_K ? 16 : 48) + 32 * (kBlock / 2));
    const Bytes q = kBlock % 2 == 0 ? low_nibbles(nibbles) : high_nibbles(nibbles);
    if constexpr (kFormat == DType::kQ4_K) return q;
    else return and_or(shift_bits(load_bytes(unit + 16), 4 - kBlock), bytes_of(16), q);
  }
}
