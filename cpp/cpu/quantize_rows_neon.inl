// quantize_rows_neon: x as int8 in blocks of 32, once per gemm, the same numbers as in quantize_rows.inl. Only their order in memory differs between
// many tokens (TokenTile) and few (Unit).

struct QuantizedBlock {
  Bytes q[2];
  float d, minus_sum;  // -d sum(q), which the minimum multiplies
};

BANYAN_INLINE uint32x4_t without_sign(Vec a) { return vandq_u32(vreinterpretq_u32_f32(a), vdupq_n_u32(0x7fffffff)); }

// The maximum is taken over bits: there a NaN is the largest, so it reaches d and every output.
BANYAN_INLINE QuantizedBlock quantize_block(const float* x) {
  uint32x4_t bits = without_sign(load(x));
  BANYAN_UNROLL
  for (int i = 1; i < 8; ++i) bits = vmaxq_u32(bits, without_sign(load(x + 4 * i)));
  const uint32_t highest_bits = vmaxvq_u32(bits);
  float highest;
  std::memcpy(&highest, &highest_bits, sizeof highest);
  QuantizedBlock block;
  const float d = highest / 127.0f;
  block.d = d < std::numeric_limits<float>::min() ? std::numeric_limits<float>::min() : d;  // so that 1 / d is finite
  const Vec inverse = broadcast(1.0f / block.d);
  int16x8_t narrow[4];
  BANYAN_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int32x4_t low = vcvtnq_s32_f32(mul(load(x + 8 * i), inverse)), high = vcvtnq_s32_f32(mul(load(x + 8 * i + 4), inverse));
    narrow[i] = vcombine_s16(vqmovn_s32(low), vqmovn_s32(high));
  }
  block.q[0] = vcombine_s8(vqmovn_s16(narrow[0]), vqmovn_s16(narrow[1]));
  block.q[1] = vcombine_s8(vqmovn_s16(narrow[2]), vqmovn_s16(narrow[3]));
  block.minus_sum = -block.d * static_cast<float>(vaddlvq_s8(block.q[0]) + vaddlvq_s8(block.q[1]));
  return block;
}

// ---- many tokens ----

// 6 tokens x 8 rows: 12 integer and 12 float sums of the 32 registers, whatever the instruction. 4 SDOT a cycle with a latency of 3 need 12 chains.
constexpr int kInt8Tokens = 6;

// One block of each token of a tile: kStep elements of each token follow each other, as many as one sum takes at once; factors are there for every
// sum of their token in a vector.
struct TokenTile {
  int8_t q[32 / kStep][kInt8Tokens][kStep];
  float d[kInt8Tokens][kSumTokens], minus_sums[kInt8Tokens][kSumTokens];
};
template <DType> using Tile = TokenTile;  // of any format

// Tokens that do not exist stay as they are: nothing reads what becomes of them.
template <DType> void quantize_tile(const float* x, int64_t n_k, int n_tokens, TokenTile* tile) {
  for (int t = 0; t < n_tokens; ++t, x += n_k) {
    for (int64_t b = 0; b < n_k / 32; ++b) {
      const QuantizedBlock block = quantize_block(x + 32 * b);
      int8_t q[32];
      vst1q_s8(q, block.q[0]);
      vst1q_s8(q + 16, block.q[1]);
      for (int k = 0; k < 32 / kStep; ++k) std::memcpy(tile[b].q[k][t], q + kStep * k, kStep);
      for (int i = 0; i < kSumTokens; ++i) {
        tile[b].d[t][i] = block.d;
        tile[b].minus_sums[t][i] = block.minus_sum;
      }
    }
  }
}

// ---- few tokens ----

// One unit of one token, in its order. d is there for every scale of the weights.
template <DType kFormat> struct Unit {
  int8_t q[Int8Format<kFormat>::kElements];
  float d[4 * Int8Format<kFormat>::kQuads * Int8Format<kFormat>::kGroups], minus_sums[4 * Int8Format<kFormat>::kQuads];
};

// A whole row; blocks that fill up the last unit are zero.
template <DType kFormat> void quantize_units(const float* x, int64_t n_k, Unit<kFormat>* units) {
  using Format = Int8Format<kFormat>;
  for (int64_t first = 0; first < n_k; first += Format::kElements, ++units) {
    for (int b = 0; b < Format::kElements / 32; ++b) {
      QuantizedBlock block{};
      if (first + 32 * b < n_k) block = quantize_block(x + first + 32 * b);
      vst1q_s8(units->q + 32 * b, block.q[0]);
      vst1q_s8(units->q + 32 * b + 16, block.q[1]);
      for (int g = 0; g < Format::kGroups; ++g) units->d[Format::kGroups * b + g] = block.d;
      units->minus_sums[b] = block.minus_sum;
    }
  }
}
