// products_maddubs: products of unsigned and signed bytes with AVX2's VPMADDUBSW, which adds two of them to 16 bits, where they must fit.

// Sums of four products.
BANYAN_INLINE IVec sum_pairs(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

// sum += products of 16 bits, two a lane.
BANYAN_INLINE void add_pairs(IVec& sum, __m256i a, __m256i b) {
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
  BANYAN_NOW(sum);
}

// Weights of Q8_0 do not fit beside x, and many tokens gain nothing over floats when signs move to x and no two steps can be added in 16 bits.
template <DType kFormat> constexpr bool kHasStrips = kFormat != DType::kQ8_0;
// Beyond these tokens the unpacking of gemm_int8.inl pays; floats in the case of Q8_0.
template <DType kFormat> constexpr int kFewInt8TokensOf = kFormat == DType::kQ8_0 ? 8 : kFormat == DType::kQ6_K ? 4 : 2;

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

// A block of weights in front of few tokens: a lane sums four products. Weights of Q8_0 are signed, and hand their sign to x.
template <DType kFormat> struct BlockProducts {
  static constexpr bool kIsSigned = kFormat == DType::kQ8_0;
  Bytes w, magnitude;
  BANYAN_INLINE explicit BlockProducts(Bytes unpacked) : w(unpacked), magnitude(kIsSigned ? _mm256_abs_epi8(w) : w) {}
  BANYAN_INLINE IVec times(Bytes x, const int32_t*) const {
    return sum_pairs(_mm256_maddubs_epi16(magnitude, kIsSigned ? _mm256_sign_epi8(x, w) : x));
  }
};
