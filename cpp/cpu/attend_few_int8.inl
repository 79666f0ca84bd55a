// attend_few_int8: attend_few over Q8_0 keys in integers (VNNI). Turned into floats, a key of 64 dims takes some 90 instructions for 4 queries, and decoding
// waits for them rather than for memory; in integers it takes about 50.
// Queries (a scale per 32 elements) and weights times the values' scales (a scale per 32 elements of 32 keys) are rounded to 16 bits, a 250th of what was
// lost when keys and values were stored. Sums over those 32 are exact.

constexpr int kInt8Keys = 32;                  // of a block: 17 KiB where a token's 8 heads of 64 dims lie together
constexpr float kHighestQuery = 127 * 256.0f;  // its high byte then is a signed byte, also rounded up
constexpr int kBlockBytes = traits(DType::kQ8_0).block_bytes;
constexpr float kHighestWeight = 32767.0f;
constexpr float kLeastWeight = 1e-30f;  // smaller ones add nothing: the sum of all weights is at least 1, and an inverse must stay finite
static_assert(kKeyTile % kInt8Keys == 0);

// 32 elements of a query, in the place of their floats: d (256 high + low). Keys are multiplied as unsigned bytes, plus 128; sums start with what takes
// that off again.
struct QueryBlock {
  int8_t high[32], low[32];
  int32_t high_start, low_start;
  float d;
  uint8_t unused[52];
};
static_assert(sizeof(QueryBlock) == 32 * sizeof(float));

inline void quantize_query(const float* x, QueryBlock* block) {
  const Vec x0 = load(x), x1 = load(x + 16);
  block->d = with_inverse(highest_of(x0, x1) / kHighestQuery);
  const Vec inverse = broadcast(1.0f / block->d);
  const __m512i q[2] = {_mm512_cvtps_epi32(mul(x0, inverse)), _mm512_cvtps_epi32(mul(x1, inverse))};
  __m512i highs = _mm512_setzero_si512(), lows = highs;
  for (int i = 0; i < 2; ++i) {
    const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(q[i], _mm512_set1_epi32(128)), 8),
                  low = _mm512_sub_epi32(q[i], _mm512_slli_epi32(high, 8));
    store_16(block->high + 16 * i, _mm512_cvtepi32_epi8(high));
    store_16(block->low + 16 * i, _mm512_cvtepi32_epi8(low));
    highs = _mm512_add_epi32(highs, high);
    lows = _mm512_add_epi32(lows, low);
  }
  block->high_start = -128 * _mm512_reduce_add_epi32(highs);
  block->low_start = -128 * _mm512_reduce_add_epi32(lows);
}

// Rows of a block: all kInt8Keys of them can be read.
struct WholeRows {
  const uint8_t* first;
  int64_t stride;  // bytes
};

// Where fewer rows are left, they are copied, and the others are zero.
struct CopiedRows {
  uint8_t bytes[kInt8Keys * row_bytes(DType::kQ8_0, kMaxHeadDim)];
};
inline WholeRows whole(const FewRows& rows, int head_dim, CopiedRows& copied) {
  if (rows.n == kInt8Keys) return {rows.first, static_cast<int64_t>(rows.stride)};
  const size_t n_bytes = row_bytes(DType::kQ8_0, head_dim), n = static_cast<size_t>(rows.n);
  for (size_t i = 0; i < n; ++i) std::memcpy(copied.bytes + i * n_bytes, rows.first + i * rows.stride, n_bytes);
  std::memset(copied.bytes + n * n_bytes, 0, (kInt8Keys - n) * n_bytes);
  return {copied.bytes, static_cast<int64_t>(n_bytes)};
}

// The scales of 16 blocks.
BANYAN_INLINE Vec load_scales(const uint8_t* blocks, int64_t stride) {
  const auto bits = [&](int i) {
    int16_t half;
    std::memcpy(&half, blocks + i * stride, sizeof half);
    return half;
  };
  return _mm512_cvtph_ps(_mm256_setr_epi16(bits(0), bits(1), bits(2), bits(3), bits(4), bits(5), bits(6), bits(7), bits(8), bits(9), bits(10),
      bits(11), bits(12), bits(13), bits(14), bits(15)));
}

BANYAN_INLINE __m256i load_32(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }

// columns[j] = elements 4 j .. 4 j + 3 of 16 blocks, unsigned.
BANYAN_INLINE void transpose_blocks(const uint8_t* blocks, int64_t stride, Bytes* columns) {
  BANYAN_UNROLL
  for (int half = 0; half < 8; half += 4) {  // of the rows
    BANYAN_UNROLL
    for (int i = 0; i < 4; ++i) {  // dwords 0-3 and 4-7 of row i, those of row 4 + i
      const uint8_t* row = blocks + (2 * half + i) * stride + 2;
      columns[half + i] = _mm512_inserti32x8(_mm512_castsi256_si512(load_32(row)), load_32(row + 4 * stride), 1);
      columns[half + i] = _mm512_xor_si512(columns[half + i], bytes_of(128));
    }
    gather_dwords(columns + half);  // dword i of rows 0-3, dword 4 + i; the same of rows 4-7
  }
  BANYAN_UNROLL
  for (int i = 0; i < 4; ++i) {
    const Bytes first = columns[i], second = columns[4 + i];
    columns[i] = _mm512_shuffle_i32x4(first, second, 0x88);
    columns[4 + i] = _mm512_shuffle_i32x4(first, second, 0xdd);
  }
}

