// multiply_strip: many tokens times a strip of unpacked weights, with VPDPBUSD.

// One tile of tokens times one strip: 12 integer chains; then a conversion, a product and a multiply-add a chain (Q4_K, Q5_K one more, Q6_K twice).
// Conversions have ports of their own, so of the operations that share the two of VPDPBUSD 8 in 10 are useful (8 in 11, 8 in 12): that is the bound.
template <DType kFormat, int kTokens> void multiply_strip(const Tile<kFormat>* BANYAN_RESTRICT x, const Strip& strip, int n_blocks,
    float* BANYAN_RESTRICT out, int64_t out_stride, int n_cols, const float* bias, bool is_added, const Ahead& ahead) {
  using Format = Int8Format<kFormat>;
  Vec sums[kTokens][kPanelVectors];
  BANYAN_UNROLL
  for (int v = 0; v < kPanelVectors; ++v) {
    const int n = std::clamp(n_cols - 16 * v, 0, 16);
    const Vec start = bias != nullptr ? load_n(bias + 16 * v, n) : zero();
    BANYAN_UNROLL
    for (int t = 0; t < kTokens; ++t) sums[t][v] = is_added ? add(start, load_n(out + t * out_stride + 16 * v, n)) : start;
  }
  for (int b = 0; b < n_blocks; ++b, ++x) {
    ahead.ask<kPieceBytes<kFormat>>(b);
    BANYAN_UNROLL
    for (int g = 0; g < Format::kGroups; ++g) {
      __m512i dots[kTokens][kPanelVectors];
      BANYAN_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        const __m512i start = Format::kHasMin ? _mm512_setzero_si512() : _mm512_set1_epi32(x->starts[g][t]);
        BANYAN_UNROLL
        for (int v = 0; v < kPanelVectors; ++v) dots[t][v] = start;
      }
      constexpr int kSteps = 8 / Format::kGroups;
      BANYAN_UNROLL
      for (int k = g * kSteps; k < (g + 1) * kSteps; ++k) {
        const Bytes w[kPanelVectors] = {load_64(strip.q[b][k][0]), load_64(strip.q[b][k][1])};
        BANYAN_UNROLL
        for (int t = 0; t < kTokens; ++t) {
          int32_t four;
          std::memcpy(&four, x->q[t] + 4 * k, sizeof four);
          const Bytes q = _mm512_set1_epi32(four);
          BANYAN_UNROLL
          for (int v = 0; v < kPanelVectors; ++v) dots[t][v] = _mm512_dpbusd_epi32(dots[t][v], w[v], q);
        }
      }
      BANYAN_UNROLL
      for (int v = 0; v < kPanelVectors; ++v) {
        const Vec scales = load(strip.scales[g][b][v]);
        BANYAN_UNROLL
        for (int t = 0; t < kTokens; ++t) sums[t][v] = fma(mul(to_float(dots[t][v]), scales), broadcast(x->d[t]), sums[t][v]);
        if constexpr (Format::kHasMin) {
          const Vec minimums = load(strip.scales[1][b][v]);
          BANYAN_UNROLL
          for (int t = 0; t < kTokens; ++t) sums[t][v] = fma(minimums, broadcast(x->minus_sums[t]), sums[t][v]);
        }
      }
    }
  }
  BANYAN_UNROLL
  for (int v = 0; v < kPanelVectors; ++v) {
    const int n = std::clamp(n_cols - 16 * v, 0, 16);
    BANYAN_UNROLL
    for (int t = 0; t < kTokens; ++t) store_n(out + t * out_stride + 16 * v, sums[t][v], n);
  }
}
