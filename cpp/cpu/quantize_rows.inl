// quantize_rows: x as int8 in blocks of 32, once per gemm: d = max|x| / 127, q = x / d to nearest even. The same numbers for any number of tokens;
// only their order in memory differs between many tokens (Tile) and few (Unit).

struct QuantizedBlock {
  __m128i q[2];
  int sums[2];  // of each 16
  float d;
};

BANYAN_INLINE int sum_16(__m128i q) {
  const __m128i four = _mm_dpbusd_epi32(_mm_setzero_si128(), _mm_set1_epi8(1), q);
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

// The largest magnitude. The maximum is taken over bits: there a NaN is the largest, so it reaches d and every output.
BANYAN_INLINE float highest_of(Vec a, Vec b) {
  const __m512i without_sign = _mm512_max_epu32(_mm512_slli_epi32(_mm512_castps_si512(a), 1), _mm512_slli_epi32(_mm512_castps_si512(b), 1));
  const uint32_t bits = _mm512_reduce_max_epu32(without_sign) >> 1;
  float highest;
  std::memcpy(&highest, &bits, sizeof highest);
  return highest;
}

// d, or the least whose inverse is finite. NaN stays NaN.
BANYAN_INLINE float with_inverse(float d) { return d < std::numeric_limits<float>::min() ? std::numeric_limits<float>::min() : d; }

BANYAN_INLINE QuantizedBlock quantize_block(const float* x) {
  const Vec a = load(x), b = load(x + 16);
  QuantizedBlock block;
  block.d = with_inverse(highest_of(a, b) / 127.0f);
  const Vec inverse = broadcast(1.0f / block.d);
  block.q[0] = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(mul(a, inverse)));
  block.q[1] = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(mul(b, inverse)));
  block.sums[0] = sum_16(block.q[0]);
  block.sums[1] = sum_16(block.q[1]);
  return block;
}

BANYAN_INLINE void store_16(void* at, __m128i q) { _mm_storeu_si128(static_cast<__m128i*>(at), q); }

// 6 tokens x 2 vectors of 16 weight rows: 12 integer and 12 float sums of the 32 registers. 2 VPDPBUSD a cycle with a latency of 4 need 8 chains.
constexpr int kInt8Tokens = 6;

// One unit of one token, its elements where the vectors of weights have theirs.
template <DType kFormat, class = void> struct Unit {  // Q8_0, Q4_0, Q6_K
  int8_t q[32 * Int8Format<kFormat>::kBlocks];
  int32_t starts[16];  // what the sums of a vector start from
  float d[16];
};
template <DType kFormat> struct Unit<kFormat, std::enable_if_t<Int8Format<kFormat>::kHasMin>> {
  int8_t q[256];
  float d[16], minus_sums[16];  // -d sum(q), which the minimum multiplies
};

// A piece of 16 elements of a K-quant: its dwords lie 64 bytes apart, in the order of gather_dwords.
template <DType kFormat> BANYAN_INLINE void put_piece(Unit<kFormat>& unit, int at, __m128i q, int sum, float d) {
  int32_t dwords[4];
  store_16(dwords, q);
  for (int j = 0; j < 4; ++j) std::memcpy(unit.q + 64 * j + 4 * at, &dwords[j], sizeof dwords[j]);
  unit.d[at] = d;
  if constexpr (Int8Format<kFormat>::kHasMin) unit.minus_sums[at] = -d * static_cast<float>(sum);
  else unit.starts[at] = kFloatBaseBits - Int8Format<kFormat>::kOffset * sum;
}

// A whole row; blocks that fill up the last unit are zero.
template <DType kFormat> void quantize_units(const float* x, int64_t n_k, Unit<kFormat>* units) {
  using Format = Int8Format<kFormat>;
  for (int64_t first = 0; first < n_k; first += Format::kElements, ++units) {
    int piece_at[2 * Format::kBlocks];
    for (int v = 0; v < Format::kVectors; ++v) {
      for (int lane = 0; lane < 4; ++lane) piece_at[Format::piece(v, lane)] = Format::kIsK ? 4 * lane + v : 64 * v + 16 * lane;
    }
    for (int b = 0; b < Format::kBlocks; ++b) {
      QuantizedBlock block{};
      if (first + 32 * b < n_k) block = quantize_block(x + first + 32 * b);
      if constexpr (Format::kIsK) {
        for (int h = 0; h < 2; ++h) put_piece<kFormat>(*units, piece_at[2 * b + h], block.q[h], block.sums[h], block.d);
      } else {
        store_16(units->q + piece_at[2 * b], block.q[0]);
        store_16(units->q + piece_at[2 * b + 1], block.q[1]);
        for (int i = 0; i < 4; ++i) {
          units->d[4 * b + i] = block.d;
          units->starts[4 * b + i] = kFloatBaseBits - (i == 0 ? Format::kOffset * (block.sums[0] + block.sums[1]) : 0);
        }
      }
    }
  }
}