// Of one block of all keys: columns[v][j] as above.
struct KeyColumns {
  Bytes columns[2][8];
  Vec d[2];
};

// scores[row, 0 .. 32) += q[row] . keys over one block.
template <int kRows> BANYAN_INLINE void score_block(const KeyColumns& keys, const QueryBlock* q, int64_t q_stride, float* scores) {
  __m512i high[kRows][2], low[kRows][2];
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) {
    high[row][0] = high[row][1] = _mm512_set1_epi32(q[row * q_stride].high_start);
    low[row][0] = low[row][1] = _mm512_set1_epi32(q[row * q_stride].low_start);
  }
  BANYAN_UNROLL
  for (int j = 0; j < 8; ++j) {
    BANYAN_UNROLL
    for (int row = 0; row < kRows; ++row) {
      int32_t four_high, four_low;
      std::memcpy(&four_high, q[row * q_stride].high + 4 * j, sizeof four_high);
      std::memcpy(&four_low, q[row * q_stride].low + 4 * j, sizeof four_low);
      const Bytes all_high = _mm512_set1_epi32(four_high), all_low = _mm512_set1_epi32(four_low);
      BANYAN_UNROLL
      for (int v = 0; v < 2; ++v) {
        high[row][v] = _mm512_dpbusd_epi32(high[row][v], keys.columns[v][j], all_high);
        low[row][v] = _mm512_dpbusd_epi32(low[row][v], keys.columns[v][j], all_low);
      }
    }
  }
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) {
    const Vec d = broadcast(q[row * q_stride].d);
    BANYAN_UNROLL
    for (int v = 0; v < 2; ++v) {
      float* to = scores + row * kKeyTile + 16 * v;
      const Vec dot = to_float(_mm512_add_epi32(_mm512_slli_epi32(high[row][v], 8), low[row][v]));
      store(to, fma(mul(dot, keys.d[v]), d, load(to)));
    }
  }
}

// scores[row, i] = q[row] . keys[i]; of keys that are not there some number.
inline void score_int8(const WholeRows& keys, const QueryBlock* q, int n_rows, int n_blocks, float* scores) {
  for (int row = 0; row < n_rows; ++row) {
    for (int i = 0; i < kInt8Keys; i += 16) store(scores + row * kKeyTile + i, zero());
  }
  const uint8_t* blocks = keys.first;
  for (int b = 0; b < n_blocks; ++b, blocks += kBlockBytes) {
    KeyColumns block;
    BANYAN_UNROLL
    for (int v = 0; v < 2; ++v) {
      transpose_blocks(blocks + 16 * v * keys.stride, keys.stride, block.columns[v]);
      block.d[v] = load_scales(blocks + 16 * v * keys.stride, keys.stride);
    }
    in_groups(n_rows, [&](int row, auto n) { score_block<decltype(n)::value>(block, q + row * n_blocks + b, n_blocks, scores + row * kKeyTile); });
  }
}

// Per row of a block of keys: its highest weight, and the inverse, or 0 where the weights add nothing.
struct RowScales {
  float highest[kFewQueryRows], inverse[kFewQueryRows];
};
inline RowScales scale_rows(float* p, int n_rows, int n_keys) {
  RowScales scales;
  for (int row = 0; row < n_rows; ++row) {
    float* weights = p + row * kKeyTile;
    if (n_keys <= 16) store(weights + 16, zero());
    const float highest = highest_of(load(weights), load(weights + 16));
    scales.highest[row] = highest;
    scales.inverse[row] = highest < kLeastWeight ? 0.0f : 1.0f / highest;
  }
  return scales;
}

// The weights of all rows times the scales of one block of all values, as integers; times scale[row] they are what they were.
struct Weights {
  alignas(64) int16_t q[kFewQueryRows][kInt8Keys];
  float scale[kFewQueryRows];
};
inline void quantize_weights(const float* p, const RowScales& rows, int n_rows, const uint8_t* blocks, int64_t stride, Weights* weights) {
  const Vec d[2] = {load_scales(blocks, stride), load_scales(blocks + 16 * stride, stride)};
  const float highest = highest_of(d[0], d[1]);
  const Vec inverse = broadcast(highest == 0.0f ? 0.0f : kHighestWeight / highest);
  const Vec d_scaled[2] = {mul(d[0], inverse), mul(d[1], inverse)};
  for (int row = 0; row < n_rows; ++row) {
    weights->scale[row] = rows.highest[row] * (highest * (1.0f / kHighestWeight));
    const Vec row_inverse = broadcast(rows.inverse[row]);
    BANYAN_UNROLL
    for (int v = 0; v < 2; ++v) {
      const Vec weight = mul(mul(load(p + row * kKeyTile + 16 * v), row_inverse), d_scaled[v]);
      _mm256_store_si256(reinterpret_cast<__m256i*>(weights->q[row] + 16 * v), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(weight)));
    }
  }
}

