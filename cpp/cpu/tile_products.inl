// tile_products: a tile of slots times some queries or weights, with VNNI: what attend_few_int8.inl does, but keys need no transposition, values no interleaving,
// and scales no gathering: a third of the instructions there.

static_assert(kTileSlots == kInt8Keys);

inline ValueScales value_scales(const uint8_t* block, int n_slots) { return ValueScales(TileScales(block, n_slots).halves); }

// scores[row, 0 .. 32) = q[row] . keys; 0 of slots that are not there. The first of a group of rows asks for what comes next (slot_tiles.inl).
template <int kRows, bool kAsks> BANYAN_INLINE void score_tile(const uint8_t* keys, int n_slots, const QueryBlock* q, int n_blocks, float* scores) {
  Vec all[kRows][2];
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) all[row][0] = all[row][1] = zero();
  for (int b = 0; b < n_blocks; ++b, keys += kTileBlockBytes, ++q) {
    __m512i high[kRows][2], low[kRows][2];
    BANYAN_UNROLL
    for (int row = 0; row < kRows; ++row) {
      high[row][0] = high[row][1] = _mm512_setzero_si512();
      low[row][0] = low[row][1] = _mm512_set1_epi32(q[row * n_blocks].start);
    }
    BANYAN_UNROLL
    for (int j = 0; j < 8; ++j) {
      const Bytes columns[2] = {load_bytes(keys + key_in_tile(0, 4 * j)), load_bytes(keys + key_in_tile(16, 4 * j))};
      if constexpr (kAsks) {
        ask_ahead(keys + key_in_tile(0, 4 * j));
        ask_ahead(keys + key_in_tile(16, 4 * j));
      }
      BANYAN_UNROLL
      for (int row = 0; row < kRows; ++row) {
        int32_t fours[2];
        std::memcpy(fours, q[row * n_blocks].high + 4 * j, sizeof fours[0]);
        std::memcpy(fours + 1, q[row * n_blocks].low + 4 * j, sizeof fours[1]);
        BANYAN_UNROLL
        for (int v = 0; v < 2; ++v) {
          high[row][v] = _mm512_dpbusd_epi32(high[row][v], columns[v], _mm512_set1_epi32(fours[0]));
          low[row][v] = _mm512_dpbusd_epi32(low[row][v], columns[v], _mm512_set1_epi32(fours[1]));
        }
      }
    }
    if constexpr (kAsks) ask_ahead(keys);
    const TileScales scales(keys, n_slots);
    BANYAN_UNROLL
    for (int v = 0; v < 2; ++v) {
      const Vec d = _mm512_cvtph_ps(scales.halves[v]);
      BANYAN_UNROLL
      for (int row = 0; row < kRows; ++row) {
        const Vec sum = to_float(_mm512_add_epi32(_mm512_slli_epi32(high[row][v], 8), low[row][v]));
        all[row][v] = fma(mul(sum, d), broadcast(q[row * n_blocks].d), all[row][v]);
      }
    }
  }
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) {
    BANYAN_UNROLL
    for (int v = 0; v < 2; ++v) store(scores + row * kKeyTile + 16 * v, all[row][v]);
  }
}

// o[row, 0 .. 32 kBlocks) += the weights of each block times that block of all values: with two blocks 16 sums hide what a product takes.
template <int kRows, int kBlocks, bool kAsks>
BANYAN_INLINE void add_tile(const Weights<kRows>* weights, const uint8_t* values, int64_t o_stride, float* o) {
  __m512i sums[kBlocks][kRows][2];
  BANYAN_UNROLL
  for (int b = 0; b < kBlocks; ++b) {
    BANYAN_UNROLL
    for (int row = 0; row < kRows; ++row) sums[b][row][0] = sums[b][row][1] = _mm512_setzero_si512();
  }
  for (int i = 0; i < 16; i += 2) {
    BANYAN_UNROLL
    for (int j = 0; j < 2; ++j) {
      BANYAN_UNROLL
      for (int b = 0; b < kBlocks; ++b) {
        const uint8_t* at = values + b * kTileBlockBytes + value_in_tile(i + j, 0);
        if constexpr (kAsks) ask_ahead(at);
        const Bytes low = _mm512_cvtepi8_epi16(load_32(at)), high = _mm512_cvtepi8_epi16(load_32(at + 32));
        BANYAN_UNROLL
        for (int row = 0; row < kRows; ++row) {
          int32_t two;
          std::memcpy(&two, reinterpret_cast<const char*>(weights[b].pairs + row) + 4 * (i + j), sizeof two);
          sums[b][row][0] = _mm512_dpwssd_epi32(sums[b][row][0], low, _mm512_set1_epi32(two));
          sums[b][row][1] = _mm512_dpwssd_epi32(sums[b][row][1], high, _mm512_set1_epi32(two));
        }
      }
    }
  }
  BANYAN_UNROLL
  for (int b = 0; b < kBlocks; ++b) {
    BANYAN_UNROLL
    for (int row = 0; row < kRows; ++row) {
      const Vec scale = row_of(weights[b].scales, row);
      float* to = o + row * o_stride + 32 * b;
      store(to, fma(to_float(sums[b][row][0]), scale, load(to)));
      store(to + 16, fma(to_float(sums[b][row][1]), scale, load(to + 16)));
    }
  }
}
