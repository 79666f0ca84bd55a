// dequant: rows of every weight format as float vectors, handed to a sink: Store writes them, Dot (gemm) multiplies them at once.
// Layouts are those of ggml (ggml-common.h block_*, ggml-quants.c dequantize_row_*). Nothing is aligned.
// A sink gets put(at, chain, x): kLanes elements from element `at`; and put_n(at, x, n) for the last n < kLanes.
// `chain` counts vectors and is constant after unrolling, so that Dot may spread them over independent accumulators.

struct Store {
  float* out;
  BANYAN_INLINE void put(int64_t at, int, Vec x) { store(out + at, x); }
  BANYAN_INLINE void put_n(int64_t at, Vec x, int n) { store_n(out + at, x, n); }
};

// Formats without blocks: F32, F16, BF16.
template <Vec (*kLoad)(const void*), Vec (*kLoadN)(const void*, int), int kBytes, class Sink>
BANYAN_INLINE void decode_plain(const uint8_t* row, int64_t n, Sink& sink) {
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    BANYAN_UNROLL
    for (int v = 0; v < 4; ++v) sink.put(i + v * kLanes, v, kLoad(row + (i + v * kLanes) * kBytes));
  }
  for (; i + kLanes <= n; i += kLanes) sink.put(i, 0, kLoad(row + i * kBytes));
  if (i < n) sink.put_n(i, kLoadN(row + i * kBytes, static_cast<int>(n - i)), static_cast<int>(n - i));
}

// 32 elements: half d, int8 q[32].
template <class Sink> BANYAN_INLINE void decode_block_q8_0(const uint8_t* block, int64_t at, int chain, Sink& sink) {
  const Vec d = broadcast(half(block));
  BANYAN_UNROLL
  for (int i = 0; i < 32; i += kLanes) sink.put(at + i, chain + i / kLanes, mul(d, to_float(load_i8(block + 2 + i))));
}

// 32 elements: half d, 16 bytes; element i is in the low nibble of byte i, element 16 + i in the high one; both minus 8.
template <class Sink> BANYAN_INLINE void decode_block_q4_0(const uint8_t* block, int64_t at, int chain, Sink& sink) {
  const Vec d = broadcast(half(block)), minus_8d = mul(d, broadcast(-8.0f));
  BANYAN_UNROLL
  for (int i = 0; i < 16; i += kLanes) {
    const IVec q = load_u8(block + 2 + i);
    sink.put(at + i, chain + 2 * (i / kLanes), fma(d, to_float(bit_and(q, 15)), minus_8d));
    sink.put(at + 16 + i, chain + 2 * (i / kLanes) + 1, fma(d, to_float(shift_right<4>(q)), minus_8d));
  }
}

struct ScaleMin {
  int scale, min;
};

// Scale and minimum j < 8 of a Q4_K or Q5_K block: 6 bits each, packed in 12 bytes (get_scale_min_k4).
BANYAN_INLINE ScaleMin scale_min(const uint8_t* s, int j) {
  if (j < 4) return {s[j] & 63, s[j + 4] & 63};
  return {(s[j + 4] & 15) | ((s[j - 4] >> 6) << 4), (s[j + 4] >> 4) | ((s[j] >> 6) << 4)};
}

// 256 elements: half d, half dmin, 12 bytes of scales, 128 bytes of nibbles; 64 elements share 32 bytes, low nibbles first.
template <class Sink> BANYAN_INLINE void decode_block_q4_k(const uint8_t* block, int64_t at, Sink& sink) {
  const float d = half(block), d_min = half(block + 2);
  for (int j = 0; j < 4; ++j) {
    const ScaleMin low = scale_min(block + 4, 2 * j), high = scale_min(block + 4, 2 * j + 1);
    const Vec scale_low = broadcast(d * static_cast<float>(low.scale)), min_low = broadcast(-d_min * static_cast<float>(low.min));
    const Vec scale_high = broadcast(d * static_cast<float>(high.scale)), min_high = broadcast(-d_min * static_cast<float>(high.min));
    BANYAN_UNROLL
    for (int i = 0; i < 32; i += kLanes) {
      const IVec q = load_u8(block + 16 + 32 * j + i);
      sink.put(at + 64 * j + i, 2 * (i / kLanes), fma(scale_low, to_float(bit_and(q, 15)), min_low));
      sink.put(at + 64 * j + 32 + i, 2 * (i / kLanes) + 1, fma(scale_high, to_float(shift_right<4>(q)), min_high));
    }
  }
}