// o[row, 0 .. 32) += weights[first_row + row] times one block of all values. Two keys side by side are one product of 16 bits.
template <int kRows>
BANYAN_INLINE void add_block(const Weights& weights, int first_row, const uint8_t* blocks, int64_t stride, int head_dim, float* o) {
  __m512i sums[kRows][2];
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) sums[row][0] = sums[row][1] = _mm512_setzero_si512();
  BANYAN_UNROLL
  for (int i = 0; i < kInt8Keys; i += 2, blocks += 2 * stride) {
    const __m256i first = load_32(blocks + 2), second = load_32(blocks + stride + 2);
    const __m512i low = _mm512_cvtepi8_epi16(_mm256_unpacklo_epi8(first, second));   // dims 0-7, 16-23
    const __m512i high = _mm512_cvtepi8_epi16(_mm256_unpackhi_epi8(first, second));  // dims 8-15, 24-31
    BANYAN_UNROLL
    for (int row = 0; row < kRows; ++row) {
      int32_t two;
      std::memcpy(&two, weights.q[first_row + row] + i, sizeof two);
      sums[row][0] = _mm512_dpwssd_epi32(sums[row][0], low, _mm512_set1_epi32(two));
      sums[row][1] = _mm512_dpwssd_epi32(sums[row][1], high, _mm512_set1_epi32(two));
    }
  }
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row, o += head_dim) {
    const Vec scale = broadcast(weights.scale[first_row + row]), low = to_float(sums[row][0]), high = to_float(sums[row][1]);
    store(o, fma(_mm512_shuffle_f32x4(low, high, 0x44), scale, load(o)));
    store(o + 16, fma(_mm512_shuffle_f32x4(low, high, 0xee), scale, load(o + 16)));
  }
}

// o[row] += the weights p[row] times the values.
inline void add_int8(const WholeRows& values, int n_keys, float* p, int n_rows, int head_dim, float* o) {
  const RowScales scales = scale_rows(p, n_rows, n_keys);
  Weights weights;
  for (int b = 0; b < head_dim / 32; ++b) {
    const uint8_t* blocks = values.first + b * kBlockBytes;
    quantize_weights(p, scales, n_rows, blocks, values.stride, &weights);
    in_groups(
        n_rows, [&](int row, auto n) { add_block<decltype(n)::value>(weights, row, blocks, values.stride, head_dim, o + row * head_dim + 32 * b); });
  }
}

struct FewInt8 {
  static void prepare(const AttendArgs& a, QueryTile& tile) {
    for (int64_t i = 0; i < int64_t{tile.n_rows()} * a.head_dim; i += 32) {
      QueryBlock block;
      quantize_query(tile.q + i, &block);
      std::memcpy(tile.q + i, &block, sizeof block);
    }
  }
  static void fold(const AttendJob& job, QueryTile& tile, const FewHeads& heads, int64_t n, int n_keys) {
    const AttendArgs& a = job.args;
    CopiedRows copied;
    walk_blocks<DType::kQ8_0, kInt8Keys>(a.kv, walk_of_keys(a.kv, n, n_keys), heads, a.head_dim, [&](int head, int first, const FewRows& keys) {
      heads.turn_to(a, tile, head);
      score_int8(whole(keys, a.head_dim, copied), reinterpret_cast<const QueryBlock*>(tile.q), tile.n_rows(), a.head_dim / 32, tile.scores + first);
    });
    for (int head = 0; head < heads.n_kv_heads; ++head) {
      heads.turn_to(a, tile, head);
      fold_rows(job, tile, n, n_keys);
    }
    walk_blocks<DType::kQ8_0, kInt8Keys>(a.kv, walk_of_values(a.kv, n, n_keys), heads, a.head_dim, [&](int head, int first, const FewRows& values) {
      heads.turn_to(a, tile, head);
      add_int8(whole(values, a.head_dim, copied), values.n, tile.scores + first, tile.n_rows(), a.head_dim, tile.o);
    });
  }
};

inline void attend_int8(Stream& stream, const AttendArgs& args) {
  if (args.kv.dtype == DType::kQ8_0) attend_keys<FewInt8>(stream, args, 0);
  else kBase()->attend(stream, args);
}
inline void inject_int8(Stream& stream, const InjectArgs& args) {
  if (args.kv.dtype == DType::kQ8_0) inject_slots<FewInt8>(stream, args);
  else kBase()->inject(stream, args);
}
