// pack_terms: a tile of keys and values as right operands of attend_bf16.inl, in two terms of bf16.

constexpr int kWeightStep = 32;  // keys that a product of weights and values sums
static_assert(kKeyTile % kWeightStep == 0 && kTileSlots == kWeightStep);

// Tiles in two terms, one behind the other: [columns / 16][steps][terms] with these distances.
struct TermTiles {
  std::byte* first;
  int64_t column_bytes, step_bytes;
};
// Keys are columns: of a step of 32 dims, row i of a tile holds dims 2 i and 2 i + 1 of 16 keys.
inline TermTiles tiles_of_keys(const QueryTile& tile) {
  return {reinterpret_cast<std::byte*>(tile.keys), tile.padded_dim / kStep * 2 * kTileBytes, 2 * kTileBytes};
}
// Dims are columns: of a step of 32 values, row i of a tile holds values 2 i and 2 i + 1 of 16 dims. Steps are whole: what is missing is 0.
inline TermTiles tiles_of_values(const AttendArgs& a, const QueryTile& tile) {
  return {reinterpret_cast<std::byte*>(tile.values), 2 * kTileBytes, ceil_div(a.head_dim, kSide) * 2 * kTileBytes};
}

// A key or value row in two terms.
struct StoreTerms {
  std::byte* at;
  int64_t term_bytes;
  BANYAN_INLINE void put(int64_t element, int, Vec x) { store_terms<2>(at + 2 * element, term_bytes, x); }
  BANYAN_INLINE void put_n(int64_t element, Vec x, int) { put(element, 0, x); }  // the rest of x is 0
};

// 16 rows of keys or values from `n` on into tile.rows, [rows, terms, padded C], of which n_rows exist; the others, and what lies beyond C, are 0.
inline void load_terms(const AttendArgs& a, const QueryTile& tile, const void* side, int64_t n, int n_rows) {
  const int64_t term_bytes = 2 * tile.padded_dim;
  auto* row = reinterpret_cast<std::byte*>(tile.rows);
  for (int i = 0; i < kSide; ++i, row += 2 * term_bytes) {
    if (i >= n_rows || a.head_dim % kStep != 0) std::memset(row, 0, static_cast<size_t>(2 * term_bytes));
    if (i < n_rows) load_row(a.kv, side, n + i, tile.kv_head, a.head_dim, StoreTerms{row, term_bytes});
  }
}

// Rows of any format.
struct RowTerms {
  static constexpr int kFewestRows = 24;  // of queries a kv head: 20 were 6 % slower than in floats, 24 as fast, 32 1.15 times as fast

  static TermTiles pack_keys(const AttendArgs& a, const QueryTile& tile, int64_t n, int n_keys) {
    const int64_t n_steps = tile.padded_dim / kStep;
    float* to = tile.keys;
    for (int i = 0; i < n_keys; i += kSide) {
      load_terms(a, tile, a.kv.k, n + i, std::min(kSide, n_keys - i));
      for (int64_t step = 0; step < n_steps; ++step) {
        for (int term = 0; term < 2; ++term, to += kTileBytes / sizeof(float)) {
          transpose(tile.rows + term * tile.padded_dim / 2 + step * kSide, tile.padded_dim, to, kSide);
        }
      }
    }
    return tiles_of_keys(tile);
  }

  static TermTiles pack_values(const AttendArgs& a, const QueryTile& tile, int64_t n, int n_keys) {
    const int64_t n_columns = ceil_div(a.head_dim, kSide);
    const TermTiles packed = tiles_of_values(a, tile);
    const auto* rows = reinterpret_cast<const std::byte*>(tile.rows);
    for (int i = 0; i < round_up(n_keys, kWeightStep); i += kSide) {
      load_terms(a, tile, a.kv.v, n + i, std::clamp(n_keys - i, 0, kSide));
      std::byte* to = packed.first + i / kWeightStep * packed.step_bytes + i % kWeightStep / 2 * 64;
      for (int64_t column = 0; column < n_columns; ++column) {
        for (int term = 0; term < 2; ++term, to += kTileBytes) {
          const std::byte* pair = rows + term * 2 * tile.padded_dim + column * 32;
          for (int row = 0; row < kSide; row += 2, pair += 8 * tile.padded_dim) {
            const auto bits = [pair](int64_t at) { return _mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(pair + at))); };
            _mm512_store_si512(to + row / 2 * 64, _mm512_or_si512(bits(0), _mm512_slli_epi32(bits(4 * tile.padded_dim), 16)));
          }
        }
      }
    }
    return packed;
  }
};

