// attend_tiles: attention over Q8_0 slots in tiles (tensor/slot_tile.h) in integers. A variant brings what a tile of slots meets (tile_products*.inl).

// o[0 .. kRows] += the weights p times the values.
template <int kRows, bool kAsks> BANYAN_INLINE void add_rows(
    const float* p, const uint8_t* values, const ValueScales* scales, ptrdiff_t to_next, int n_blocks, int64_t o_stride, float* o) {
  const auto highest = highest_weights<kRows>(p);
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
  for (int b = 0; b < n_blocks; ++b) scales[b] = value_scales(values + b * kTileBlockBytes, n_slots);
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
  static void prepare(const AttendArgs& a, QueryTile& tile) { quantize_queries(a, tile); }
  static void fold(const AttendJob& job, QueryTile& tile, const FewHeads& heads, int64_t n, int n_keys) {
    fold_tiles(job, tile, heads.first_kv_head, heads.n_kv_heads, n, n_keys, [&](int head) { heads.turn_to(job.args, tile, head); });
  }
};
struct ManyTiles {
  static constexpr int kRows = kQueryRows;
  static void prepare(const AttendArgs& a, QueryTile& tile) { quantize_queries(a, tile); }
  static void fold(const AttendJob& job, QueryTile& tile, int64_t n, int n_keys) {
    fold_tiles(job, tile, tile.kv_head, 1, n, n_keys, [](int) {});
  }
};

inline void inject_int8(Stream& stream, const InjectArgs& args) {
  if (args.kv.is_tiled) inject_slots<FewTiles, ManyTiles>(stream, args);
  else kBase()->inject(stream, args);
}
