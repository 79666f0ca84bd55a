// attend_few_int8: attend_few over Q8_0 keys in integers (VNNI). Turned into floats, a key of 64 dims takes some 90 instructions for 4 queries, and decoding
// waits for them rather than for memory; in integers it takes about 50.
// Queries (a scale per 32 elements) and weights times the values' scales (a scale per 32 elements of 32 keys) are rounded to 16 bits, a 250th of what was
// lost when keys and values were stored. Sums over those 32 are exact.

constexpr int kInt8Keys = 32;                  // of a block: 17 KiB where a token's 8 heads of 64 dims lie together
constexpr float kHighestQuery = 127 * 256.0f;  // its high byte then is a signed byte, also rounded up
constexpr int kBlockBytes = traits(DType::kQ8_0).block_bytes;
constexpr float kHighestWeight = 32767.0f;
constexpr float kLeastProduct =
    1e-33f;  // of a weight and a scale, at least 2^-24 if not 0; smaller ones add nothing, as all weights are 1 or more together
static_assert(kKeyTile % kInt8Keys == 0);

// 32 elements of a query, in the place of their floats: d (256 high + low). Keys are multiplied as unsigned bytes, plus 128; sums start with what takes
// that off again.
struct QueryBlock {
  int8_t high[32], low[32];
  int32_t high_start, low_start;
  int32_t start;  // 256 high_start + low_start
  float d;
  uint8_t unused[48];
};
static_assert(sizeof(QueryBlock) == 32 * sizeof(float));

// In place.
inline void quantize_query(float* x) {
  const Vec x0 = load(x), x1 = load(x + 16);
  auto* block = reinterpret_cast<QueryBlock*>(x);
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
  block->start = 256 * block->high_start + block->low_start;
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

// sums[row][v] += the bytes at `first_byte` of each row's block times the keys.
template <int kRows> BANYAN_INLINE void add_products(const KeyColumns& keys, const int8_t* first_byte, int64_t q_stride, __m512i (*sums)[2]) {
  BANYAN_UNROLL
  for (int j = 0; j < 8; ++j) {
    BANYAN_UNROLL
    for (int row = 0; row < kRows; ++row) {
      int32_t four;
      std::memcpy(&four, first_byte + row * q_stride * static_cast<int64_t>(sizeof(QueryBlock)) + 4 * j, sizeof four);
      BANYAN_UNROLL
      for (int v = 0; v < 2; ++v) sums[row][v] = _mm512_dpbusd_epi32(sums[row][v], keys.columns[v][j], _mm512_set1_epi32(four));
    }
  }
}

// scores[row, 0 .. 32) += q[row] . keys over one block. High bytes first, then the low ones behind a shift: with sums for each, registers would not suffice.
template <int kRows> BANYAN_INLINE void score_block(const KeyColumns& keys, const QueryBlock* q, int64_t q_stride, float* scores) {
  __m512i sums[kRows][2];
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) sums[row][0] = sums[row][1] = _mm512_set1_epi32(q[row * q_stride].high_start);
  add_products<kRows>(keys, q->high, q_stride, sums);
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) {
    const __m512i low_start = _mm512_set1_epi32(q[row * q_stride].low_start);
    BANYAN_UNROLL
    for (int v = 0; v < 2; ++v) sums[row][v] = _mm512_add_epi32(_mm512_slli_epi32(sums[row][v], 8), low_start);
  }
  add_products<kRows>(keys, q->low, q_stride, sums);
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) {
    const Vec d = broadcast(q[row * q_stride].d);
    BANYAN_UNROLL
    for (int v = 0; v < 2; ++v) {
      float* to = scores + row * kKeyTile + 16 * v;
      store(to, fma(mul(to_float(sums[row][v]), keys.d[v]), d, load(to)));
    }
  }
}

