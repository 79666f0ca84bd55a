// int8_format_neon: what the integer gemm knows of a block format on NEON. Weights become signed bytes in registers, 128 elements at a time and in their
// order: a quad, 4 blocks of 32. A unit is 4 blocks of Q8_0 or Q4_0 (one quad), or one block of a K-quant (two).
// With x of block b as d_x * q_x and a weight as (scale * q_w - minimum), sum(w x) over the block = d_x (scale sum(q_w q_x) - minimum sum(q_x)).

using Bytes = int8x16_t;

template <DType kFormat> struct Int8Format {
  static constexpr bool kIsK = traits(kFormat).block_size == 256;
  static constexpr int kQuads = kIsK ? 2 : 1;  // in a unit
  static constexpr int kElements = 128 * kQuads;
  static constexpr int kBytes = kIsK ? traits(kFormat).block_bytes : 4 * traits(kFormat).block_bytes;
  static constexpr bool kHasMin = kFormat == DType::kQ4_K || kFormat == DType::kQ5_K;
  static constexpr int kGroups = kFormat == DType::kQ6_K ? 2 : 1;  // scales in 32 elements
  // What the bytes are times the format's integers: with the integer's highest bit where a byte has its sign, flipping it takes the offset off (8 of
  // Q4_0, 32 of Q6_K). The scales are divided by it, which is exact.
  static constexpr int kFactor = kFormat == DType::kQ4_0 ? 16 : kFormat == DType::kQ6_K ? 4 : 1;
};

BANYAN_INLINE uint8x16_t load_16(const void* at) { return vld1q_u8(static_cast<const uint8_t*>(at)); }
BANYAN_INLINE Bytes load_bytes(const void* at) { return vld1q_s8(static_cast<const int8_t*>(at)); }
BANYAN_INLINE Bytes as_signed(uint8x16_t a) { return vreinterpretq_s8_u8(a); }

// 0 <= kBits, or to the left.
template <int kBits> BANYAN_INLINE uint8x16_t shift_bytes_right(uint8x16_t a) {
  if constexpr (kBits == 0) return a;  // the instruction starts at 1
  else if constexpr (kBits < 0) return vshlq_n_u8(a, -kBits);
  else return vshrq_n_u8(a, kBits);
}

// The scales d of four blocks.
template <DType kFormat> BANYAN_INLINE Vec load_4_scales(const uint8_t* unit) {
  uint16_t bits[4];
  for (int i = 0; i < 4; ++i) std::memcpy(&bits[i], unit + i * traits(kFormat).block_bytes, sizeof bits[i]);
  uint16x4_t halves = vdup_n_u16(bits[0]);
  halves = vset_lane_u16(bits[1], halves, 1);
  halves = vset_lane_u16(bits[2], halves, 2);
  halves = vset_lane_u16(bits[3], halves, 3);
  return mul(vcvt_f32_f16(vreinterpret_f16_u16(halves)), broadcast(1.0f / Int8Format<kFormat>::kFactor));
}

// Eight bytes, each times `factor`.
BANYAN_INLINE void scale_bytes(uint32_t first, uint32_t second, float factor, Vec* scales) {
  const uint16x8_t wide = vmovl_u8(vcreate_u8(first | uint64_t{second} << 32));
  scales[0] = mul(vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide))), broadcast(factor));
  scales[1] = mul(vcvtq_f32_u32(vmovl_u16(vget_high_u16(wide))), broadcast(factor));
}

