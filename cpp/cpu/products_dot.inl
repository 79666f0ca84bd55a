// products_dot: SDOT. A vector has 4 elements of each of 4 rows of weights; a lane of x, 4 elements of a token, multiplies all of them.

constexpr int kStep = 4;        // elements of a row that one sum takes at once
constexpr int kVectorRows = 4;  // rows in a vector of weights
constexpr int kSumTokens = 1;   // tokens in a vector of sums: a lane for each of 4 rows

// 16 elements of each of 4 rows, `stride` apart, to 4 vectors.
BANYAN_INLINE void interleave(const int8_t* q, int stride, int8_t* to) {
  int32x4x4_t rows;
  rows.val[0] = vreinterpretq_s32_s8(vld1q_s8(q));
  rows.val[1] = vreinterpretq_s32_s8(vld1q_s8(q + stride));
  rows.val[2] = vreinterpretq_s32_s8(vld1q_s8(q + 2 * stride));
  rows.val[3] = vreinterpretq_s32_s8(vld1q_s8(q + 3 * stride));
  vst4q_s32(reinterpret_cast<int32_t*>(to), rows);
}

// The factors of a vector of rows (a side of the tile) and of a vector of tokens (a column), lane by lane as the sums of both have them.
BANYAN_INLINE Vec row_factors(const float* rows, int side) { return load(rows + 4 * side); }
BANYAN_INLINE Vec token_factors(const float (*tokens)[1], int column) { return broadcast(tokens[column][0]); }

// Four rows of one token, the first or the second.
BANYAN_INLINE Vec rows_of(const Vec (*sums)[2], int token, int part) { return sums[token][part]; }

template <int kToken, int kTokens> BANYAN_INLINE void multiply_lanes(const int8x16_t* w, int8x16_t first, int8x8_t last, int32x4_t (*dots)[2]) {
  if constexpr (kToken < kTokens) {
    BANYAN_UNROLL
    for (int side = 0; side < 2; ++side) {
      if constexpr (kToken < 4) dots[kToken][side] = vdotq_laneq_s32(dots[kToken][side], w[side], first, kToken);
      else dots[kToken][side] = vdotq_lane_s32(dots[kToken][side], w[side], last, kToken - 4);
    }
    multiply_lanes<kToken + 1, kTokens>(w, first, last, dots);
  }
}

// dots += step k of a block: w[side][k] times x of up to 6 tokens.
template <int kTokens> BANYAN_INLINE void multiply_step(const int8_t (*w)[8][16], int k, const int8_t (*x)[4], int32x4_t (*dots)[2]) {
  const int8x16_t sides[] = {vld1q_s8(w[0][k]), vld1q_s8(w[1][k])};
  const int8x16_t first = vld1q_s8(x[0]);
  multiply_lanes<0, kTokens>(sides, first, kTokens > 4 ? vld1_s8(x[4]) : vget_low_s8(first), dots);
}
