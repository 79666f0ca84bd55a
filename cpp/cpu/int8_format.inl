// int8_format: what the integer gemm knows of a block format. Weights become unsigned bytes in registers, a unit at a time: 4 blocks of Q8_0 or Q4_0,
// or one block of a K-quant. A vector holds four pieces of 16 elements, one in each 128-bit lane, chosen so that few scales meet a vector.
// With x of block b as d_x * q_x and a weight as (scale * q_w - minimum), sum(w x) over the block = d_x (scale sum(q_w q_x) - minimum sum(q_x)).

using Bytes = __m512i;

template <DType kFormat> struct Int8Format {
  static constexpr bool kIsK = traits(kFormat).block_size == 256;
  static constexpr int kBlocks = kIsK ? 8 : 4;  // of 32 elements, in a unit
  static constexpr int kElements = 32 * kBlocks;
  static constexpr int kVectors = kBlocks / 2;
  static constexpr int kBytes = kIsK ? traits(kFormat).block_bytes : 4 * traits(kFormat).block_bytes;
  static constexpr bool kHasMin = kFormat == DType::kQ4_K || kFormat == DType::kQ5_K;
  static constexpr int kGroups = kFormat == DType::kQ6_K ? 2 : 1;  // scales in 32 elements
  // What was added to make the weights unsigned. The sums start at -kOffset sum(q_x), so it costs nothing to take it off.
  static constexpr int kOffset = kFormat == DType::kQ8_0 ? 128 : kFormat == DType::kQ4_0 ? 8 : kFormat == DType::kQ6_K ? 32 : 0;

  // Which 16 elements of the unit lie in a lane of a vector: 2 * block + half.
  static constexpr int piece(int vector, int lane) {
    if constexpr (kFormat == DType::kQ6_K) return 4 * vector + lane;
    if constexpr (kIsK) return 2 * (2 * lane + vector / 2) + vector % 2;
    return 2 * lane + vector;
  }
};

BANYAN_INLINE Bytes bytes_of(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }
BANYAN_INLINE __m128i load_16(const void* at) { return _mm_loadu_si128(static_cast<const __m128i*>(at)); }
BANYAN_INLINE Bytes load_bytes(const void* at) { return _mm512_loadu_si512(at); }
BANYAN_INLINE void store_bytes(void* at, Bytes a) { _mm512_store_si512(at, a); }
BANYAN_INLINE Bytes four_bytes(const void* at) {  // the same in every dword
  int32_t four;
  std::memcpy(&four, at, sizeof four);
  return _mm512_set1_epi32(four);
}
// n <= kLanes, which masks count to.
BANYAN_INLINE Vec load_up_to(const float* at, int n) { return load_n(at, n); }
BANYAN_INLINE void store_up_to(float* at, Vec x, int n) { store_n(at, x, n); }

BANYAN_INLINE Bytes low_nibbles(Bytes a) { return _mm512_and_si512(a, bytes_of(15)); }
BANYAN_INLINE Bytes high_nibbles(Bytes a) { return _mm512_and_si512(_mm512_srli_epi16(a, 4), bytes_of(15)); }
BANYAN_INLINE Bytes flip(Bytes a, Bytes bits) { return _mm512_xor_si512(a, bits); }
// (a & mask) | b
BANYAN_INLINE Bytes and_or(Bytes a, Bytes mask, Bytes b) { return _mm512_ternarylogic_epi64(a, mask, b, 0xea); }
BANYAN_INLINE IVec shift_right_by(IVec a, int n_bits) { return _mm512_srlv_epi32(a, _mm512_set1_epi32(n_bits)); }
BANYAN_INLINE IVec shift_left_by(IVec a, int n_bits) { return _mm512_sllv_epi32(a, _mm512_set1_epi32(n_bits)); }
template <int kBits> BANYAN_INLINE IVec shift_right_signed(IVec a) { return _mm512_srai_epi32(a, kBits); }
// Whole numbers as words.
BANYAN_INLINE void store_rounded(void* at, Vec x) { _mm256_storeu_si256(static_cast<__m256i*>(at), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x))); }
// sum += products of 16 bits, two a lane.
BANYAN_INLINE void add_pairs(IVec& sum, Bytes a, Bytes b) { sum = _mm512_dpwssd_epi32(sum, a, b); }
// Bits of every byte to the left, or to the right (n_bits < 0). Those that leave their byte are the caller's to mask.
BANYAN_INLINE Bytes shift_bits(Bytes a, int n_bits) { return _mm512_rolv_epi32(a, _mm512_set1_epi32((n_bits + 32) % 32)); }
// The float16 in the lower half of every dword.
BANYAN_INLINE Vec lower_half(IVec dwords) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(dwords)); }