// A head's share of what is read after a block: rows that lie apart, or one that holds all.
struct FewAhead {
  const uint8_t* first;
  size_t stride, row_bytes;
  int n_rows;
  // Where the heads of a token lie together, the heads ask for the next block in the order it lies in: a row of one head takes 68 bytes, and lines asked for
  // out of order come slower.
  FewAhead(const KvView& kv, const FewHeads& heads, int head, const FewRows& next, int head_dim) {
    const size_t head_bytes = banyan::row_bytes(DType::kQ8_0, head_dim);
    const bool is_joint = kv.head_stride == head_dim;
    const int n_parts = is_joint ? heads.n_kv_heads : 1, part = is_joint ? head : 0, first_row = part * kInt8Keys / n_parts;
    const uint8_t* block = next.first - static_cast<size_t>(part) * head_bytes;
    row_bytes = static_cast<size_t>(n_parts) * head_bytes;
    stride = next.stride;
    n_rows = (part + 1) * kInt8Keys / n_parts - first_row;
    first = block + static_cast<size_t>(first_row) * stride;
    if (stride != row_bytes) return;
    first = block + static_cast<size_t>(part) * (kInt8Keys * head_bytes);
    row_bytes = kInt8Keys * head_bytes;
    n_rows = 1;
  }
  // Asks for part `index` of n. In parts between the work: where too many lines are on their way, a processor waits.
  BANYAN_INLINE void ask(int index, int n) const {
    if (n_rows == 1) return ask_for(first, part_of(row_bytes, index, n), part_of(row_bytes, index + 1, n));
    for (int j = n_rows * index / n; j < n_rows * (index + 1) / n; ++j) ask_for(first + static_cast<size_t>(j) * stride, 0, row_bytes);
  }

 private:
  static size_t part_of(size_t n_bytes, int index, int n) { return n_bytes * static_cast<size_t>(index) / static_cast<size_t>(n) / 64 * 64; }
  static void ask_for(const uint8_t* at, size_t begin, size_t end) {
    for (size_t i = begin; i < end; i += 64) BANYAN_PREFETCH_NEAR(at + i);
  }
};

// scores[row, i] = q[row] . keys[i]; 0 of keys that are not there.
inline void score_int8(const WholeRows& keys, const FewAhead& ahead, const QueryBlock* q, int n_rows, int n_blocks, float* scores) {
  for (int row = 0; row < n_rows; ++row) {
    for (int i = 0; i < kInt8Keys; i += 16) store(scores + row * kKeyTile + i, zero());
  }
  const uint8_t* blocks = keys.first;
  for (int b = 0; b < n_blocks; ++b, blocks += kBlockBytes) {
    ahead.ask(2 * b, 2 * n_blocks);
    KeyColumns block;
    BANYAN_UNROLL
    for (int v = 0; v < 2; ++v) {
      transpose_blocks(blocks + 16 * v * keys.stride, keys.stride, block.columns[v]);
      block.d[v] = load_halves(blocks + 16 * v * keys.stride, keys.stride);
    }
    ahead.ask(2 * b + 1, 2 * n_blocks);
    in_groups(n_rows, [&](int row, auto n) { score_block<decltype(n)::value>(block, q + row * n_blocks + b, n_blocks, scores + row * kKeyTile); });
  }
}

// Of numbers none of which is negative: their bits compare like them, and a NaN is the highest.
BANYAN_INLINE Vec higher(Vec a, Vec b) { return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b))); }

// The highest weight of kRows rows of kInt8Keys keys; row r is lane r of every four.
template <int kRows> BANYAN_INLINE Vec highest_weights(const float* p) {
  Vec rows[4];
  BANYAN_UNROLL
  for (int row = 0; row < 4; ++row) {
    const float* weights = p + std::min(row, kRows - 1) * kKeyTile;
    rows[row] = higher(load(weights), load(weights + 16));
  }
  const Vec first = higher(_mm512_unpacklo_ps(rows[0], rows[1]), _mm512_unpackhi_ps(rows[0], rows[1]));
  const Vec second = higher(_mm512_unpacklo_ps(rows[2], rows[3]), _mm512_unpackhi_ps(rows[2], rows[3]));
  const Vec all = higher(_mm512_shuffle_ps(first, second, 0x44), _mm512_shuffle_ps(first, second, 0xee));
  const Vec halves = higher(all, _mm512_shuffle_f32x4(all, all, 0x4e));
  return higher(halves, _mm512_shuffle_f32x4(halves, halves, 0xb1));
}
BANYAN_INLINE Vec row_of(Vec rows, int row) { return _mm512_permutevar_ps(rows, _mm512_set1_epi32(row)); }

