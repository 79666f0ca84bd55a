// attend_bf16: attention of many queries over F16 and Q8_0 keys with products of tiles of bf16, as gemm_tiles.inl has them.
// Queries (times scale), keys, weights and values are sums of two terms of bf16, 16 bits together; the product of the second terms is left out. F16 is such a sum
// exactly, so what is lost is a 32nd of what was lost when keys and values were stored. Sums and the softmax are float32, as attend.inl has them.

constexpr int kTermRows = 384;  // of a tile, for which keys and values are packed once: with 192 attention took 5 to 10 % longer
static_assert(kTileCols == kStep && kTermRows % kSide == 0 && kWideQueryRows % kSide == 0);
static_assert(tile_floats(kTermRows, kWideHeadDim) <= static_cast<int>(Threads::kScratchBytes / sizeof(float)));

// Rows in two terms: the second one lies term_bytes behind the first.
struct TermRows {
  std::byte* first;
  int64_t stride, term_bytes;
};

// out[16 kRowTiles, 16 kColumnTiles] (+)= rows times columns, over n_steps of 32 elements; out_stride in bytes.
template <int kRowTiles, int kColumnTiles>
void multiply_terms(std::byte* out, int64_t out_stride, const TermRows& rows, const TermTiles& columns, int n_steps, bool is_added) {
  static_assert(kRowTiles <= 2 && kColumnTiles <= 2);
  constexpr bool kTwoRows = kRowTiles == 2, kTwoColumns = kColumnTiles == 2;
  std::byte *right = out + 64, *below = out + kSide * out_stride, *last = below + 64;
  if (is_added) {
    tile_load<0>(out, out_stride);
    if constexpr (kTwoColumns) tile_load<1>(right, out_stride);
    if constexpr (kTwoRows) tile_load<2>(below, out_stride);
    if constexpr (kTwoRows && kTwoColumns) tile_load<3>(last, out_stride);
  } else {
    tile_zero<0>();
    if constexpr (kTwoColumns) tile_zero<1>();
    if constexpr (kTwoRows) tile_zero<2>();
    if constexpr (kTwoRows && kTwoColumns) tile_zero<3>();
  }
  const auto load_rows = [&](const std::byte* at) {
    tile_load<4>(at, rows.stride);
    if constexpr (kTwoRows) tile_load<5>(at + kSide * rows.stride, rows.stride);
  };
  const auto load_columns = [&](const std::byte* at) {
    tile_load<6>(at);
    if constexpr (kTwoColumns) tile_load<7>(at + columns.column_bytes);
  };
  const auto multiply_all = [] {
    tile_multiply<0, 4, 6>();
    if constexpr (kTwoColumns) tile_multiply<1, 4, 7>();
    if constexpr (kTwoRows) tile_multiply<2, 5, 6>();
    if constexpr (kTwoRows && kTwoColumns) tile_multiply<3, 5, 7>();
  };
  const std::byte *row = rows.first, *column = columns.first;
  for (int step = 0; step < n_steps; ++step, row += 64, column += columns.step_bytes) {
    load_rows(row);
    load_columns(column + kTileBytes);
    multiply_all();
    load_columns(column);
    multiply_all();
    load_rows(row + rows.term_bytes);
    multiply_all();
  }
  tile_store<0>(out, out_stride);
  if constexpr (kTwoColumns) tile_store<1>(right, out_stride);
  if constexpr (kTwoRows) tile_store<2>(below, out_stride);
  if constexpr (kTwoRows && kTwoColumns) tile_store<3>(last, out_stride);
}

// The same for all columns, n_column_tiles of 16; one or two tiles of rows, out_floats apart.
inline void multiply_terms(
    float* out, int64_t out_floats, int n_row_tiles, const TermRows& rows, TermTiles columns, int n_column_tiles, int n_steps, bool is_added) {
  auto* at = reinterpret_cast<std::byte*>(out);
  const int64_t stride = out_floats * static_cast<int64_t>(sizeof(float));
  for (int column = 0; column < n_column_tiles; column += 2, at += 128, columns.first += 2 * columns.column_bytes) {
    const bool is_pair = column + 1 < n_column_tiles;
    const auto multiply_pair =
        n_row_tiles == 2 ? (is_pair ? multiply_terms<2, 2> : multiply_terms<2, 1>) : (is_pair ? multiply_terms<1, 2> : multiply_terms<1, 1>);
    multiply_pair(at, stride, rows, columns, n_steps, is_added);
  }
}