// A lane's sum of up to 8 steps of four products (VPDPBUSD).
template <DType> struct Products {
  IVec sum;
  BANYAN_INLINE void begin(IVec start) { sum = start; }
  BANYAN_INLINE void add(int, Bytes w, Bytes x) { sum = _mm512_dpbusd_epi32(sum, w, x); }
  BANYAN_INLINE IVec end(IVec) const { return sum; }
};
template <DType> constexpr bool kIsInWords = false;

// Four times 16 bytes, `stride` apart, by merging broadcasts. Fewer loads, of 64 bytes, and a permutation of words read memory a third slower.
BANYAN_INLINE Bytes load_4x16(const uint8_t* at, int64_t stride) {
  Bytes a = _mm512_broadcast_i32x4(load_16(at));
  a = _mm512_mask_broadcast_i32x4(a, 0x00f0, load_16(at + stride));
  a = _mm512_mask_broadcast_i32x4(a, 0x0f00, load_16(at + 2 * stride));
  return _mm512_mask_broadcast_i32x4(a, 0xf000, load_16(at + 3 * stride));
}

// The float16 at the beginning of 16 dwords, `stride` bytes apart, or at their end. They are put together as dwords: inserting words one by one would go
// through general registers, and a load of what was just stored word by word waits for all of it.
template <bool kIsAtEnd = false> BANYAN_INLINE __m256i load_half_bits(const uint8_t* dwords, int64_t stride) {
  const Rows16 rows(dwords, stride);
  const auto one = [&](int i) {  // not _mm_loadu_si32, which GCC 11.2 gets wrong
    int32_t dword;
    std::memcpy(&dword, rows[i], sizeof dword);
    return _mm_cvtsi32_si128(dword);
  };
  const auto two = [&](int i) { return _mm_unpacklo_epi16(one(i), one(i + 1)); };
  const auto four = [&](int i) { return _mm_unpacklo_epi32(two(i), two(i + 2)); };
  const auto eight = [&](int i) { return kIsAtEnd ? _mm_unpackhi_epi64(four(i), four(i + 4)) : _mm_unpacklo_epi64(four(i), four(i + 4)); };
  return _mm256_setr_m128i(eight(0), eight(8));
}
template <bool kIsAtEnd = false> BANYAN_INLINE Vec load_halves(const uint8_t* dwords, int64_t stride) {
  return _mm512_cvtph_ps(load_half_bits<kIsAtEnd>(dwords, stride));
}

// The scales d of four blocks, each four times.
template <DType kFormat> BANYAN_INLINE Vec load_4_scales(const uint8_t* unit) {
  uint16_t bits[4];
  for (int i = 0; i < 4; ++i) std::memcpy(&bits[i], unit + i * traits(kFormat).block_bytes, sizeof bits[i]);
  __m256i halves = _mm256_set1_epi16(static_cast<short>(bits[0]));
  halves = _mm256_mask_set1_epi16(halves, 0x00f0, static_cast<short>(bits[1]));
  halves = _mm256_mask_set1_epi16(halves, 0x0f00, static_cast<short>(bits[2]));
  halves = _mm256_mask_set1_epi16(halves, 0xf000, static_cast<short>(bits[3]));
  return _mm512_cvtph_ps(halves);
}

