// quantize_rows_avx2: x as int8 in blocks of 32, once per gemm, the same numbers as in quantize_rows.inl. Only their order in memory differs between many
// tokens (Tile, quantize_tile.inl) and few (Unit).

struct QuantizedBlock {
  __m128i q[2];
  int sums[2];  // of each 16
  float d;
};

BANYAN_INLINE void store_16(void* at, __m128i q) { _mm_storeu_si128(static_cast<__m128i*>(at), q); }

BANYAN_INLINE int sum_16(__m128i q) {
  const __m128i sums = _mm_sad_epu8(_mm_xor_si128(q, _mm_set1_epi8(-128)), _mm_setzero_si128());  // of the bytes plus 128
  return _mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4) - 16 * 128;
}

BANYAN_INLINE IVec without_sign(Vec a) { return _mm256_slli_epi32(_mm256_castps_si256(a), 1); }

// The largest magnitude, out of bits without_sign. The maximum is taken over bits: there a NaN is the largest, so it reaches d and every output.
BANYAN_INLINE float highest_in(IVec bits) {
  __m128i most = _mm_max_epu32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0x4e));
  most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0xb1));
  const uint32_t highest_bits = static_cast<uint32_t>(_mm_cvtsi128_si32(most)) >> 1;
  float highest;
  std::memcpy(&highest, &highest_bits, sizeof highest);
  return highest;
}

// d, or the least whose inverse is finite. NaN stays NaN.
BANYAN_INLINE float with_inverse(float d) { return d < std::numeric_limits<float>::min() ? std::numeric_limits<float>::min() : d; }

BANYAN_INLINE QuantizedBlock quantize_block(const float* x) {
  Vec part[4];
  IVec bits = without_sign(load(x));
  BANYAN_UNROLL
  for (int i = 0; i < 4; ++i) {
    part[i] = load(x + 8 * i);
    bits = _mm256_max_epu32(bits, without_sign(part[i]));
  }
  QuantizedBlock block;
  block.d = with_inverse(highest_in(bits) / 127.0f);
  const Vec inverse = broadcast(1.0f / block.d);
  const auto whole = [&](int i) { return _mm256_cvtps_epi32(mul(part[i], inverse)); };
  // Packing goes by halves of a vector, so dwords come out as 0, 2, 4, 6 and 1, 3, 5, 7.
  const __m256i mixed = _mm256_packs_epi16(_mm256_packs_epi32(whole(0), whole(1)), _mm256_packs_epi32(whole(2), whole(3)));
  const __m256i q = _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  block.q[0] = _mm256_castsi256_si128(q);
  block.q[1] = _mm256_extracti128_si256(q, 1);
  block.sums[0] = sum_16(block.q[0]);
  block.sums[1] = sum_16(block.q[1]);
  return block;
}

// 3 tokens x 2 vectors of 8 weight rows: 6 integer and 6 float sums, 2 vectors of weights, one of x and one of products: the 16 registers.
constexpr int kInt8Tokens = 3;

// One unit of one token, in its order.
template <DType kFormat> struct Unit {
  int8_t q[Int8Format<kFormat>::kElements];
  float d[8];
  int32_t starts[8];                                   // Q8_0: what takes off that its weights were made unsigned
  float minus_sums[8 * Int8Format<kFormat>::kGroups];  // -d sum(q), of each group that has a scale
};

// A whole row; blocks that fill up the last unit are zero.
template <DType kFormat> void quantize_units(const float* x, int64_t n_k, Unit<kFormat>* units) {
  using Format = Int8Format<kFormat>;
  for (int64_t first = 0; first < n_k; first += Format::kElements, ++units) {
    for (int b = 0; b < Format::kBlocks; ++b) {
      QuantizedBlock block{};
      if (first + 32 * b < n_k) block = quantize_block(x + first + 32 * b);
      store_16(units->q + 32 * b, block.q[0]);
      store_16(units->q + 32 * b + 16, block.q[1]);
      units->d[b] = block.d;
      units->starts[b] = -Format::kOffset * (block.sums[0] + block.sums[1]);
      if constexpr (Format::kGroups == 2) {
        for (int g = 0; g < 2; ++g) units->minus_sums[2 * b + g] = -block.d * static_cast<float>(block.sums[g]);
      } else {
        units->minus_sums[b] = -block.d * static_cast<float>(block.sums[0] + block.sums[1]);
      }
    }
  }
}