// The largest magnitude of 32 halves, in all lanes; as bits a NaN is the largest, so it is not lost.
BANYAN_INLINE Vec highest_half(__m256i a, __m256i b) {
  const __m256i without_sign = _mm256_set1_epi16(0x7fff);
  const __m256i most = _mm256_max_epu16(_mm256_and_si256(a, without_sign), _mm256_and_si256(b, without_sign));
  const __m128i few = _mm_max_epu16(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  const __m128i least = _mm_minpos_epu16(_mm_xor_si128(few, _mm_set1_epi16(-1)));  // the only one across lanes
  return _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_xor_si128(least, _mm_set1_epi16(-1))));
}

// The scales of one block of all values.
struct ValueScales {
  Vec d[2];
  Vec highest;  // in all lanes
  ValueScales() = default;
  BANYAN_INLINE explicit ValueScales(const __m256i* halves) {
    for (int v = 0; v < 2; ++v) d[v] = _mm512_cvtph_ps(halves[v]);
    highest = highest_half(halves[0], halves[1]);
  }
};

// Blocks of values i and i + 16 as words side by side: dims 0-7 and 16-23, then 8-15 and 24-31.
BANYAN_INLINE Bytes low_words(__m256i first, __m256i second) { return _mm512_cvtepi8_epi16(_mm256_unpacklo_epi8(first, second)); }
BANYAN_INLINE Bytes high_words(__m256i first, __m256i second) { return _mm512_cvtepi8_epi16(_mm256_unpackhi_epi8(first, second)); }

// o[0 .. 32) += scale times the sums of both.
BANYAN_INLINE void add_sums(const __m512i* sums, Vec scale, float* o) {
  const Vec low = to_float(sums[0]), high = to_float(sums[1]);
  store(o, fma(_mm512_shuffle_f32x4(low, high, 0x44), scale, load(o)));
  store(o + 16, fma(_mm512_shuffle_f32x4(low, high, 0xee), scale, load(o + 16)));
}

// Weights times the scales of one block of all values, as integers of 16 bits: those of keys i and i + 16 side by side; times scales they are what they were.
template <int kRows> struct Weights {
  __m512i pairs[kRows];
  Vec scales;  // row r is lane r of every four
};
template <int kRows> BANYAN_INLINE void quantize_weights(const float* p, Vec highest_weight, const ValueScales& values, Weights<kRows>* weights) {
  const Vec highest = mul(highest_weight, values.highest);
  // not below, but also where it is not a number
  const Vec inverse = _mm512_maskz_div_ps(_mm512_cmp_ps_mask(highest, broadcast(kLeastProduct), _CMP_NLT_UQ), broadcast(kHighestWeight), highest);
  weights->scales = mul(highest, broadcast(1.0f / kHighestWeight));
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) {
    const Vec row_inverse = row_of(inverse, row);
    const auto rounded = [&](int v) { return _mm512_cvtps_epi32(mul(load(p + row * kKeyTile + 16 * v), mul(values.d[v], row_inverse))); };
    weights->pairs[row] = _mm512_mask_blend_epi16(0xaaaaaaaa, rounded(0), _mm512_slli_epi32(rounded(1), 16));
  }
}

