// attend_tiles: attention over Q8_0 slots in tiles (tensor/slot_tile.h) in integers: what attend_few_int8.inl does, but keys need no transposition, values
// no interleaving, and scales no gathering: a third of the instructions there.

static_assert(kTileSlots == kInt8Keys);

// scores[row, 0 .. 32) = q[row] . keys; 0 of slots that are not there. With each line the same one of the tile that is read `to_next` bytes from here is asked
// for, by the first of a group of rows: one at a time, for a burst of them stops what reads this tile. Into the second-level cache: the first holds the states
// of all heads too.
template <int kRows, bool kAsks>
BANYAN_INLINE void score_tile(const uint8_t* keys, int n_slots, ptrdiff_t to_next, const QueryBlock* q, int n_blocks, float* scores) {
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
        BANYAN_PREFETCH(keys + key_in_tile(0, 4 * j) + to_next);
        BANYAN_PREFETCH(keys + key_in_tile(16, 4 * j) + to_next);
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
    if constexpr (kAsks) BANYAN_PREFETCH(keys + to_next);
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
BANYAN_INLINE void add_tile(const Weights<kRows>* weights, const uint8_t* values, ptrdiff_t to_next, int64_t o_stride, float* o) {
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
        if constexpr (kAsks) BANYAN_PREFETCH(at + to_next);
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

// o[0 .. kRows] += the weights p times the values.
template <int kRows, bool kAsks> BANYAN_INLINE void add_rows(
    const float* p, const uint8_t* values, const ValueScales* scales, ptrdiff_t to_next, int n_blocks, int64_t o_stride, float* o) {
  const Vec highest = highest_weights<kRows>(p);
  Weights<kRows> weights[kMaxHeadDim / 32];
  for (int b = 0; b < n_blocks; ++b) {
    if constexpr (kAsks) BANYAN_PREFETCH(values + b * kTileBlockBytes + to_next);
    quantize_weights(p, highest, scales[b], weights + b);
  }
  int b = 0;
  for (; b + 2 <= n_blocks; b += 2) add_tile<kRows, 2, kAsks>(weights + b, values + b * kTileBlockBytes, to_next, o_stride, o + 32 * b);
  if (b < n_blocks) add_tile<kRows, 1, kAsks>(weights + b, values + b * kTileBlockBytes, to_next, o_stride, o + 32 * b);
}

// A tile of slots and all rows of a tile of queries.
inline void score_tiles(const uint8_t* keys, int n_slots, ptrdiff_t to_next, const QueryTile& tile, int n_blocks, float* scores) {
  const auto* q = reinterpret_cast<const QueryBlock*>(tile.q);
  in_groups(tile.n_rows(), [&](int row, auto n) {
    constexpr int kRows = decltype(n)::value;
    if (row == 0) score_tile<kRows, true>(keys, n_slots, to_next, q, n_blocks, scores);
    else score_tile<kRows, false>(keys, n_slots, 0, q + row * n_blocks, n_blocks, scores + row * kKeyTile);
  });
}
inline void add_tiles(const uint8_t* values, int n_slots, ptrdiff_t to_next, const QueryTile& tile, int n_blocks, const float* p) {
  ValueScales scales[kMaxHeadDim / 32];
  for (int b = 0; b < n_blocks; ++b) scales[b] = ValueScales(TileScales(values + b * kTileBlockBytes, n_slots).halves);
  in_groups(tile.n_rows(), [&](int row, auto n) {
    constexpr int kRows = decltype(n)::value;
    if (row == 0) add_rows<kRows, true>(p, values, scales, to_next, n_blocks, tile.padded_dim, tile.o);
    else add_rows<kRows, false>(p + row * kKeyTile, values, scales, 0, n_blocks, tile.padded_dim, tile.o + row * tile.padded_dim);
  });
}

// Calls for the tiles of all heads in the order they lie in, and says how far it is to the same of the next tile.
template <class Call> void walk_tiles(const AttendArgs& a, const FewWalk& walk, int first_kv_head, int n_kv_heads, Call call) {
  for (int i = 0; i < walk.n_keys; i += kTileSlots) {
    const bool is_last = i + kTileSlots >= walk.n_keys;
    for (int head = 0; head < n_kv_heads; ++head) {
      const uint8_t* slots = tile_of(a.kv, walk.side, first_kv_head + head, walk.n + i);
      const uint8_t* next = is_last ? tile_of(a.kv, walk.next_side, first_kv_head + head, walk.next_n)
                                    : tile_of(a.kv, walk.side, first_kv_head + head, walk.n + i + kTileSlots);
      call(head, i, std::min(kTileSlots, walk.n_keys - i), slots, next - slots);
    }
  }
}

// turn_to(i): the state of kv head i of n_kv_heads.
template <class TurnTo>
void fold_tiles(const AttendJob& job, QueryTile& tile, int first_kv_head, int n_kv_heads, int64_t n, int n_keys, TurnTo turn_to) {
  const AttendArgs& a = job.args;
  const int n_blocks = a.head_dim / 32;
  walk_tiles(
      a, walk_of_keys(a.kv, n, n_keys), first_kv_head, n_kv_heads, [&](int head, int first, int n_slots, const uint8_t* keys, ptrdiff_t to_next) {
        turn_to(head);
        score_tiles(keys, n_slots, to_next, tile, n_blocks, tile.scores + first);
      });
  for (int head = 0; head < n_kv_heads; ++head) {
    turn_to(head);
    fold_rows(job, tile, n, n_keys);
  }
  walk_tiles(
      a, walk_of_values(a.kv, n, n_keys), first_kv_head, n_kv_heads, [&](int head, int first, int n_slots, const uint8_t* values, ptrdiff_t to_next) {
        turn_to(head);
        add_tiles(values, n_slots, to_next, tile, n_blocks, tile.scores + first);
      });
}

struct FewTiles {
  static void prepare(const AttendArgs& a, QueryTile& tile) { FewInt8::prepare(a, tile); }
  static void fold(const AttendJob& job, QueryTile& tile, const FewHeads& heads, int64_t n, int n_keys) {
    fold_tiles(job, tile, heads.first_kv_head, heads.n_kv_heads, n, n_keys, [&](int head) { heads.turn_to(job.args, tile, head); });
  }
};
struct ManyTiles {
  static constexpr int kRows = kQueryRows;
  static void prepare(const AttendArgs& a, QueryTile& tile) { FewInt8::prepare(a, tile); }
  static void fold(const AttendJob& job, QueryTile& tile, int64_t n, int n_keys) {
    fold_tiles(job, tile, tile.kv_head, 1, n, n_keys, [](int) {});
  }
};

inline void inject_int8(Stream& stream, const InjectArgs& args) {
  if (args.kv.is_tiled) inject_slots<FewTiles, ManyTiles>(stream, args);
  else kBase()->inject(stream, args);
}
