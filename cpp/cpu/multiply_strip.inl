// multiply_strip: many tokens times a strip of unpacked weights, with the variant's products of bytes (x86).

// One tile of tokens times one strip. With VPDPBUSD and AVX-512: 12 integer chains; then two multiply-adds a chain (Q4_K, Q5_K one more, Q6_K twice two). They
// share the two ports of VPDPBUSD, so 8 in 10 operations are useful (8 in 11, 8 in 12): that is the bound. What the next tile needs, `to_next` blocks on in x and
// below in out, is asked for in between.
template <DType kFormat, int kTokens> void multiply_strip(const Tile<kFormat>* BANYAN_RESTRICT x, const Strip& strip, int n_blocks,
    float* BANYAN_RESTRICT out, int64_t out_stride, int n_cols, const float* bias, bool is_added, const Ahead& ahead, int64_t to_next) {
  using Format = Int8Format<kFormat>;
  Vec sums[kTokens][kPanelVectors];
  BANYAN_UNROLL
  for (int v = 0; v < kPanelVectors; ++v) {
    const int n = std::clamp(n_cols - kLanes * v, 0, kLanes);
    const Vec start = bias != nullptr ? load_up_to(bias + kLanes * v, n) : zero();
    BANYAN_UNROLL
    for (int t = 0; t < kTokens; ++t) sums[t][v] = is_added ? add(start, load_up_to(out + t * out_stride + kLanes * v, n)) : start;
  }
  for (int b = 0; b < n_blocks; ++b, ++x) {
    ahead.ask<kPieceBytes<kFormat>>(b);
    BANYAN_UNROLL
    for (size_t at = 0; at < sizeof *x; at += 64) BANYAN_PREFETCH_NEAR(reinterpret_cast<const char*>(x + to_next) + at);
    if (b < kTokens) {
      BANYAN_UNROLL
      for (int v = 0; v < kPanelVectors; ++v) BANYAN_PREFETCH_NEAR(out + (kTokens + b) * out_stride + kLanes * v);
    }
    BANYAN_UNROLL
    for (int g = 0; g < Format::kGroups; ++g) {
      Products<kFormat> dots[kTokens][kPanelVectors];
      const auto start = [&](int t) { return Format::kHasMin ? four_bytes(&kFloatBaseBits) : four_bytes(&x->starts[g][t]); };
      BANYAN_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        BANYAN_UNROLL
        for (int v = 0; v < kPanelVectors; ++v) dots[t][v].begin(start(t));
      }
      constexpr int kSteps = 8 / Format::kGroups, kParts = kPartsOf<kFormat>;
      BANYAN_UNROLL
      for (int part = 0; part < kParts; ++part) {
        const auto& steps = strip.q[kParts * b + part];
        BANYAN_UNROLL
        for (int k = g * kSteps; k < (g + 1) * kSteps; ++k) {
          const Bytes w[kPanelVectors] = {load_bytes(steps[k][0]), load_bytes(steps[k][1])};
          BANYAN_UNROLL
          for (int t = 0; t < kTokens; ++t) {
            const Bytes q = four_bytes(reinterpret_cast<const uint8_t*>(x->q[t]) + 4 * (8 * part + k));
            BANYAN_UNROLL
            for (int v = 0; v < kPanelVectors; ++v) dots[t][v].add(k - g * kSteps, w[v], q);
          }
        }
      }
      BANYAN_UNROLL
      for (int v = 0; v < kPanelVectors; ++v) {
        const Vec scales = load(strip.scales[g][b][v]), base = based(scales);
        BANYAN_UNROLL
        for (int t = 0; t < kTokens; ++t) { sums[t][v] = fma(scaled(dots[t][v].end(start(t)), scales, base), broadcast(x->d[t]), sums[t][v]); }
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
    const int n = std::clamp(n_cols - kLanes * v, 0, kLanes);
    BANYAN_UNROLL
    for (int t = 0; t < kTokens; ++t) store_up_to(out + t * out_stride + kLanes * v, sums[t][v], n);
  }
}
