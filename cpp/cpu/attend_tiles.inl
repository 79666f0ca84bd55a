// attend_tiles: attention over Q8_0 slots in tiles (tensor/slot_tile.h) in integers. A variant brings what a tile of slots meets (tile_products*.inl).

// o[0 .. kRows] += the weights p times the values.
template <int kRows, bool kAsks>
BANYAN_INLINE void add_rows(const float* p, const uint8_t* values, const ValueScales* scales, int n_blocks, int64_t o_stride, float* o) {
  const auto highest = highest_weights<kRows>(p);
  Weights<kRows> weights[kMaxHeadDim / 32];
  for (int b = 0; b < n_blocks; ++b) {
    if constexpr (kAsks) ask_ahead(values + b * kTileBlockBytes);
    quantize_weights(p, highest, scales[b], weights + b);
  }
  int b = 0;
  for (; b + 2 <= n_blocks; b += 2) add_tile<kRows, 2, kAsks>(weights + b, values + b * kTileBlockBytes, o_stride, o + 32 * b);
  if (b < n_blocks) add_tile<kRows, 1, kAsks>(weights + b, values + b * kTileBlockBytes, o_stride, o + 32 * b);
}

// A tile of slots and all rows of a tile of queries.
inline void score_tiles(const uint8_t* keys, int n_slots, const QueryTile& tile, int n_blocks, float* scores) {
  const auto* q = reinterpret_cast<const QueryBlock*>(tile.q);
  in_groups(tile.n_rows(), [&](int row, auto n) {
    constexpr int kRows = decltype(n)::value;
    if (row == 0) score_tile<kRows, true>(keys, n_slots, q, n_blocks, scores);
    else score_tile<kRows, false>(keys, n_slots, q + row * n_blocks, n_blocks, scores + row * kKeyTile);
  });
}
inline void add_tiles(const uint8_t* values, int n_slots, const QueryTile& tile, int n_blocks, const float* p) {
  ValueScales scales[kMaxHeadDim / 32];
  for (int b = 0; b < n_blocks; ++b) scales[b] = value_scales(values + b * kTileBlockBytes, n_slots);
  in_groups(tile.n_rows(), [&](int row, auto n) {
    constexpr int kRows = decltype(n)::value;
    if (row == 0) add_rows<kRows, true>(p, values, scales, n_blocks, tile.padded_dim, tile.o);
    else add_rows<kRows, false>(p + row * kKeyTile, values, scales, n_blocks, tile.padded_dim, tile.o + row * tile.padded_dim);
  });
}

inline void fold_tiles(const AttendJob& job, QueryTile& tile, int64_t n, int n_keys) {
  const AttendArgs& a = job.args;
  const int n_blocks = a.head_dim / 32;
  for (int i = 0; i < n_keys; i += kTileSlots) {
    score_tiles(tile_of(a.kv, a.kv.k, tile.kv_head, n + i), std::min(kTileSlots, n_keys - i), tile, n_blocks, tile.scores + i);
  }
  fold_rows(job, tile, n, n_keys);
  for (int i = 0; i < n_keys; i += kTileSlots) {
    add_tiles(tile_of(a.kv, a.kv.v, tile.kv_head, n + i), std::min(kTileSlots, n_keys - i), tile, n_blocks, tile.scores + i);
  }
}

struct FewTiles {
  static void prepare(const AttendArgs& a, QueryTile& tile) { quantize_queries(a, tile); }
  static void fold(const AttendJob& job, QueryTile& tile, const FewHeads& heads, int64_t n, int n_keys) {
    for (int i = 0; i < heads.n_kv_heads; ++i) {
      heads.turn_to(job.args, tile, i);
      fold_tiles(job, tile, n, n_keys);
    }
  }
};
struct ManyTiles {
  static constexpr int kRows = kQueryRows;
  static void prepare(const AttendArgs& a, QueryTile& tile) { quantize_queries(a, tile); }
  static void fold(const AttendJob& job, QueryTile& tile, int64_t n, int n_keys) { fold_tiles(job, tile, n, n_keys); }
};

inline void inject_int8(Stream& stream, const InjectArgs& args) {
  if (args.kv.is_tiled) inject_slots<FewTiles, ManyTiles>(stream, args);
  else kBase()->inject(stream, args);
}