// Q4_K, Q5_K: lanes 0-7 scale of each group, 8-15 its minimum (scale_min in dequant.inl).
BANYAN_INLINE Vec load_scales_mins(const uint8_t* block) {
  const __m128i six = load_16(block + 4);
  const __m128i low = _mm_and_si128(six, _mm_set1_epi8(63));  // dwords: scales 0-3, minimums 0-3
  const __m128i nibbles = _mm_and_si128(_mm_srlv_epi32(_mm_shuffle_epi32(six, 0xaa), _mm_setr_epi32(0, 4, 0, 0)), _mm_set1_epi8(15));
  const __m128i high = _mm_ternarylogic_epi64(_mm_srli_epi32(six, 2), _mm_set1_epi8(48), nibbles, 0xea);  // scales 4-7, minimums 4-7
  int32_t halves;
  std::memcpy(&halves, block, sizeof halves);
  const Vec both = _mm512_castps128_ps512(_mm_cvtph_ps(_mm_cvtsi32_si128(halves)));
  const Vec factors = _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1), both);
  return mul(to_float(_mm512_cvtepu8_epi32(_mm_unpacklo_epi32(low, high))), factors);
}

// Q6_K: the scale of each 16 elements.
BANYAN_INLINE Vec load_scales_q6_k(const uint8_t* block) { return mul(to_float(load_i8(block + 192)), broadcast(half(block + 208))); }

template <DType kFormat> BANYAN_INLINE void unpack(const uint8_t* unit, Bytes* q) {
  if constexpr (kFormat == DType::kQ8_0) {
    q[0] = _mm512_xor_si512(load_4x16(unit + 2, 34), bytes_of(128));
    q[1] = _mm512_xor_si512(load_4x16(unit + 18, 34), bytes_of(128));
  } else if constexpr (kFormat == DType::kQ4_0) {
    const Bytes nibbles = load_4x16(unit + 2, 18);
    q[0] = low_nibbles(nibbles);
    q[1] = high_nibbles(nibbles);
  } else if constexpr (kFormat == DType::kQ6_K) {
    // Halves of 128 elements: 64 bytes of nibbles; their upper bits, 32 bytes, are the pairs 0 and 1 (low nibbles), 2 and 3 (high).
    for (int h = 0; h < 2; ++h) {
      const Bytes nibbles = load_bytes(unit + 64 * h);
      const Bytes upper = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(unit + 128 + 32 * h)));
      const Bytes left = _mm512_sllv_epi64(upper, _mm512_setr_epi64(4, 4, 4, 4, 2, 2, 2, 2));
      const Bytes right = _mm512_srlv_epi64(upper, _mm512_setr_epi64(0, 0, 0, 0, 2, 2, 2, 2));
      q[2 * h] = and_or(left, bytes_of(48), low_nibbles(nibbles));
      q[2 * h + 1] = and_or(right, bytes_of(48), high_nibbles(nibbles));
    }
  } else {
    const uint8_t* nibbles = unit + (kFormat == DType::kQ4_K ? 16 : 48);
    const Bytes first = load_bytes(nibbles), second = load_bytes(nibbles + 64);
    const Bytes a = _mm512_shuffle_i32x4(first, second, 0x88), b = _mm512_shuffle_i32x4(first, second, 0xdd);
    q[0] = low_nibbles(a);
    q[1] = low_nibbles(b);
    q[2] = high_nibbles(a);
    q[3] = high_nibbles(b);
    if constexpr (kFormat == DType::kQ5_K) {  // bit 2 * lane of the fifth bits belongs to the low nibbles, the next to the high
      const Bytes fifth_a = _mm512_broadcast_i32x4(load_16(unit + 16)), fifth_b = _mm512_broadcast_i32x4(load_16(unit + 32));
      const int64_t ones = 0x0101010101010101;
      const Bytes low = _mm512_setr_epi64(ones, ones, 4 * ones, 4 * ones, 16 * ones, 16 * ones, 64 * ones, 64 * ones),
                  high = _mm512_add_epi8(low, low);
      q[0] = _mm512_mask_add_epi8(q[0], _mm512_test_epi8_mask(fifth_a, low), q[0], bytes_of(16));
      q[1] = _mm512_mask_add_epi8(q[1], _mm512_test_epi8_mask(fifth_b, low), q[1], bytes_of(16));
      q[2] = _mm512_mask_add_epi8(q[2], _mm512_test_epi8_mask(fifth_a, high), q[2], bytes_of(16));
      q[3] = _mm512_mask_add_epi8(q[3], _mm512_test_epi8_mask(fifth_b, high), q[3], bytes_of(16));
    }
  }
}
