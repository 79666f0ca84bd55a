// dot_unit: a unit of weights times that of few tokens, in registers, with VPDPBUSD.

constexpr int kFewInt8Tokens = 7;  // of Q8_0; 8 in strips are 1.1 to 1.4 times as fast on Intel, 2 to 8 % slower on Zen 5
// Above it the unpacking of gemm_int8.inl pays, which the bytes of a block decide.
template <DType kFormat> constexpr int kFewInt8TokensOf = kFormat == DType::kQ8_0   ? kFewInt8Tokens
                                                          : kFormat == DType::kQ6_K ? 6
                                                          : kFormat == DType::kQ5_K ? 5
                                                                                    : 4;

// q[j] of a K-quant: of each piece of 16 elements its dword j, so that four products are summed before they become floats. The piece of vector v and
// lane l stands at dword 4 l + v.
BANYAN_INLINE void gather_dwords(Bytes* q) {
  const Bytes low01 = _mm512_unpacklo_epi32(q[0], q[1]), high01 = _mm512_unpackhi_epi32(q[0], q[1]);
  const Bytes low23 = _mm512_unpacklo_epi32(q[2], q[3]), high23 = _mm512_unpackhi_epi32(q[2], q[3]);
  q[0] = _mm512_unpacklo_epi64(low01, low23);
  q[1] = _mm512_unpackhi_epi64(low01, low23);
  q[2] = _mm512_unpacklo_epi64(high01, high23);
  q[3] = _mm512_unpackhi_epi64(high01, high23);
}

// sums[t] += one unit of weights times that of each token, lane by lane.
template <DType kFormat, int kTokens> BANYAN_INLINE void dot_unit(const uint8_t* w, const Unit<kFormat>* x, int64_t x_stride, Vec* sums) {
  using Format = Int8Format<kFormat>;
  Bytes q[Format::kVectors];
  unpack<kFormat>(w, q);
  Vec scales, minimums = zero();
  if constexpr (!Format::kIsK) {
    scales = load_4_scales<kFormat>(w);
  } else {
    gather_dwords(q);
    if constexpr (Format::kHasMin) {
      const __m512i block = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
      const Vec both = load_scales_mins(w);
      scales = _mm512_permutexvar_ps(block, both);
      minimums = _mm512_permutexvar_ps(_mm512_add_epi32(block, _mm512_set1_epi32(8)), both);
    } else {
      scales = _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), load_scales_q6_k(w));
    }
  }
  const Vec base = based(scales);
  BANYAN_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    const Unit<kFormat>& u = x[t * x_stride];
    __m512i dots;
    if constexpr (Format::kHasMin) dots = _mm512_set1_epi32(kFloatBaseBits);
    else dots = load_bytes(u.starts);
    BANYAN_UNROLL
    for (int v = 0; v < Format::kVectors; ++v) dots = _mm512_dpbusd_epi32(dots, q[v], load_bytes(u.q + 64 * v));
    sums[t] = fma(scaled(dots, scales, base), load(u.d), sums[t]);
    if constexpr (Format::kHasMin) sums[t] = fma(minimums, load(u.minus_sums), sums[t]);
  }
}
