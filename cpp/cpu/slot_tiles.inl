// slot_tiles: where the tiles of a memory lie (tensor/slot_tile.h).

// Of one kv head: the tile of slot n, a multiple of kTileSlots.
inline const uint8_t* tile_of(const KvView& kv, const void* side, int kv_head, int64_t n) {
  return static_cast<const uint8_t*>(side) + row_bytes(DType::kQ8_0, n * kv.row_stride + kTileSlots * kv_head * kv.head_stride);
}
