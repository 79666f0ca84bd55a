// tile_products_avx2: a tile of slots times some queries or weights, in products of 16 bits (VPMADDWD or VPDPWSSD), which take as many numbers a step as those of
// bytes when one side has 16 bits, and need no halves of it. Rounded as in attend_few_int8.inl.

constexpr float kHighestQuery = 127 * 256.0f;  // as there, so that both round alike
constexpr float kHighestWeight = 32767.0f;
constexpr float kLeastProduct = 1e-33f;  // as there
constexpr int kSlotVectors = kTileSlots / kLanes;

// 32 elements of a query, in the place of their floats: d times integers. Keys are 128 more than they are; sums start with what takes that off again.
struct QueryBlock {
  int16_t q[8][2][2];  // of each four elements the first and the third, and the other two: as keys come out of their dwords
  int32_t start;
  float d;
  uint8_t unused[56];
};
static_assert(sizeof(QueryBlock) == 32 * sizeof(float));

// In place.
inline void quantize_query(float* x) {
  float copy[32];
  std::memcpy(copy, x, sizeof copy);
  IVec bits = _mm256_setzero_si256();
  for (int i = 0; i < 32; i += kLanes) bits = _mm256_max_epu32(bits, without_sign(load(copy + i)));
  auto* block = reinterpret_cast<QueryBlock*>(x);
  block->d = with_inverse(highest_in(bits) / kHighestQuery);
  const Vec inverse = broadcast(1.0f / block->d);
  IVec sum = _mm256_setzero_si256();
  for (int i = 0; i < 32; i += kLanes) {
    const IVec q = _mm256_cvtps_epi32(mul(load(copy + i), inverse));
    alignas(32) int32_t each[kLanes];
    store_bytes(each, q);
    for (int j = 0; j < kLanes; ++j) block->q[(i + j) / 4][j % 2][j % 4 / 2] = static_cast<int16_t>(each[j]);
    sum = _mm256_add_epi32(sum, q);
  }
  alignas(32) int32_t sums[kLanes];
  store_bytes(sums, sum);
  uint32_t total = 0;  // of a query that is no number it may wrap
  for (const int32_t each : sums) total += static_cast<uint32_t>(each);
  block->start = static_cast<int32_t>(0u - 128u * total);
}
inline void quantize_queries(const AttendArgs& a, QueryTile& tile) {
  for (int64_t i = 0; i < int64_t{tile.n_rows()} * a.head_dim; i += 32) quantize_query(tile.q + i);
}

// The scales of slots 8 v and following of a block; 0 of those that are not there.
BANYAN_INLINE Vec tile_scales(const uint8_t* block, int n_slots, int v) {
  const Vec d = load_f16(block + scale_in_tile(kLanes * v));
  return n_slots >= kTileSlots ? d : _mm256_and_ps(d, _mm256_castsi256_ps(first_lanes(n_slots - kLanes * v)));
}

// scores[row, 0 .. 32) = q[row] . keys; 0 of slots that are not there. The first of a group of rows asks for what comes next (slot_tiles.inl). 16 slots at a time: the sums of four rows take half of the registers.
template <int kRows, bool kAsks> BANYAN_INLINE void score_tile(const uint8_t* keys, int n_slots, const QueryBlock* q, int n_blocks, float* scores) {
  for (int b = 0; b < n_blocks; ++b, keys += kTileBlockBytes, ++q) {
    if constexpr (kAsks) ask_ahead(keys);
    for (int first = 0; first < kSlotVectors; first += 2) {
      IVec sums[kRows][2];
      BANYAN_UNROLL
      for (int row = 0; row < kRows; ++row) sums[row][0] = sums[row][1] = _mm256_set1_epi32(q[row * n_blocks].start);
      BANYAN_UNROLL
      for (int j = 0; j < 8; ++j) {
        const uint8_t* at = keys + key_in_tile(kLanes * first, 4 * j);
        if constexpr (kAsks) ask_ahead(at);
        BANYAN_UNROLL
        for (int part = 0; part < 2; ++part) {
          const auto words = [&](int v) {
            const Bytes bytes = load_bytes(at + 4 * kLanes * v);
            return part == 0 ? bit_and(bytes, 0x00ff00ff) : _mm256_srli_epi16(bytes, 8);
          };
          const IVec columns[2] = {words(0), words(1)};
          BANYAN_UNROLL
          for (int row = 0; row < kRows; ++row) {
            const IVec two = four_bytes(q[row * n_blocks].q[j][part]);
            add_pairs(sums[row][0], columns[0], two);
            add_pairs(sums[row][1], columns[1], two);
          }
        }
      }
      BANYAN_UNROLL
      for (int v = 0; v < 2; ++v) {
        const Vec d = tile_scales(keys, n_slots, first + v);
        BANYAN_UNROLL
        for (int row = 0; row < kRows; ++row) {
          float* to = scores + row * kKeyTile + kLanes * (first + v);
          // Added to zero too: -0 of a slot that is not there would count as the highest (higher).
          store(to, fma(mul(to_float(sums[row][v]), d), broadcast(q[row * n_blocks].d), b == 0 ? zero() : load(to)));
        }
      }
    }
  }
}

