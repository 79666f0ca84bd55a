// slot_tiles: where the tiles of a memory lie (tensor/slot_tile.h), and how they are asked for.

// Of one kv head: the tile of slot n, a multiple of kTileSlots.
inline const uint8_t* tile_of(const KvView& kv, const void* side, int kv_head, int64_t n) {
  return static_cast<const uint8_t*>(side) + row_bytes(DType::kQ8_0, n * kv.row_stride + kv_head * kv.head_stride);
}

// One token asks for what lies so far ahead of each line that it reads, a line at a time, for a burst of them stops what is read meanwhile; and for what lies
// near, from the second-level cache into the first. Bytes, neither a multiple of 4096 (gemm_int8_few.inl). What comes after the last tile of a head is the
// first one of the next.
constexpr int kTilesAhead = 3648, kTilesNear = 512;
BANYAN_INLINE void ask_ahead(const uint8_t* line) {
  BANYAN_PREFETCH(line + kTilesAhead);
  BANYAN_PREFETCH_NEAR(line + kTilesNear);
}
