// dot_unit_neon: a unit of weights times that of few tokens, in registers, with SDOT.

// The sums of the lanes of four vectors.
BANYAN_INLINE int32x4_t sum_each(const int32x4_t* x) { return vpaddq_s32(vpaddq_s32(x[0], x[1]), vpaddq_s32(x[2], x[3])); }

template <DType kFormat, int kTokens, int kQuad>
BANYAN_INLINE void dot_quad(const uint8_t* w, const Vec* scales, const Vec* minimums, const Unit<kFormat>* x, int64_t x_stride, Vec* sums) {
  constexpr int kGroups = Int8Format<kFormat>::kGroups, kVectors = 2 / kGroups;  // vectors that share a scale
  Bytes q[8];
  unpack<kFormat, kQuad>(w, q);
  BANYAN_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    const Unit<kFormat>& u = x[t * x_stride];
    BANYAN_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      int32x4_t dots[4];
      BANYAN_UNROLL
      for (int i = 0; i < 4; ++i) {
        dots[i] = vdupq_n_s32(0);
        BANYAN_UNROLL
        for (int v = (4 * g + i) * kVectors; v < (4 * g + i + 1) * kVectors; ++v) {
          dots[i] = vdotq_s32(dots[i], q[v], load_bytes(u.q + 128 * kQuad + 16 * v));
        }
      }
      const int at = kQuad * kGroups + g;
      sums[t] = fma(to_float(sum_each(dots)), mul(scales[at], load(u.d + 4 * at)), sums[t]);
    }
    if constexpr (Int8Format<kFormat>::kHasMin) sums[t] = fma(minimums[kQuad], load(u.minus_sums + 4 * kQuad), sums[t]);
  }
}

// sums[t] += one unit of weights times that of each token; a lane has every fourth scale's part.
template <DType kFormat, int kTokens> BANYAN_INLINE void dot_unit(const uint8_t* w, const Unit<kFormat>* x, int64_t x_stride, Vec* sums) {
  using Format = Int8Format<kFormat>;
  Vec scales[Format::kQuads * Format::kGroups], minimums[Format::kQuads];
  load_scales<kFormat>(w, scales, minimums);
  dot_quad<kFormat, kTokens, 0>(w, scales, minimums, x, x_stride, sums);
  if constexpr (Format::kQuads == 2) dot_quad<kFormat, kTokens, 1>(w, scales, minimums, x, x_stride, sums);
}
