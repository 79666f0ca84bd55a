// tile_scales: the scales of slots in tiles (AVX-512).

// The scales of a block's slots; 0 of those that are not there.
struct TileScales {
  __m256i halves[2];
  BANYAN_INLINE TileScales(const uint8_t* block, int n_slots) {
    const uint32_t mask = n_slots < kTileSlots ? (uint32_t{1} << n_slots) - 1 : ~uint32_t{0};
    for (int v = 0; v < 2; ++v) halves[v] = _mm256_maskz_loadu_epi16(static_cast<__mmask16>(mask >> (16 * v)), block + scale_in_tile(16 * v));
  }
};
