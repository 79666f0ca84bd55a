// products_dpbusd: products of unsigned and signed bytes with AVX-VNNI's VPDPBUSD, which adds four of them to a sum of 32 bits.

// sum += products of 16 bits, two a lane.
BANYAN_INLINE void add_pairs(IVec& sum, __m256i a, __m256i b) { sum = _mm256_dpwssd_avx_epi32(sum, a, b); }

template <DType> constexpr bool kIsInWords = false;
// Beyond these tokens the unpacking of gemm_int8.inl pays.
template <DType kFormat> constexpr int kFewInt8TokensOf = kFormat == DType::kQ8_0 ? 5 : kFormat == DType::kQ6_K ? 3 : 2;

// A lane's sum of up to 8 steps of four products.
template <DType> struct Products {
  IVec sum;
  BANYAN_INLINE void begin(IVec start) { sum = start; }
  BANYAN_INLINE void add(int, Bytes w, Bytes x) { sum = _mm256_dpbusd_avx_epi32(sum, w, x); }
  BANYAN_INLINE IVec end(IVec) const { return sum; }
};

// A block of weights in front of few tokens: a lane sums four products. Those of Q8_0 are made unsigned, and lane 0 starts from what takes that off again.
template <DType kFormat> struct BlockProducts {
  static constexpr bool kIsSigned = kFormat == DType::kQ8_0;
  Bytes w;
  BANYAN_INLINE explicit BlockProducts(Bytes unpacked) : w(kIsSigned ? flip(unpacked, bytes_of(128)) : unpacked) {}
  BANYAN_INLINE IVec times(Bytes x, const int32_t* start) const {
    const IVec from = kIsSigned ? _mm256_zextsi128_si256(_mm_cvtsi32_si128(*start)) : _mm256_setzero_si256();
    return _mm256_dpbusd_avx_epi32(from, w, x);
  }
};
