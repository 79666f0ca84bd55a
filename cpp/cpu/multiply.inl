// multiply: out[R, N] (+)= a[R, K] b[K, N], the register-blocked product under gemm and attend.
// b is packed: tiles of kTileCols columns, each tile [K][kTileCols], so that a tile is read front to back.
// Why the tile is kTileRows x 2 vectors: see vec_<variant>.h.

constexpr int kTileVectors = 2;
constexpr int kTileCols = kTileVectors * kLanes;

// kRows rows of one tile of columns, of which the first n_cols are written.
template <int kRows> void multiply_tile(float* BANYAN_RESTRICT out, int64_t out_stride, const float* BANYAN_RESTRICT a, int64_t a_stride,
    const float* BANYAN_RESTRICT b, int n_k, int n_cols, bool is_added) {
  Vec sums[kRows][kTileVectors];
  BANYAN_UNROLL
  for (int r = 0; r < kRows; ++r) {
    BANYAN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) sums[r][v] = zero();
  }
  for (int k = 0; k < n_k; ++k, b += kTileCols) {
    Vec column[kTileVectors];
    BANYAN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) column[v] = load(b + v * kLanes);
    BANYAN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const Vec x = broadcast(a[r * a_stride + k]);
      BANYAN_UNROLL
      for (int v = 0; v < kTileVectors; ++v) sums[r][v] = fma(x, column[v], sums[r][v]);
    }
  }
  BANYAN_UNROLL
  for (int r = 0; r < kRows; ++r) {
    BANYAN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      float* at = out + r * out_stride + v * kLanes;
      const int n = n_cols - v * kLanes;
      if (n >= kLanes) {
        store(at, is_added ? add(load(at), sums[r][v]) : sums[r][v]);
      } else if (n > 0) {
        store_n(at, is_added ? add(load_n(at, n), sums[r][v]) : sums[r][v], n);
      }
    }
  }
}

using MultiplyTile = void (*)(float*, int64_t, const float*, int64_t, const float*, int, int, bool);

// multiply_tile for 1..12 rows; kTileRows is never larger.
constexpr MultiplyTile kMultiplyTiles[] = {
    multiply_tile<1>,
    multiply_tile<2>,
    multiply_tile<3>,
    multiply_tile<4>,
    multiply_tile<5>,
    multiply_tile<6>,
    multiply_tile<7>,
    multiply_tile<8>,
    multiply_tile<9>,
    multiply_tile<10>,
    multiply_tile<11>,
    multiply_tile<12>,
};
static_assert(kTileRows <= 12);

// All rows times all columns. Column tiles of b lie tile_stride floats apart. The sum over k of an element does not depend on how the rows
// are cut.
inline void multiply(float* out, int64_t out_stride, const float* a, int64_t a_stride, int n_rows, const float* b, int64_t tile_stride, int n_k,
    int n_cols, bool is_added) {
  for (int col = 0; col < n_cols; col += kTileCols, b += tile_stride) {
    for (int row = 0; row < n_rows; row += kTileRows) {
      kMultiplyTiles[std::min(kTileRows, n_rows - row) - 1](
          out + row * out_stride + col, out_stride, a + row * a_stride, a_stride, b, n_k, n_cols - col, is_added);
    }
  }
}