// As Q4_K, with a fifth bit per element: bit 2j (low nibbles) or 2j + 1 (high) of 32 bytes that all groups share.
template <int kGroup, class Sink> BANYAN_INLINE void decode_group_q5_k(const uint8_t* block, float d, float d_min, int64_t at, Sink& sink) {
  const ScaleMin low = scale_min(block + 4, 2 * kGroup), high = scale_min(block + 4, 2 * kGroup + 1);
  const Vec scale_low = broadcast(d * static_cast<float>(low.scale)), min_low = broadcast(-d_min * static_cast<float>(low.min));
  const Vec scale_high = broadcast(d * static_cast<float>(high.scale)), min_high = broadcast(-d_min * static_cast<float>(high.min));
  BANYAN_UNROLL
  for (int i = 0; i < 32; i += kLanes) {
    const IVec q = load_u8(block + 48 + 32 * kGroup + i), fifth = load_u8(block + 16 + i);
    const IVec fifth_low = shift_left<4>(bit_and(shift_right<2 * kGroup>(fifth), 1));
    const IVec fifth_high = shift_left<4>(bit_and(shift_right<2 * kGroup + 1>(fifth), 1));
    sink.put(at + 64 * kGroup + i, 2 * (i / kLanes), fma(scale_low, to_float(bit_or(bit_and(q, 15), fifth_low)), min_low));
    sink.put(at + 64 * kGroup + 32 + i, 2 * (i / kLanes) + 1, fma(scale_high, to_float(bit_or(shift_right<4>(q), fifth_high)), min_high));
  }
}
template <class Sink> BANYAN_INLINE void decode_block_q5_k(const uint8_t* block, int64_t at, Sink& sink) {
  const float d = half(block), d_min = half(block + 2);
  decode_group_q5_k<0>(block, d, d_min, at, sink);
  decode_group_q5_k<1>(block, d, d_min, at, sink);
  decode_group_q5_k<2>(block, d, d_min, at, sink);
  decode_group_q5_k<3>(block, d, d_min, at, sink);
}

// 256 elements: 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 int8 scales (one per 16 elements), half d; q minus 32.
// Each half of the block (128 elements) uses 64, 32 and 8 of them.
template <class Sink> BANYAN_INLINE void decode_block_q6_k(const uint8_t* block, int64_t at, Sink& sink) {
  const float d = half(block + 208);
  for (int h = 0; h < 2; ++h) {
    const uint8_t* low = block + 64 * h;
    const uint8_t* upper = block + 128 + 32 * h;
    float scales[8];
    for (int s = 0; s < 8; ++s) scales[s] = d * static_cast<float>(static_cast<int8_t>(block[192 + 8 * h + s]));
    BANYAN_UNROLL
    for (int i = 0; i < 32; i += kLanes) {
      const IVec a = load_u8(low + i), b = load_u8(low + 32 + i), u = load_u8(upper + i);
      const IVec q[4] = {bit_or(bit_and(a, 15), shift_left<4>(bit_and(u, 3))), bit_or(bit_and(b, 15), shift_left<4>(bit_and(shift_right<2>(u), 3))),
          bit_or(shift_right<4>(a), shift_left<4>(bit_and(shift_right<4>(u), 3))), bit_or(shift_right<4>(b), shift_left<4>(shift_right<6>(u)))};
      BANYAN_UNROLL
      for (int k = 0; k < 4; ++k) {
        const float scale = scales[2 * k + i / 16];
        sink.put(at + 128 * h + 32 * k + i, k, fma(broadcast(scale), to_float(q[k]), broadcast(-32.0f * scale)));
      }
    }
  }
}

// One row (or a piece that starts and ends between blocks) of n elements.
template <DType kFormat, class Sink> BANYAN_INLINE void decode_row(const uint8_t* row, int64_t n, Sink& sink) {
  constexpr int64_t kSize = traits(kFormat).block_size, kBytes = traits(kFormat).block_bytes;
  if constexpr (kFormat == DType::kF32) {
    decode_plain<load, load_n, 4>(row, n, sink);
  } else if constexpr (kFormat == DType::kF16) {
    decode_plain<load_f16, load_f16_n, 2>(row, n, sink);
  } else if constexpr (kFormat == DType::kBF16) {
    decode_plain<load_bf16, load_bf16_n, 2>(row, n, sink);
  } else if constexpr (kFormat == DType::kQ8_0 || kFormat == DType::kQ4_0) {
    // Two blocks a round: their vectors take different chains even where a block has only two of them.
    constexpr auto kDecode = kFormat == DType::kQ8_0 ? decode_block_q8_0<Sink> : decode_block_q4_0<Sink>;
    int64_t i = 0;
    for (; i + 2 * kSize <= n; i += 2 * kSize, row += 2 * kBytes) {
      kDecode(row, i, 0, sink);
      kDecode(row + kBytes, i + kSize, 32 / kLanes, sink);
    }
    if (i < n) kDecode(row, i, 0, sink);
  } else {
    for (int64_t i = 0; i < n; i += kSize, row += kBytes) {
      if constexpr (kFormat == DType::kQ4_K) decode_block_q4_k(row, i, sink);
      if constexpr (kFormat == DType::kQ5_K) decode_block_q5_k(row, i, sink);
      if constexpr (kFormat == DType::kQ6_K) decode_block_q6_k(row, i, sink);
    }
  }
}

template <DType kFormat> void decode_floats(const uint8_t* row, int64_t n, float* out) {
  Store sink{out};
  decode_row<kFormat>(row, n, sink);
}

using Decode = void (*)(const uint8_t* row, int64_t n, float* out);

// Null for types no matrix may have.
inline Decode decoder_of(DType dtype) {
  switch (dtype) {
    case DType::kF32: return decode_floats<DType::kF32>;
    case DType::kF16: return decode_floats<DType::kF16>;
    case DType::kBF16: return decode_floats<DType::kBF16>;
    case DType::kQ8_0: return decode_floats<DType::kQ8_0>;
    case DType::kQ4_0: return decode_floats<DType::kQ4_0>;
    case DType::kQ4_K: return decode_floats<DType::kQ4_K>;
    case DType::kQ5_K: return decode_floats<DType::kQ5_K>;
    case DType::kQ6_K: return decode_floats<DType::kQ6_K>;
    default: return nullptr;
  }
}
