// products_matrix: SMMLA. A vector has 8 elements of each of 2 rows of weights; one of x has 8 of each of 2 tokens; the sums of a vector are 2 x 2.

constexpr int kStep = 8;        // elements of a row that one sum takes at once
constexpr int kVectorRows = 2;  // rows in a vector of weights
constexpr int kSumTokens = 2;   // tokens in a vector of sums: two rows of the first, two of the second

// 16 elements of each of 2 rows, `stride` apart, to 2 vectors.
BANYAN_INLINE void interleave(const int8_t* q, int stride, int8_t* to) {
  const int64x2_t first = vreinterpretq_s64_s8(vld1q_s8(q)), second = vreinterpretq_s64_s8(vld1q_s8(q + stride));
  vst1q_s8(to, vreinterpretq_s8_s64(vzip1q_s64(first, second)));
  vst1q_s8(to + 16, vreinterpretq_s8_s64(vzip2q_s64(first, second)));
}

// The factors of a vector of rows (a side of the tile) and of a vector of tokens (a column), lane by lane as the sums of both have them.
BANYAN_INLINE Vec row_factors(const float* rows, int side) {
  const float32x2_t two = vld1_f32(rows + 2 * side);
  return vcombine_f32(two, two);
}
BANYAN_INLINE Vec token_factors(const float (*tokens)[2], int column) { return load(tokens[2 * column]); }

// Four rows of one token, the first or the second.
BANYAN_INLINE Vec rows_of(const Vec (*sums)[4], int token, int part) {
  const float64x2_t low = vreinterpretq_f64_f32(sums[token / 2][2 * part]), high = vreinterpretq_f64_f32(sums[token / 2][2 * part + 1]);
  return vreinterpretq_f32_f64(token % 2 == 0 ? vzip1q_f64(low, high) : vzip2q_f64(low, high));
}

// dots += step k of a block: w[side][k] times x of up to 6 tokens.
template <int kTokens> BANYAN_INLINE void multiply_step(const int8_t (*w)[4][16], int k, const int8_t (*x)[8], int32x4_t (*dots)[4]) {
  const int8x16_t sides[] = {vld1q_s8(w[0][k]), vld1q_s8(w[1][k]), vld1q_s8(w[2][k]), vld1q_s8(w[3][k])};
  BANYAN_UNROLL
  for (int column = 0; column < (kTokens + 1) / 2; ++column) {
    const int8x16_t tokens = vld1q_s8(x[2 * column]);
    BANYAN_UNROLL
    for (int side = 0; side < 4; ++side) dots[column][side] = vmmlaq_s32(dots[column][side], tokens, sides[side]);
  }
}