// The scales of one block of all values.
struct ValueScales {
  Vec d[kSlotVectors];
  float highest;
};
inline ValueScales value_scales(const uint8_t* block, int n_slots) {
  ValueScales scales;
  IVec bits = _mm256_setzero_si256();
  for (int v = 0; v < kSlotVectors; ++v) {
    scales.d[v] = tile_scales(block, n_slots, v);
    bits = _mm256_max_epu32(bits, without_sign(scales.d[v]));
  }
  scales.highest = highest_in(bits);
  return scales;
}

// Of numbers none of which is negative: their bits compare like them, and a NaN is the highest.
BANYAN_INLINE Vec higher(Vec a, Vec b) { return _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(a), _mm256_castps_si256(b))); }

// The highest weight of each of kRows rows.
template <int kRows> BANYAN_INLINE __m128 highest_weights(const float* p) {
  Vec rows[4];
  BANYAN_UNROLL
  for (int row = 0; row < 4; ++row) {
    const float* weights = p + std::min(row, kRows - 1) * kKeyTile;
    rows[row] = higher(higher(load(weights), load(weights + 8)), higher(load(weights + 16), load(weights + 24)));
  }
  const Vec first = higher(_mm256_unpacklo_ps(rows[0], rows[1]), _mm256_unpackhi_ps(rows[0], rows[1]));
  const Vec second = higher(_mm256_unpacklo_ps(rows[2], rows[3]), _mm256_unpackhi_ps(rows[2], rows[3]));
  const Vec all = higher(_mm256_shuffle_ps(first, second, 0x44), _mm256_shuffle_ps(first, second, 0xee));
  return _mm256_castps256_ps128(higher(all, _mm256_permute2f128_ps(all, all, 1)));
}

// Weights times the scales of one block of all values, as integers of 16 bits: those of slots i and i + 16 side by side; times scales they are what they were.
template <int kRows> struct Weights {
  alignas(32) int16_t pairs[kRows][16][2];
  float scales[4];
};
template <int kRows> BANYAN_INLINE void quantize_weights(const float* p, __m128 highest_weight, const ValueScales& values, Weights<kRows>* weights) {
  const __m128 highest = _mm_mul_ps(highest_weight, _mm_set1_ps(values.highest));
  // not below, but also where it is not a number
  const __m128 is_there = _mm_cmp_ps(highest, _mm_set1_ps(kLeastProduct), _CMP_NLT_UQ);
  alignas(16) float inverse[4];
  _mm_store_ps(inverse, _mm_and_ps(is_there, _mm_div_ps(_mm_set1_ps(kHighestWeight), highest)));
  _mm_storeu_ps(weights->scales, _mm_mul_ps(highest, _mm_set1_ps(1.0f / kHighestWeight)));
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) {
    const Vec row_inverse = broadcast(inverse[row]);
    const auto rounded = [&](int v) { return _mm256_cvtps_epi32(mul(load(p + row * kKeyTile + kLanes * v), mul(values.d[v], row_inverse))); };
    BANYAN_UNROLL
    for (int v = 0; v < 2; ++v)
      store_bytes(weights->pairs[row][kLanes * v], _mm256_blend_epi16(rounded(v), _mm256_slli_epi32(rounded(v + 2), 16), 0xaa));
  }
}

// o[row, 0 .. 32 kBlocks) += the weights of each block times that block of all values, 16 elements at a time.
template <int kRows, int kBlocks, bool kAsks>
BANYAN_INLINE void add_tile(const Weights<kRows>* weights, const uint8_t* values, int64_t o_stride, float* o) {
  for (int b = 0; b < kBlocks; ++b) {
    for (int first = 0; first < 32; first += 16) {
      const uint8_t* at = values + b * kTileBlockBytes + value_in_tile(0, first);
      IVec sums[kRows][2];
      BANYAN_UNROLL
      for (int row = 0; row < kRows; ++row) sums[row][0] = sums[row][1] = _mm256_setzero_si256();
      for (int i = 0; i < 16; i += 4) {
        BANYAN_UNROLL
        for (int j = 0; j < 4; ++j, at += value_in_tile(1, 0) - value_in_tile(0, 0)) {
          if constexpr (kAsks) {
            if (first == 0) ask_ahead(at);
          }
          const IVec words[2] = {_mm256_cvtepi8_epi16(load_16(at)), _mm256_cvtepi8_epi16(load_16(at + 16))};
          BANYAN_UNROLL
          for (int row = 0; row < kRows; ++row) {
            const IVec two = four_bytes(weights[b].pairs[row][i + j]);
            add_pairs(sums[row][0], words[0], two);
            add_pairs(sums[row][1], words[1], two);
          }
        }
      }
      BANYAN_UNROLL
      for (int row = 0; row < kRows; ++row) {
        const Vec scale = broadcast(weights[b].scales[row]);
        float* to = o + row * o_stride + 32 * b + first;
        store(to, fma(to_float(sums[row][0]), scale, load(to)));
        store(to + kLanes, fma(to_float(sums[row][1]), scale, load(to + kLanes)));
      }
    }
  }
}