// Even and odd elements side by side.
struct PairTerms {
  __m512i first, second;
  BANYAN_INLINE PairTerms(Vec even, Vec odd) {
    const __m512i even_bits = rounded(even), odd_bits = rounded(odd);
    first = together(even_bits, odd_bits);
    second = together(rounded(rest(even, even_bits)), rounded(rest(odd, odd_bits)));
  }
  BANYAN_INLINE void store_at(std::byte* at) const {
    _mm512_store_si512(at, first);
    _mm512_store_si512(at + kTileBytes, second);
  }

 private:
  // The upper half is the nearest bf16; of two the larger.
  BANYAN_INLINE static __m512i rounded(Vec x) { return _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000)); }
  BANYAN_INLINE static Vec rest(Vec x, __m512i bits) { return sub(x, _mm512_castsi512_ps(bit_and(bits, static_cast<int>(0xffff0000)))); }
  BANYAN_INLINE static __m512i together(__m512i even, __m512i odd) { return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(even, 16), odd); }
};

// Q8_0 slots in tiles. They lie by element, so nothing is transposed.
struct SlotTerms {
  static constexpr int kFewestRows = 40;  // 32 were 5 % slower than in integers, 48 1.1 times as fast

  static TermTiles pack_keys(const AttendArgs& a, const QueryTile& tile, int64_t n, int n_keys) {
    const TermTiles packed = tiles_of_keys(tile);
    const int n_steps = a.head_dim / kStep;
    for (int i = 0; i < n_keys; i += kTileSlots) {
      const uint8_t* block = tile_of(a.kv, a.kv.k, tile.kv_head, n + i);
      for (int step = 0; step < n_steps; ++step, block += kTileBlockBytes) {
        const TileScales scales(block, std::min(kTileSlots, n_keys - i));
        for (int v = 0; v < 2; ++v) {
          const Vec d = _mm512_cvtph_ps(scales.halves[v]), minus_128d = mul(d, broadcast(-128.0f));
          std::byte* to = packed.first + (i / kSide + v) * packed.column_bytes + step * packed.step_bytes;
          for (int c = 0; c < kStep; c += 4, to += 2 * 64) {
            const uint8_t* line = block + key_in_tile(kSide * v, c);
            BANYAN_PREFETCH(line + next_tiles(a.kv));
            const __m512i four = _mm512_loadu_si512(line);
            const auto element = [&](__m512i q) { return fma(to_float(bit_and(q, 255)), d, minus_128d); };
            PairTerms(element(four), element(shift_right<8>(four))).store_at(to);
            PairTerms(element(shift_right<16>(four)), element(shift_right<24>(four))).store_at(to + 64);
          }
        }
      }
    }
    return packed;
  }

  static TermTiles pack_values(const AttendArgs& a, const QueryTile& tile, int64_t n, int n_keys) {
    const TermTiles packed = tiles_of_values(a, tile);
    std::byte* to = packed.first;
    for (int i = 0; i < n_keys; i += kTileSlots) {
      const uint8_t* block = tile_of(a.kv, a.kv.v, tile.kv_head, n + i);
      for (int c = 0; c < a.head_dim; c += kStep, block += kTileBlockBytes, to += 2 * packed.column_bytes) {
        const TileScales scales(block, std::min(kTileSlots, n_keys - i));
        alignas(64) float d[kTileSlots];
        for (int v = 0; v < 2; ++v) store(d + kSide * v, _mm512_cvtph_ps(scales.halves[v]));
        for (int slot = 0; slot < kSide; slot += 2) {
          for (int half = 0; half < 2; ++half) {  // of the elements
            const auto words = [&](int s) {
              const uint8_t* line = block + value_in_tile(s, kSide * half);
              BANYAN_PREFETCH(line + next_tiles(a.kv));
              return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(line)));
            };
            const __m512i even = words(slot), odd = words(slot + 1);
            // Of a word, the lower byte is the slot's, the upper one that of the slot 16 later.
            const auto lower = [&](__m512i word, int s) {
              return mul(to_float(_mm512_srai_epi32(_mm512_slli_epi32(word, 24), 24)), broadcast(d[s]));
            };
            const auto upper = [&](__m512i word, int s) { return mul(to_float(_mm512_srai_epi32(word, 8)), broadcast(d[kSide + s])); };
            std::byte* row = to + half * packed.column_bytes + slot / 2 * 64;
            PairTerms(lower(even, slot), lower(odd, slot + 1)).store_at(row);
            PairTerms(upper(even, slot), upper(odd, slot + 1)).store_at(row + kSide / 2 * 64);
          }
        }
      }
    }
    return packed;
  }

 private:
  // From a line to the same one of the tiles that are packed next.
  static size_t next_tiles(const KvView& kv) { return row_bytes(DType::kQ8_0, kKeyTile * kv.row_stride); }
};
