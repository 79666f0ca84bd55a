// dot_unit_avx2: a unit of weights times that of few tokens, in registers, in vectors of 32 bytes.

constexpr int kFewInt8Tokens = 8;  // their sums, and 8 more registers to work in

// What multiplies the dots of a unit: of a block its scale; of Q6_K, with a scale for each 16 elements, lane by lane; and what is taken off, per scale.
template <DType kFormat> struct UnitScales {
  static constexpr bool kIsPerLane = Int8Format<kFormat>::kGroups == 2;
  Vec scales;  // unless kIsPerLane
  alignas(32) float lanes[kIsPerLane ? 8 : 1][8];
  Vec minimums[Int8Format<kFormat>::kGroups];

  BANYAN_INLINE explicit UnitScales(const uint8_t* unit) {
    using Format = Int8Format<kFormat>;
    if constexpr (kIsPerLane) {
      const Vec d = broadcast(half(unit + 208));
      BANYAN_UNROLL
      for (int i = 0; i < 2; ++i) {
        const Vec eight = mul(to_float(load_i8(unit + 192 + 8 * i)), d);
        minimums[i] = mul(eight, broadcast(Format::kOffset));
        BANYAN_UNROLL
        for (int b = 0; b < 4; ++b) {
          const IVec block = _mm256_setr_epi32(2 * b, 2 * b, 2 * b, 2 * b, 2 * b + 1, 2 * b + 1, 2 * b + 1, 2 * b + 1);
          store(lanes[4 * i + b], _mm256_permutevar8x32_ps(eight, block));
        }
      }
    } else if constexpr (Format::kHasMin) {
      load_scales_mins(unit, scales, minimums[0]);
    } else {
      scales = load_halves(unit, traits(kFormat).block_bytes);
      minimums[0] = mul(scales, broadcast(Format::kOffset));
    }
  }
};

template <DType kFormat, int kTokens, int kBlock> BANYAN_INLINE void dot_blocks(
    const uint8_t* w, const UnitScales<kFormat>& s, const float (*factors)[8], const Unit<kFormat>* x, int64_t x_stride, Vec* sums) {
  if constexpr (kBlock < Int8Format<kFormat>::kBlocks) {
    const BlockProducts<kFormat> block(unpack<kFormat, kBlock>(w));
    BANYAN_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      const Unit<kFormat>& u = x[t * x_stride];
      const Vec dots = to_float(block.times(load_bytes(u.q + 32 * kBlock), u.starts + kBlock));
      if constexpr (UnitScales<kFormat>::kIsPerLane) sums[t] = fma(mul(dots, load(s.lanes[kBlock])), broadcast(u.d[kBlock]), sums[t]);
      else sums[t] = fma(dots, broadcast(factors[t][kBlock]), sums[t]);
    }
    dot_blocks<kFormat, kTokens, kBlock + 1>(w, s, factors, x, x_stride, sums);
  }
}

// sums[t] += one unit of weights times that of each token; a lane has every eighth four of elements.
template <DType kFormat, int kTokens> BANYAN_INLINE void dot_unit(const uint8_t* w, const Unit<kFormat>* x, int64_t x_stride, Vec* sums) {
  const UnitScales<kFormat> s(w);
  alignas(32) float factors[kTokens][8];
  BANYAN_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    const Unit<kFormat>& u = x[t * x_stride];
    if constexpr (!UnitScales<kFormat>::kIsPerLane) store(factors[t], mul(s.scales, load(u.d)));
    if constexpr (kFormat != DType::kQ8_0) {
      BANYAN_UNROLL
      for (int g = 0; g < Int8Format<kFormat>::kGroups; ++g) sums[t] = fma(s.minimums[g], load(u.minus_sums + 8 * g), sums[t]);
    }
  }
  dot_blocks<kFormat, kTokens, 0>(w, s, factors, x, x_stride, sums);
}
