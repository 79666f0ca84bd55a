// quantize_tile: x as int8 in the order in which many tokens meet a strip (x86). A variant brings quantize_block, and kInt8Tokens, the tokens of a tile.

// One block of each token of a tile.
template <DType kFormat> struct Tile {
  std::conditional_t<kIsInWords<kFormat>, int16_t, int8_t> q[kInt8Tokens][32];
  float d[kInt8Tokens];
  union {
    int32_t starts[Int8Format<kFormat>::kGroups][kInt8Tokens];  // of the sums: kFloatBaseBits, less what was added to make the weights unsigned
    float minus_sums[kInt8Tokens];                              // -d sum(q), which the minimum multiplies
  };
};

// Tokens that do not exist stay as they are: nothing reads them.
template <DType kFormat> void quantize_tile(const float* x, int64_t n_k, int n_tokens, Tile<kFormat>* tile) {
  using Format = Int8Format<kFormat>;
  constexpr int kOffset = kIsInWords<kFormat> ? 0 : Format::kOffset;  // words need not be made unsigned
  for (int t = 0; t < n_tokens; ++t, x += n_k) {
    for (int64_t b = 0; b < n_k / 32; ++b) {
      const QuantizedBlock block = quantize_block(x + 32 * b);
      if constexpr (kIsInWords<kFormat>) {
        Products<kFormat>::store_words(tile[b].q[t], block.q[0]);
        Products<kFormat>::store_words(tile[b].q[t] + 16, block.q[1]);
      } else {
        store_16(tile[b].q[t], block.q[0]);
        store_16(tile[b].q[t] + 16, block.q[1]);
      }
      tile[b].d[t] = block.d;
      if constexpr (Format::kHasMin) {
        tile[b].minus_sums[t] = -block.d * static_cast<float>(block.sums[0] + block.sums[1]);
      } else if constexpr (Format::kGroups == 2) {
        tile[b].starts[0][t] = kFloatBaseBits - kOffset * block.sums[0];
        tile[b].starts[1][t] = kFloatBaseBits - kOffset * block.sums[1];
      } else {
        tile[b].starts[0][t] = kFloatBaseBits - kOffset * (block.sums[0] + block.sums[1]);
      }
    }
  }
}
