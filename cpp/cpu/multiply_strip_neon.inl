// multiply_strip_neon: many tokens times a strip of unpacked weights, with SDOT or SMMLA (products_*.inl).

BANYAN_INLINE Vec load_up_to(const float* at, int n) { return n == kLanes ? load(at) : load_n(at, n); }

// One tile of tokens times one strip: up to 12 integer sums; then a conversion, a product and a multiply-add each (Q4_K, Q5_K one more, Q6_K twice).
template <int kGroups, bool kHasMin, int kTokens> void multiply_tile(const TokenTile* BANYAN_RESTRICT x, const Strip& strip, int n_blocks,
    float* BANYAN_RESTRICT out, int64_t out_stride, int n_cols, const float* bias, bool is_added, const Ahead& ahead, int64_t) {
  constexpr int kColumns = (kTokens + kSumTokens - 1) / kSumTokens;
  Vec sums[kColumns][kSides];
  BANYAN_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    BANYAN_UNROLL
    for (int side = 0; side < kSides; ++side) sums[c][side] = zero();
  }
  for (int b = 0; b < n_blocks; ++b, ++x) {
    ahead.ask(b);
    BANYAN_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      int32x4_t dots[kColumns][kSides];
      BANYAN_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        BANYAN_UNROLL
        for (int side = 0; side < kSides; ++side) dots[c][side] = vdupq_n_s32(0);
      }
      constexpr int kSteps = 32 / kStep / kGroups;
      BANYAN_UNROLL
      for (int k = g * kSteps; k < (g + 1) * kSteps; ++k) multiply_step<kTokens>(strip.q[b], k, x->q[k], dots);
      BANYAN_UNROLL
      for (int side = 0; side < kSides; ++side) {
        const Vec scales = row_factors(strip.scales[g][b], side);
        BANYAN_UNROLL
        for (int c = 0; c < kColumns; ++c) sums[c][side] = fma(mul(to_float(dots[c][side]), scales), token_factors(x->d, c), sums[c][side]);
        if constexpr (kHasMin) {
          const Vec minimums = row_factors(strip.scales[1][b], side);
          BANYAN_UNROLL
          for (int c = 0; c < kColumns; ++c) sums[c][side] = fma(minimums, token_factors(x->minus_sums, c), sums[c][side]);
        }
      }
    }
  }
  BANYAN_UNROLL
  for (int v = 0; v < kStripRows / kLanes; ++v) {
    const int n = std::clamp(n_cols - kLanes * v, 0, kLanes);
    const Vec start = bias != nullptr ? load_up_to(bias + kLanes * v, n) : zero();
    BANYAN_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      float* at = out + t * out_stride + kLanes * v;
      Vec sum = add(start, rows_of(sums, t, v));
      if (is_added) sum = add(sum, load_up_to(at, n));
      if (n == kLanes) store(at, sum);
      else store_n(at, sum, n);
    }
  }
}

// Formats whose sums have the same form share one.
template <DType kFormat, int kTokens> constexpr auto multiply_strip =
    multiply_tile<Int8Format<kFormat>::kGroups, Int8Format<kFormat>::kHasMin, kTokens>;
