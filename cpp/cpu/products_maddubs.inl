// products_maddubs: products of unsigned and signed bytes with AVX2's VPMADDUBSW, which adds two of them to 16 bits, where they must fit.

// Sums of four products.
BANYAN_INLINE IVec sum_pairs(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

// sum += products of 16 bits, two a lane.
BANYAN_INLINE void add_pairs(IVec& sum, __m256i a, __m256i b) {
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
  BANYAN_NOW(sum);
}

// Sums of two products of Q8_0 do not fit into 16 bits. Many tokens meet it in words (VPMADDWD): 32 operations a block where bytes whose signs move to x take 27 and
// floats 32, but half of them are additions, which have a third port.
template <DType kFormat> constexpr bool kIsInWords = kFormat == DType::kQ8_0;
// Beyond these tokens the unpacking of gemm_int8.inl pays.
template <DType kFormat> constexpr int kFewInt8TokensOf = kFormat == DType::kQ8_0 ? 6 : kFormat == DType::kQ6_K ? 4 : 2;

// A lane's sum of up to 8 steps of four products. As many steps as fit are added in 16 bits; x is at most 127.
template <DType kFormat> struct Products {
  static constexpr int kMost = 32767 / (2 * 127 * Int8Format<kFormat>::kHighest);
  static constexpr int kSteps = kMost >= 8 ? 8 : kMost >= 4 ? 4 : 2;
  static_assert(kMost >= kSteps);
  __m256i pairs;
  IVec sum;
  BANYAN_INLINE void begin(IVec) {}
  BANYAN_INLINE void add(int step, Bytes w, Bytes x) {
    const __m256i two = _mm256_maddubs_epi16(w, x);
    pairs = step % kSteps == 0 ? two : _mm256_add_epi16(pairs, two);
    if constexpr (kSteps > 2) BANYAN_NOW(pairs);
    if (step % kSteps == kSteps - 1) sum = step < kSteps ? sum_pairs(pairs) : _mm256_add_epi32(sum, sum_pairs(pairs));
  }
  BANYAN_INLINE IVec end(IVec start) const { return _mm256_add_epi32(sum, start); }
};

template <> struct Products<DType::kQ8_0> {
  IVec sum;
  BANYAN_INLINE void begin(IVec start) { sum = start; }
  BANYAN_INLINE void add(int, Bytes w, Bytes x) { add_pairs(sum, w, x); }
  BANYAN_INLINE IVec end(IVec) const { return sum; }

  // What makes words, here and not beside the products of the other variants, which have none.
  // The first or the second two of the four signed bytes in each dword.
  BANYAN_INLINE static Bytes words_of(IVec dwords, int half) {
    const __m256i upper =
        _mm256_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13);
    return _mm256_srai_epi16(_mm256_shuffle_epi8(half == 0 ? dwords : _mm256_srli_epi32(dwords, 16), upper), 8);
  }
  BANYAN_INLINE static void store_words(int16_t* to, __m128i q) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_cvtepi8_epi16(q)); }
};

// A block of weights in front of few tokens: a lane sums four products. Weights of Q8_0 are signed, and hand their sign to x.
template <DType kFormat> struct BlockProducts {
  static constexpr bool kIsSigned = kFormat == DType::kQ8_0;
  Bytes w, magnitude;
  BANYAN_INLINE explicit BlockProducts(Bytes unpacked) : w(unpacked), magnitude(kIsSigned ? _mm256_abs_epi8(w) : w) {}
  BANYAN_INLINE IVec times(Bytes x, const int32_t*) const {
    return sum_pairs(_mm256_maddubs_epi16(magnitude, kIsSigned ? _mm256_sign_epi8(x, w) : x));
  }
};
