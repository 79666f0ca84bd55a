// gemm_int8: gemm of block formats with products of bytes, for machines that have them. Activations are quantised once to 8 bits per block of 32, weights
// keep their integers; sums are exact integers within a block (or 16 elements of Q6_K) and floats across blocks.
// Few tokens go to gemm_int8_few.inl. Many tokens: a panel of weights is unpacked and transposed once, then meets all of them.
// A variant brings Int8Format, Unit, Tile, Strip and what makes and multiplies them; kFewInt8TokensOf; and kBase, the variant whose ops it has
// otherwise.

constexpr int kGroupTiles = 4;      // tiles of tokens that meet a strip while both are in the first-level cache
constexpr int64_t kTaskTiles = 16;  // at least; each task unpacks its panel again
// From here on panels are deep. AVX-512: 24 tokens lose 5 %, 48 neither, 96 gain 4; AVX2: 96 neither, 512 gain 4.
constexpr int kDeepTokens = kLanes == 16 ? 64 : 256;
constexpr int64_t kRoundBytes = 4 << 20;  // of x that many tokens share
constexpr int64_t kInt8Cols = 1 << 18;    // beyond it x of few tokens would not fit into the shared memory

template <DType kFormat>
using MultiplyStrip = void (*)(const Tile<kFormat>*, const Strip&, int, float*, int64_t, int, const float*, bool, const Ahead&, int64_t);

template <DType kFormat, int... kLess> MultiplyStrip<kFormat> multiply_strip_of(int n_tokens, std::integer_sequence<int, kLess...>) {
  static constexpr MultiplyStrip<kFormat> kAll[] = {multiply_strip<kFormat, kLess + 1>...};
  return kAll[n_tokens - 1];
}

static_assert(kFewInt8Tokens * (kInt8Cols / Int8Format<DType::kQ8_0>::kElements) * sizeof(Unit<DType::kQ8_0>) <= Threads::kSharedBytes);
static_assert(kInt8Cols / 32 * sizeof(Tile<DType::kQ6_K>) <= kRoundBytes);

struct Int8Job {
  const Stream& stream;
  const GemmArgs& args;     // of this round's tokens
  std::byte* x;             // tiles, memory that the phases share
  int64_t tokens_per_tile;  // at most kInt8Tokens: as even as can be
  int64_t depth;            // of a panel
  int64_t n_panels, n_tiles, tiles_per_task;

  int64_t n_blocks() const { return args.w.cols / 32; }
  int n_tokens(int64_t tile) const { return static_cast<int>(std::min<int64_t>(tokens_per_tile, args.n_tokens - tile * tokens_per_tile)); }
};

template <DType kFormat> void int8_quantize_task(const Int8Job& job, int tile, std::byte*) {
  const int64_t n_k = job.args.w.cols;
  quantize_tile<kFormat>(
      job.args.x + tile * job.tokens_per_tile * n_k, n_k, job.n_tokens(tile), reinterpret_cast<Tile<kFormat>*>(job.x) + tile * job.n_blocks());
}

// One piece of 5 bits and more, two of 4: what memory answers while they are multiplied.
template <DType kFormat> constexpr int64_t kPiecesAhead = std::max<int64_t>(1, (20 << 10) / (kPanelRows * kPieceBytes<kFormat>));

// Bytes. Of rows as short as these a page holds pieces of several, and memory gives them a tenth slower than in their order; longer rows come slower in order.
constexpr int64_t kShortRow = 2048;

// A quarter of a strip's rows is asked for while it is unpacked, about its share of the time, the rest while it meets its first two tiles.
constexpr int kUnpackRows = kStripRows / 4;

inline Ahead part_of_tile(const Ahead& ahead, int64_t tile, int64_t n_tiles, int n_blocks) {
  const int n_rows = (kStripRows - kUnpackRows) / (n_tiles > 1 ? 2 : 1);
  const auto begin = static_cast<int>(std::min<int64_t>(kUnpackRows + tile * n_rows, kStripRows));
  return ahead.part(begin, std::min(begin + n_rows, kStripRows), n_blocks);
}