BANYAN_INLINE __m512i pair_to_bf16(Vec x0, Vec x1) { return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(x1, x0)); }

// 32 elements as two terms.
BANYAN_INLINE void store_pair(std::byte* at, int64_t term_bytes, Vec x0, Vec x1) {
  const __m512i bits = pair_to_bf16(x0, x1);
  _mm512_store_si512(at, bits);
  const Vec rest0 = sub(x0, from_bf16(_mm512_castsi512_si256(bits))), rest1 = sub(x1, from_bf16(_mm512_extracti64x4_epi64(bits, 1)));
  _mm512_store_si512(at + term_bytes, pair_to_bf16(rest0, rest1));
}

// e^x for x <= 0, 0 in lanes that the mask leaves out; below e^-87.3 it is that. Relative error below 2^-22: y = x log2(e) = n + f, 2^f a polynomial of degree 5 on
// [0, 1) (Remez, 2^-23.7). Two thirds of the operations of exp_bounded; these weights keep 16 bits.
BANYAN_INLINE Vec weights_of(Vec x, __mmask16 mask) {
  const Vec y = max(broadcast(-126.0f), mul(x, broadcast(1.44269504f)));
  const Vec f = _mm512_reduce_ps(y, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  Vec p = fma(f, broadcast(0.0018775767f), broadcast(0.00898934f));
  p = fma(p, f, broadcast(0.055826318f));
  p = fma(p, f, broadcast(0.24015361f));
  p = fma(p, f, broadcast(0.69315308f));
  p = fma(p, f, broadcast(0.99999994f));
  return _mm512_maskz_scalef_ps(mask, p, y);  // p 2^floor(y)
}

// fold_row, but the weights become two terms in the place of the scores: [terms, kKeyTile].
inline void fold_into_terms(QueryTile& tile, int row, float* scores, SeenKeys seen) {
  static_assert(kKeyTile == 64 && kLanes == 16);
  float* l = tile.l + row * kLanes;
  const auto first_keys = [](int n) { return n < 64 ? (uint64_t{1} << n) - 1 : ~uint64_t{0}; };
  const uint64_t mask = first_keys(seen.end) & ~first_keys(seen.begin);
  const auto lanes = [mask](int i) { return static_cast<__mmask16>(mask >> (16 * i)); };
  Vec p[4];
  BANYAN_UNROLL
  for (int i = 0; i < 4; ++i) p[i] = _mm512_mask_mov_ps(broadcast(kNothing), lanes(i), load(scores + 16 * i));
  raise_maximum(tile, row, max(max(p[0], p[1]), max(p[2], p[3])));
  auto* to = reinterpret_cast<std::byte*>(scores);
  if (tile.m[row] == kNothing) {  // as in fold_row
    std::memset(to, 0, kKeyTile * sizeof(float));
    return;
  }
  const Vec m = broadcast(tile.m[row]);
  BANYAN_UNROLL
  for (int i = 0; i < 4; ++i) p[i] = weights_of(sub(p[i], m), lanes(i));
  store(l, add(load(l), add(add(p[0], p[1]), add(p[2], p[3]))));
  store_pair(to, 2 * kKeyTile, p[0], p[1]);
  store_pair(to + 64, 2 * kKeyTile, p[2], p[3]);
}

// What each of the rows [first, first + n_rows) sees; false where it is nothing: with causal ranges most tokens of a tile see none of the last keys.
inline bool find_seen(const AttendJob& job, const QueryTile& tile, int first, int n_rows, int64_t n, int n_keys, SeenKeys* seen) {
  bool is_any = false;
  for (int row = 0; row < n_rows;) {
    const int next = std::min(n_rows, row + tile.n_heads - (first + row) % tile.n_heads);
    const SeenKeys of_token = seen_keys(job, tile, first + row, n, n_keys);
    is_any |= of_token.begin < of_token.end;
    for (; row < next; ++row) seen[row] = of_token;
  }
  return is_any;
}

template <class Source> struct ManyBf16 {
  static constexpr int kRows = kTermRows;
  // Queries become two terms in their place: [rows, terms, padded C]. Rows of whole tiles that do not exist are 0.
  static void prepare(const AttendArgs& a, QueryTile& tile) {
    const int64_t term_bytes = 2 * tile.padded_dim;
    for (int row = static_cast<int>(round_up(tile.n_rows(), kSide)) - 1; row >= 0; --row) {
      float copy[kMaxHeadDim] = {};
      if (row < tile.n_rows()) std::memcpy(copy, tile.q + int64_t{row} * a.head_dim, static_cast<size_t>(a.head_dim) * sizeof(float));
      auto* to = reinterpret_cast<std::byte*>(tile.q + row * tile.padded_dim);
      for (int64_t c = 0; c < tile.padded_dim; c += 16) store_terms<2>(to + 2 * c, term_bytes, load(copy + c));
    }
  }

  // Two tiles of rows at a time, whose scores take turns in the first-level cache.
  static void fold(const AttendJob& job, QueryTile& tile, int64_t n, int n_keys) {
    const AttendArgs& a = job.args;
    const TileScope scope;
    const TermTiles keys = Source::pack_keys(a, tile, n, n_keys), values = Source::pack_values(a, tile, n, n_keys);
    for (int first = 0; first < tile.n_rows(); first += 2 * kSide) {
      const int n_rows = std::min(2 * kSide, tile.n_rows() - first), n_row_tiles = static_cast<int>(ceil_div(n_rows, kSide));
      SeenKeys seen[2 * kSide];
      if (!find_seen(job, tile, first, n_rows, n, n_keys, seen)) continue;
      const TermRows queries{reinterpret_cast<std::byte*>(tile.q + first * tile.padded_dim), 4 * tile.padded_dim, 2 * tile.padded_dim};
      multiply_terms(tile.scores, kKeyTile, n_row_tiles, queries, keys, static_cast<int>(ceil_div(n_keys, kSide)),
          static_cast<int>(tile.padded_dim / kStep), false);
      for (int row = 0; row < n_rows; ++row) fold_into_terms(tile, first + row, tile.scores + row * kKeyTile, seen[row]);
      const TermRows weights{reinterpret_cast<std::byte*>(tile.scores), 4 * kKeyTile, 2 * kKeyTile};
      multiply_terms(tile.o + first * tile.padded_dim, tile.padded_dim, n_row_tiles, weights, values, static_cast<int>(ceil_div(a.head_dim, kSide)),
          static_cast<int>(ceil_div(n_keys, kWeightStep)), true);
    }
  }
};

// False: too few queries.
template <class Source> bool try_bf16(Stream& stream, const AttendArgs& args, int n_slots) {
  if (args.n_tokens <= 0 || args.n_heads <= 0) return false;
  AttendJob job = plan<ManyBf16<Source>>(stream, args, n_slots);
  if (job.tile_tokens * job.group < Source::kFewestRows) return false;
  attend_many<ManyBf16<Source>>(job);
  return true;
}
inline void attend_bf16(Stream& stream, const AttendArgs& args) {
  if (args.kv.dtype == DType::kF32 || !try_bf16<RowTerms>(stream, args, 0)) kBase()->attend(stream, args);
}
// Slots are F16 rows or Q8_0 in tiles.
inline void inject_bf16(Stream& stream, const InjectArgs& args) {
  const bool is_done = args.kv.is_tiled               ? try_bf16<SlotTerms>(stream, as_attention(args), args.n_slots)
                       : args.kv.dtype == DType::kF16 ? try_bf16<RowTerms>(stream, as_attention(args), args.n_slots)
                                                      : false;
  if (!is_done) kBase()->inject(stream, args);
}