// o[row, 0 .. 32) += weights[row] times one block of all values. Two keys side by side are one product of 16 bits.
template <int kRows> BANYAN_INLINE void add_block(const Weights<kRows>& weights, const uint8_t* blocks, int64_t stride, int head_dim, float* o) {
  __m512i sums[kRows][2];
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) sums[row][0] = sums[row][1] = _mm512_setzero_si512();
  BANYAN_UNROLL
  for (int i = 0; i < 16; ++i, blocks += stride) {
    const __m256i first = load_32(blocks + 2), second = load_32(blocks + 16 * stride + 2);
    const __m512i low = low_words(first, second), high = high_words(first, second);
    BANYAN_UNROLL
    for (int row = 0; row < kRows; ++row) {
      int32_t two;
      std::memcpy(&two, reinterpret_cast<const char*>(weights.pairs + row) + 4 * i, sizeof two);
      sums[row][0] = _mm512_dpwssd_epi32(sums[row][0], low, _mm512_set1_epi32(two));
      sums[row][1] = _mm512_dpwssd_epi32(sums[row][1], high, _mm512_set1_epi32(two));
    }
  }
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) add_sums(sums[row], row_of(weights.scales, row), o + row * head_dim);
}

// o[row] += the weights p[row, 0 .. 32) times the values; of values that are not there, weights are 0 as their scores were. The weights of all blocks first:
// making them is a long chain, and several hide each other's waiting.
inline void add_int8(const WholeRows& values, const FewAhead& ahead, const float* p, int n_rows, int head_dim, float* o) {
  const int n_blocks = head_dim / 32;
  in_groups(n_rows, [&](int row, auto n) {
    constexpr int kRows = decltype(n)::value;
    const Vec highest = highest_weights<kRows>(p + row * kKeyTile);
    Weights<kRows> weights[kMaxHeadDim / 32];
    for (int b = 0; b < n_blocks; ++b) {
      if (row == 0) ahead.ask(b, 2 * n_blocks);
      const uint8_t* blocks = values.first + b * kBlockBytes;
      const __m256i halves[2] = {load_half_bits(blocks, values.stride), load_half_bits(blocks + 16 * values.stride, values.stride)};
      quantize_weights(p + row * kKeyTile, highest, ValueScales(halves), weights + b);
    }
    for (int b = 0; b < n_blocks; ++b) {
      if (row == 0) ahead.ask(n_blocks + b, 2 * n_blocks);
      add_block(weights[b], values.first + b * kBlockBytes, values.stride, head_dim, o + row * head_dim + 32 * b);
    }
  });
}

inline void quantize_queries(const AttendArgs& a, QueryTile& tile) {
  for (int64_t i = 0; i < int64_t{tile.n_rows()} * a.head_dim; i += 32) quantize_query(tile.q + i);
}

struct FewInt8 {
  static void prepare(const AttendArgs& a, QueryTile& tile) { quantize_queries(a, tile); }
  static void fold(const AttendJob& job, QueryTile& tile, const FewHeads& heads, int64_t n, int n_keys) {
    const AttendArgs& a = job.args;
    CopiedRows copied;
    walk_blocks<DType::kQ8_0, kInt8Keys>(
        a.kv, walk_of_keys(a.kv, n, n_keys), heads, [&](int head, int first, const FewRows& keys, const FewRows& next) {
          heads.turn_to(a, tile, head);
          score_int8(whole(keys, a.head_dim, copied), FewAhead(a.kv, heads, head, next, a.head_dim), reinterpret_cast<const QueryBlock*>(tile.q),
              tile.n_rows(), a.head_dim / 32, tile.scores + first);
        });
    for (int head = 0; head < heads.n_kv_heads; ++head) {
      heads.turn_to(a, tile, head);
      fold_rows(job, tile, n, n_keys);
    }
    walk_blocks<DType::kQ8_0, kInt8Keys>(
        a.kv, walk_of_values(a.kv, n, n_keys), heads, [&](int head, int first, const FewRows& values, const FewRows& next) {
          heads.turn_to(a, tile, head);
          add_int8(whole(values, a.head_dim, copied), FewAhead(a.kv, heads, head, next, a.head_dim), tile.scores + first, tile.n_rows(), a.head_dim,
              tile.o);
        });
  }
};

inline void attend_int8(Stream& stream, const AttendArgs& args) {
  if (args.kv.dtype == DType::kQ8_0) attend_keys<FewInt8, ManyFloats>(stream, args, 0);
  else kBase()->attend(stream, args);
}