// What is asked for while the pieces, `depth` deep, at column k of a panel that begins at `from` are multiplied: later pieces of its rows, behind the last of which lie
// those of the next panel; of short rows as much of the next panel, from one end of it to the other.
template <DType kFormat>
Ahead ahead_of_pieces(const uint8_t* from, int64_t row_stride, int64_t k, int64_t depth, int64_t n_cols, int64_t piece_bytes) {
  const uint8_t* next_panel = from + kPanelRows * row_stride;
  if (row_stride <= kShortRow) return {next_panel + kPanelRows * row_bytes(kFormat, k), piece_bytes, piece_bytes, 0, 0};
  const int64_t later = k + (depth > kPanelDepth ? depth : kPiecesAhead<kFormat> * depth), n_k_padded = round_up(n_cols, depth);
  const uint8_t* at = later < n_k_padded ? from + row_bytes(kFormat, later) : next_panel + row_bytes(kFormat, later - n_k_padded);
  return {at, row_stride, piece_bytes, 0, 0};
}

template <DType kFormat> void int8_panel_task(const Int8Job& job, int index, std::byte* scratch) {
  const GemmArgs& a = job.args;
  Int8Scratch& s = *reinterpret_cast<Int8Scratch*>(scratch);
  const auto* x = reinterpret_cast<const Tile<kFormat>*>(job.x);
  const auto row_stride = static_cast<int64_t>(row_bytes(kFormat, a.w.cols));
  const int64_t row = index % job.n_panels * kPanelRows;
  const int64_t tile_begin = index / job.n_panels * job.tiles_per_task, tile_end = std::min(job.n_tiles, tile_begin + job.tiles_per_task);
  const int n_rows = static_cast<int>(std::min<int64_t>(kPanelRows, a.w.rows - row));
  const uint8_t* from = static_cast<const uint8_t*>(a.w.data) + row * row_stride;
  for (int64_t k = 0; k < a.w.cols; k += job.depth) {
    const int n_k = static_cast<int>(std::min(job.depth, a.w.cols - k));
    const uint8_t* piece = from + row_bytes(kFormat, k);
    const auto piece_bytes = static_cast<int64_t>(row_bytes(kFormat, n_k));
    const Ahead ahead = ahead_of_pieces<kFormat>(from, row_stride, k, job.depth, a.w.cols, piece_bytes);
    const auto ahead_of = [&](int r) { return Ahead{ahead.at + r * ahead.row_stride, ahead.row_stride, piece_bytes, 0, 0}; };
    for (int r = 0; r < n_rows; r += kStripRows) {
      unpack_strip<kFormat>(s, s.strips[r / kStripRows], piece + r * row_stride, row_stride, std::min(kStripRows, n_rows - r), n_k,
          ahead_of(r).part(0, kUnpackRows, unpack_steps<kFormat>(n_k)));
    }
    for (int64_t group = tile_begin; group < tile_end; group += kGroupTiles) {
      if (job.stream.cancelled()) return;
      for (int r = 0; r < n_rows; r += kStripRows) {
        const float* bias = k == 0 && a.bias != nullptr ? a.bias + row + r : nullptr;
        for (int64_t tile = group; tile < std::min(tile_end, group + kGroupTiles); ++tile) {
          multiply_strip_of<kFormat>(job.n_tokens(tile), std::make_integer_sequence<int, kInt8Tokens>())(x + tile * job.n_blocks() + k / 32,
              s.strips[r / kStripRows], n_k / 32, a.out + tile * job.tokens_per_tile * a.w.rows + row + r, a.w.rows, n_rows - r, bias,
              k > 0 || a.accumulate, part_of_tile(ahead_of(r), tile - tile_begin, tile_end - tile_begin, n_k / 32), job.n_blocks());
        }
      }
    }
  }
}

// The most tokens whose x kRoundBytes hold.
template <DType kFormat> int64_t tokens_of_round(const GemmArgs& a) {
  return kRoundBytes / (a.w.cols / 32 * static_cast<int64_t>(sizeof(Tile<kFormat>))) * kInt8Tokens;
}

