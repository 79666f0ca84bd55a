// slot_tiles: where the tiles of a memory lie (tensor/slot_tile.h), and their scales.

// Of one kv head: the tile of slot n, a multiple of kTileSlots.
inline const uint8_t* tile_of(const KvView& kv, const void* side, int kv_head, int64_t n) {
  return static_cast<const uint8_t*>(side) + row_bytes(DType::kQ8_0, n * kv.row_stride + kTileSlots * kv_head * kv.head_stride);
}

// The scales of a block's slots; 0 of those that are not there.
struct TileScales {
  __m256i halves[2];
  BANYAN_INLINE TileScales(const uint8_t* block, int n_slots) {
    const uint32_t mask = n_slots < kTileSlots ? (uint32_t{1} << n_slots) - 1 : ~uint32_t{0};
    for (int v = 0; v < 2; ++v) halves[v] = _mm256_maskz_loadu_epi16(static_cast<__mmask16>(mask >> (16 * v)), block + scale_in_tile(16 * v));
  }
};
