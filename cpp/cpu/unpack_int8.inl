// unpack_int8: a panel of weight rows as unsigned bytes in the order the integer products read them, and its scales as floats.

constexpr int kPanelVectors = 2;                       // vectors of 16 rows in a strip
constexpr int kStripRows = 16 * kPanelVectors;         // a strip is what a tile of tokens meets at once
constexpr int kPanelStrips = 4;                        // x is read once per panel
constexpr int kPanelRows = kPanelStrips * kStripRows;  // 128
constexpr int kPanelBlocks = 16;                       // 512 elements: a strip is 16 KiB and stays in the first-level cache with 24 tokens
constexpr int kPanelDepth = 32 * kPanelBlocks;

// 4 elements of each of 16 rows are one vector, the operand of one VPDPBUSD.
struct Strip {
  uint8_t q[kPanelBlocks][8][kPanelVectors][64];
  float scales[2][kPanelBlocks][kPanelVectors][16];  // Q4_K, Q5_K: scales and minimums; Q6_K: of the first and the second 16; others: one
};

struct Int8Scratch {
  alignas(64) Strip strips[kPanelStrips];
  alignas(64) uint8_t rows[16][kPanelDepth];  // unpacked, before the transposition
  alignas(64) float scales[2][16][kPanelBlocks];
};
static_assert(sizeof(Int8Scratch) <= Threads::kScratchBytes);

template <DType kFormat> BANYAN_INLINE void unpack_unit(const uint8_t* unit, uint8_t* q, float* first, float* second) {
  using Format = Int8Format<kFormat>;
  Bytes vectors[Format::kVectors];
  unpack<kFormat>(unit, vectors);
  for (int v = 0; v < Format::kVectors; ++v) _mm512_storeu_si512(q + 64 * v, vectors[v]);
  if constexpr (Format::kHasMin) {
    const Vec both = load_scales_mins(unit);
    _mm256_storeu_ps(first, _mm512_castps512_ps256(both));
    _mm256_storeu_ps(second, _mm512_extractf32x8_ps(both, 1));
  } else if constexpr (Format::kGroups == 2) {
    const Vec both = _mm512_permutexvar_ps(_mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15), load_scales_q6_k(unit));
    _mm256_storeu_ps(first, _mm512_castps512_ps256(both));
    _mm256_storeu_ps(second, _mm512_extractf32x8_ps(both, 1));
  } else {
    for (int b = 0; b < 4; ++b) first[b] = half(unit + b * traits(kFormat).block_bytes);
  }
}

// n_k elements of one row, from `piece` on.
template <DType kFormat> BANYAN_INLINE void unpack_row(Int8Scratch& s, int row, const uint8_t* piece, int n_k) {
  using Format = Int8Format<kFormat>;
  int k = 0;
  for (; k + Format::kElements <= n_k; k += Format::kElements, piece += Format::kBytes) {
    unpack_unit<kFormat>(piece, s.rows[row] + k, s.scales[0][row] + k / 32, s.scales[1][row] + k / 32);
  }
  if (k < n_k) {
    uint8_t rest[Format::kBytes] = {};
    std::memcpy(rest, piece, row_bytes(kFormat, n_k - k));
    unpack_unit<kFormat>(rest, s.rows[row] + k, s.scales[0][row] + k / 32, s.scales[1][row] + k / 32);
  }
}

// n_rows rows from `from` on, n_k elements of each. Rows up to the end of their strip are zero.
template <DType kFormat> void unpack_panel(Int8Scratch& s, const uint8_t* from, size_t row_stride, int n_rows, int n_k) {
  using Format = Int8Format<kFormat>;
  const size_t piece_bytes = row_bytes(kFormat, n_k);
  for (int r = 0; r < round_up(n_rows, kStripRows); r += 16) {
    for (int i = 0; i < 16; ++i) {
      if (r + i >= n_rows) {
        std::memset(s.rows[i], 0, sizeof s.rows[i]);
        std::memset(s.scales[0][i], 0, sizeof s.scales[0][i]);
        std::memset(s.scales[1][i], 0, sizeof s.scales[1][i]);
        continue;
      }
      const uint8_t* piece = from + static_cast<size_t>(r + i) * row_stride;
      unpack_row<kFormat>(s, i, piece, n_k);
      // Pieces are too short for the memory's own prefetchers: each asks for that of 16 rows on, the last ones for the next panel's first.
      const uint8_t* later = r + 16 < n_rows ? piece + 16 * row_stride : from + static_cast<size_t>(i) * row_stride + piece_bytes;
      for (size_t line = 0; line < piece_bytes; line += 64) BANYAN_PREFETCH(later + line);
    }
    Strip& strip = s.strips[r / kStripRows];
    const int vector = r % kStripRows / 16;
    for (int k = 0; k < n_k; k += Format::kElements) {
      BANYAN_UNROLL
      for (int v = 0; v < Format::kVectors; ++v) {
        BANYAN_UNROLL
        for (int lane = 0; lane < 4; ++lane) {
          const int piece = Format::piece(v, lane);
          transpose_columns(reinterpret_cast<const float*>(s.rows[0] + k + 64 * v + 16 * lane), kPanelDepth / 4,
              reinterpret_cast<float*>(strip.q[k / 32 + piece / 2][piece % 2 * 4][vector]), 16 * kPanelVectors);
        }
      }
    }
    transpose(s.scales[0][0], kPanelBlocks, strip.scales[0][0][vector], 16 * kPanelVectors);
    if constexpr (Format::kHasMin || Format::kGroups == 2) {
      transpose(s.scales[1][0], kPanelBlocks, strip.scales[1][0][vector], 16 * kPanelVectors);
    }
  }
}