// False: more tokens than a round may have.
template <DType kFormat> bool plan_int8_many(const Stream& stream, const GemmArgs& a, int64_t all_bytes, std::byte* x, GemmPlan& plan) {
  if (a.n_tokens > tokens_of_round<kFormat>(a)) return false;
  const int64_t depth = a.n_tokens >= kDeepTokens ? kDeepDepth : kPanelDepth;
  Int8Job job{stream, a, x, 0, depth, ceil_div(a.w.rows, kPanelRows), ceil_div(a.n_tokens, kInt8Tokens), 0};
  job.tokens_per_tile = ceil_div(a.n_tokens, job.n_tiles);
  // Four tasks a thread, of all matrices.
  const int64_t all_panels = job.n_panels * all_bytes / weight_bytes(a);
  const int64_t wanted = ceil_div(4 * static_cast<const Threads*>(stream.backend)->n_threads(), all_panels);
  job.tiles_per_task = std::max(kTaskTiles, round_up(ceil_div(job.n_tiles, wanted), kGroupTiles));
  const Int8Job& kept = plan.keep(job);
  plan.prepare = phase<Int8Job, int8_quantize_task<kFormat>>(kept, job.n_tiles);
  plan.multiply = phase<Int8Job, int8_panel_task<kFormat>>(kept, job.n_panels * ceil_div(job.n_tiles, job.tiles_per_task));
  plan.x_bytes = job.n_tiles * job.n_blocks() * static_cast<int64_t>(sizeof(Tile<kFormat>));
  return true;
}

// Rounds of as many tokens as the shared memory holds.
template <DType kFormat> void gemm_int8_many(Stream& stream, const GemmArgs& args) {
  Threads& threads = *static_cast<Threads*>(stream.backend);
  const int64_t n_rounds = ceil_div(args.n_tokens, tokens_of_round<kFormat>(args));
  const int64_t tokens_per_round = round_up(ceil_div(args.n_tokens, n_rounds), kInt8Tokens);
  for (int64_t t = 0; t < args.n_tokens && !stream.cancelled(); t += tokens_per_round) {
    GemmArgs round = args;
    round.x += t * args.w.cols;
    round.out += t * args.w.rows;
    round.n_tokens = static_cast<int>(std::min<int64_t>(tokens_per_round, args.n_tokens - t));
    GemmPlan plan;
    plan_int8_many<kFormat>(stream, round, weight_bytes(round), threads.shared(), plan);
    plan.run(threads);
  }
}

// False: few tokens, which the variant leaves to kBase.
template <DType kFormat> bool try_int8(Stream& stream, const GemmArgs& args) {
  Threads& threads = *static_cast<Threads*>(stream.backend);
  if (args.n_tokens > kFewInt8TokensOf<kFormat>) {
    gemm_int8_many<kFormat>(stream, args);
    return true;
  }
  GemmPlan plan;
  if (!plan_int8_few<kFormat>(stream, args, weight_bytes(args), threads.shared(), plan)) return false;
  plan.run(threads);
  return true;
}

template <DType kFormat> bool plan_int8_of(const Stream& stream, const GemmArgs& args, int64_t all_bytes, std::byte* x, GemmPlan& plan) {
  if (args.n_tokens <= kFewInt8TokensOf<kFormat>) return plan_int8_few<kFormat>(stream, args, all_bytes, x, plan);
  return plan_int8_many<kFormat>(stream, args, all_bytes, x, plan);
}

// Calls one of the five for the block format of a matrix. False: it has none, or rows of no length that products of bytes are made for.
template <class Do> bool with_int8_format(const WeightView& w, const Do& run) {
  if (w.rows <= 0 || w.cols <= 0 || w.cols > kInt8Cols) return false;
  switch (w.dtype) {
    case DType::kQ8_0: return run.template operator()<DType::kQ8_0>();
    case DType::kQ4_0: return run.template operator()<DType::kQ4_0>();
    case DType::kQ4_K: return run.template operator()<DType::kQ4_K>();
    case DType::kQ5_K: return run.template operator()<DType::kQ5_K>();
    case DType::kQ6_K: return run.template operator()<DType::kQ6_K>();
    default: return false;
  }
}

inline bool plan_int8(const Stream& stream, const GemmArgs& args, int64_t all_bytes, std::byte* x, GemmPlan& plan) {
  return with_int8_format(args.w, [&]<DType kFormat>() { return plan_int8_of<kFormat>(stream, args, all_bytes, x, plan); });
}

inline void gemm_int8(Stream& stream, const GemmArgs& args) {
  if (args.n_tokens <= 0 || args.w.rows <= 0) return;
  if (!with_int8_format(args.w, [&]<DType kFormat>() { return try_int8<kFormat>(stream, args); })) kBase()->gemm(stream, args);
}

inline void gemm_int8_together(Stream& stream, const GemmArgs* all, int n) {
  if (all[0].n_tokens <= 0 || run_together<plan_int8>(stream, all, n)) return;
  for (int i = 0; i < n; ++i) gemm_int8(stream, all[i]);
}