// Of a unit: kQuads * kGroups vectors of scales, in the order of what they scale, and kQuads of minimums where the format has them.
template <DType kFormat> BANYAN_INLINE void load_scales(const uint8_t* unit, Vec* scales, Vec* minimums) {
  if constexpr (Int8Format<kFormat>::kHasMin) {  // scale_min in dequant.inl, four at a time
    uint32_t six[3];
    std::memcpy(six, unit + 4, sizeof six);
    scale_bytes(six[0] & 0x3f3f3f3f, (six[2] & 0x0f0f0f0f) | (six[0] >> 2 & 0x30303030), half(unit), scales);
    scale_bytes(six[1] & 0x3f3f3f3f, (six[2] >> 4 & 0x0f0f0f0f) | (six[1] >> 2 & 0x30303030), half(unit + 2), minimums);
  } else if constexpr (kFormat == DType::kQ6_K) {
    const Vec d = broadcast(half(unit + 208) / Int8Format<kFormat>::kFactor);
    const Bytes bytes = load_bytes(unit + 192);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    scales[0] = mul(to_float(vmovl_s16(vget_low_s16(low))), d);
    scales[1] = mul(to_float(vmovl_s16(vget_high_s16(low))), d);
    scales[2] = mul(to_float(vmovl_s16(vget_low_s16(high))), d);
    scales[3] = mul(to_float(vmovl_s16(vget_high_s16(high))), d);
  } else {
    scales[0] = load_4_scales<kFormat>(unit);
  }
}

// 64 elements of Q4_K or Q5_K: 32 nibbles, low ones first, and their fifth bits, which all groups of 64 share.
template <DType kFormat, int kGroup> BANYAN_INLINE void unpack_group(const uint8_t* unit, Bytes* q) {
  BANYAN_UNROLL
  for (int i = 0; i < 2; ++i) {
    const uint8x16_t nibbles = load_16(unit + (kFormat == DType::kQ4_K ? 16 : 48) + 32 * kGroup + 16 * i);
    uint8x16_t low = vandq_u8(nibbles, vdupq_n_u8(15)), high = vshrq_n_u8(nibbles, 4);
    if constexpr (kFormat == DType::kQ5_K) {
      const uint8x16_t fifth = load_16(unit + 16 + 16 * i), sixteen = vdupq_n_u8(16);
      low = vbslq_u8(sixteen, shift_bytes_right<2 * kGroup - 4>(fifth), low);
      high = vbslq_u8(sixteen, shift_bytes_right<2 * kGroup - 3>(fifth), high);
    }
    q[i] = as_signed(low);
    q[2 + i] = as_signed(high);
  }
}

// Quad kQuad of a unit: 8 vectors.
template <DType kFormat, int kQuad> BANYAN_INLINE void unpack(const uint8_t* unit, Bytes* q) {
  if constexpr (kFormat == DType::kQ8_0) {
    BANYAN_UNROLL
    for (int i = 0; i < 8; ++i) q[i] = load_bytes(unit + 34 * (i / 2) + 2 + 16 * (i % 2));
  } else if constexpr (kFormat == DType::kQ4_0) {
    BANYAN_UNROLL
    for (int b = 0; b < 4; ++b) {
      const uint8x16_t nibbles = veorq_u8(load_16(unit + 18 * b + 2), vdupq_n_u8(0x88));
      q[2 * b] = as_signed(vshlq_n_u8(nibbles, 4));
      q[2 * b + 1] = as_signed(vandq_u8(nibbles, vdupq_n_u8(0xf0)));
    }
  } else if constexpr (kFormat == DType::kQ6_K) {  // 64 bytes of nibbles, 32 of upper pairs of bits
    BANYAN_UNROLL
    for (int i = 0; i < 2; ++i) {
      const uint8x16_t a = load_16(unit + 64 * kQuad + 16 * i), b = load_16(unit + 64 * kQuad + 32 + 16 * i), nibble = vdupq_n_u8(0x3c);
      const uint8x16_t upper = veorq_u8(load_16(unit + 128 + 32 * kQuad + 16 * i), vdupq_n_u8(0xaa));
      q[i] = as_signed(vsliq_n_u8(vshlq_n_u8(a, 2), upper, 6));
      q[2 + i] = as_signed(vsliq_n_u8(vshlq_n_u8(b, 2), vshrq_n_u8(upper, 2), 6));
      q[4 + i] = as_signed(vsliq_n_u8(vandq_u8(vshrq_n_u8(a, 2), nibble), vshrq_n_u8(upper, 4), 6));
      q[6 + i] = as_signed(vsliq_n_u8(vandq_u8(vshrq_n_u8(b, 2), nibble), vshrq_n_u8(upper, 6), 6));
    }
  } else {
    unpack_group<kFormat, 2 * kQuad>(unit, q);
    unpack_group<kFormat, 2 * kQuad + 1>(unit, q + 4);
  }
}
