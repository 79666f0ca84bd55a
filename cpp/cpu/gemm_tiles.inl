// gemm_tiles: gemm of many tokens with products of tiles of bf16 (TDPBF16PS: 8192 products an instruction, sums in float32).
// Weights are the rows of the left operand and need no transposition; tokens are the columns of the right one, packed once per gemm. Sums over a piece of
// columns stay in tile registers.
// Block formats: weights and x are rounded to bf16, which is nearer than x in 8 bits per block of 32 (multiplying bytes, scales would come in every 32
// elements: sums would leave the tiles 16 times as often, and take three times as long). F16 and BF16 keep the accuracy of float32: x is a sum of three
// terms of bf16, a weight of two (F16) or one.

constexpr int kSide = 16;         // of a tile of sums
constexpr int kStep = 32;         // elements that one product sums
constexpr int kTileBytes = 1024;  // 16 x 32 bf16 or 16 x 16 floats
constexpr int kPieceSteps = 16;   // 512 elements: a panel of 32 rows is 32 KiB and stays in the first-level cache
constexpr int kPieceElements = kPieceSteps * kStep;
constexpr int kPanelTiles = 2;  // tiles of rows that meet two of tokens: 4 products for 4 loads
constexpr int kPanelRows = kPanelTiles * kSide;
constexpr int kPanelStride = kPieceElements * 2 + 64;  // bytes of a row: a power of two apart, rows would fight for the same cache sets
// Of a task, at most: panels that meet a piece of x while the second-level cache holds it, and the tiles of 512 tokens.
constexpr int64_t kTaskPanels = 8, kTaskTiles = 32;

// With fewer tokens unpacking takes longer than the products save (measured: where both take as long).
constexpr int least_tokens(DType format) {
  if (traits(format).block_size == 1) return 17;
  return format == DType::kQ5_K || format == DType::kQ6_K ? 65 : 49;
}

template <DType kFormat> struct Terms {
  static constexpr bool kIsPlain = traits(kFormat).block_size == 1;
  static constexpr int kOfX = kIsPlain ? 3 : 1;
  static constexpr int kOfWeights = kFormat == DType::kF16 ? 2 : 1;
};

struct TilesScratch {
  alignas(64) std::byte panel[2][kPanelRows][kPanelStride];                    // by term
  alignas(64) float sums[kTaskPanels][kTaskTiles][kPanelTiles][kSide][kSide];  // [rows, tokens]
  alignas(64) float tile[3][kSide][kSide];
};
static_assert(sizeof(TilesScratch) <= Threads::kScratchBytes);

struct TilesJob {
  const Stream& stream;
  const GemmArgs& args;  // of this round's tokens
  std::byte* x;          // [tiles of tokens, steps, terms] tiles, memory that the phases share
  int64_t n_steps, n_tiles, n_panels;
  int64_t panels_per_task, tiles_per_task;

  int64_t n_row_tasks() const { return ceil_div(n_panels, panels_per_task); }
  int64_t n_tasks() const { return n_row_tasks() * ceil_div(n_tiles, tiles_per_task); }

  // Until there are so many tasks: panels first, since all tokens of a task share what it unpacks.
  void cut(int64_t wanted) {
    panels_per_task = kTaskPanels;
    tiles_per_task = kTaskTiles;
    while (n_tasks() < wanted && panels_per_task > 1) panels_per_task /= 2;
    while (n_tasks() < wanted && tiles_per_task > 8) tiles_per_task /= 2;
  }
};

BANYAN_INLINE __m256i to_bf16(Vec x) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)); }
BANYAN_INLINE Vec from_bf16(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }

// 16 elements of a row as kTerms terms, term_stride bytes apart. Each takes the 8 highest bits that are left.
template <int kTerms> BANYAN_INLINE void store_terms(std::byte* at, int64_t term_stride, Vec x) {
  BANYAN_UNROLL
  for (int term = 0; term < kTerms; ++term) {
    const __m256i bits = to_bf16(x);
    _mm256_store_si256(reinterpret_cast<__m256i*>(at + term * term_stride), bits);
    if (term + 1 < kTerms) x = sub(x, from_bf16(bits));
  }
}

// A tile of tokens. What lies beyond the tokens and the columns is 0.
template <int kTerms> void tiles_pack_task(const TilesJob& job, int tile, std::byte* scratch) {
  const GemmArgs& a = job.args;
  auto* rows = reinterpret_cast<std::byte*>(reinterpret_cast<TilesScratch*>(scratch)->tile);
  const int64_t n_k = a.w.cols;
  const int n_tokens = static_cast<int>(std::min<int64_t>(kSide, a.n_tokens - int64_t{tile} * kSide));
  const float* x = a.x + tile * kSide * n_k;
  std::byte* to = job.x + tile * job.n_steps * kTerms * kTileBytes;
  std::memset(rows, 0, kTerms * kTileBytes);
  for (int64_t k = 0; k < n_k; k += kStep, to += kTerms * kTileBytes) {
    for (int t = 0; t < n_tokens; ++t) {
      BANYAN_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int n = static_cast<int>(std::clamp<int64_t>(n_k - k - 16 * half, 0, 16));
        const float* from = x + t * n_k + k + 16 * half;
        store_terms<kTerms>(rows + t * 64 + half * 32, kTileBytes, n == 16 ? load(from) : load_n(from, n));
      }
    }
    for (int term = 0; term < kTerms; ++term) {
      transpose(reinterpret_cast<const float*>(rows + term * kTileBytes), kSide, reinterpret_cast<float*>(to + term * kTileBytes), kSide);
    }
  }
}

// One row of a panel.
template <int kTerms> struct PanelRow {
  std::byte* at;
  BANYAN_INLINE void put(int64_t element, int, Vec x) { store_terms<kTerms>(at + 2 * element, kPanelRows * kPanelStride, x); }
  BANYAN_INLINE void put_n(int64_t element, Vec x, int) { put(element, 0, x); }  // the rest of x is 0
};

// Rows that do not exist stay as they are: nobody reads their sums.
template <DType kFormat> void unpack_panel(TilesScratch& s, const uint8_t* from, int64_t row_stride, int n_rows, int64_t n_k) {
  for (int r = 0; r < n_rows; ++r, from += row_stride) {
    PanelRow<Terms<kFormat>::kOfWeights> row{s.panel[0][r]};
    if (n_k % kStep != 0) {
      row.put(n_k / kStep * kStep, 0, zero());
      row.put(n_k / kStep * kStep + 16, 0, zero());
    }
    decode_row<kFormat>(from, n_k, row);
  }
}

// A panel times one or two tiles of tokens, each with its sums: tiles 0 to 3 are sums, 4 and 5 weights, 6 and 7 tokens. Of three terms of x and two of weights the
// product of the last ones is left out: it is 2^-24 of that of the first. A sum of 32 products is added at once, so terms add no rounding worth a thought.
template <DType kFormat, int kTokenTiles>
void multiply_panel(const TilesScratch& s, int n_steps, const std::byte* x, int64_t x_stride, float* sums, bool is_first) {
  std::byte* at = reinterpret_cast<std::byte*>(sums);
  if (is_first) {
    tile_zero<0>();
    tile_zero<1>();
    if constexpr (kTokenTiles == 2) {
      tile_zero<2>();
      tile_zero<3>();
    }
  } else {
    tile_load<0>(at);
    tile_load<1>(at + kTileBytes);
    if constexpr (kTokenTiles == 2) {
      tile_load<2>(at + 2 * kTileBytes);
      tile_load<3>(at + 3 * kTileBytes);
    }
  }
  for (int step = 0; step < n_steps; ++step, x += Terms<kFormat>::kOfX * kTileBytes) {
    BANYAN_UNROLL
    for (int w = 0; w < Terms<kFormat>::kOfWeights; ++w) {
      tile_load<4>(s.panel[w][0] + step * 64, kPanelStride);
      tile_load<5>(s.panel[w][kSide] + step * 64, kPanelStride);
      BANYAN_UNROLL
      for (int term = 0; term < Terms<kFormat>::kOfX - w; ++term) {
        tile_load<6>(x + term * kTileBytes);
        tile_multiply<0, 4, 6>();
        tile_multiply<1, 5, 6>();
        if constexpr (kTokenTiles == 2) {
          tile_load<7>(x + x_stride + term * kTileBytes);
          tile_multiply<2, 4, 7>();
          tile_multiply<3, 5, 7>();
        }
      }
    }
  }
  tile_store<0>(at);
  tile_store<1>(at + kTileBytes);
  if constexpr (kTokenTiles == 2) {
    tile_store<2>(at + 2 * kTileBytes);
    tile_store<3>(at + 3 * kTileBytes);
  }
}

// Sums of one tile, [rows, tokens], to out [tokens, rows].
inline void write_tile(TilesScratch& s, const GemmArgs& a, const float* sums, int64_t row, int64_t token) {
  float* turned = s.tile[0][0];
  transpose(sums, kSide, turned, kSide);
  const int n_rows = static_cast<int>(std::min<int64_t>(kSide, a.w.rows - row)),
            n_tokens = static_cast<int>(std::min<int64_t>(kSide, a.n_tokens - token));
  const Vec bias = a.bias != nullptr ? load_n(a.bias + row, n_rows) : zero();
  for (int t = 0; t < n_tokens; ++t) {
    float* out = a.out + (token + t) * a.w.rows + row;
    Vec value = add(load(turned + t * kSide), bias);
    if (a.accumulate) value = add(load_n(out, n_rows), value);
    store_n(out, value, n_rows);
  }
}

template <DType kFormat> void tiles_task(const TilesJob& job, int index, std::byte* scratch) {
  constexpr int kTermsOfX = Terms<kFormat>::kOfX;
  const TileScope tiles;
  const GemmArgs& a = job.args;
  TilesScratch& s = *reinterpret_cast<TilesScratch*>(scratch);
  const auto row_stride = static_cast<int64_t>(row_bytes(kFormat, a.w.cols));
  const int64_t n_row_tasks = job.n_row_tasks(), first_panel = index % n_row_tasks * job.panels_per_task;
  const int64_t n_panels = std::min(job.panels_per_task, job.n_panels - first_panel);
  const int64_t first_row = first_panel * kPanelRows, n_task_rows = std::min(n_panels * kPanelRows, a.w.rows - first_row);
  const int64_t first_tile = index / n_row_tasks * job.tiles_per_task, n_tiles = std::min(job.tiles_per_task, job.n_tiles - first_tile);
  const int64_t x_stride = job.n_steps * kTermsOfX * kTileBytes;
  const uint8_t* from = static_cast<const uint8_t*>(a.w.data) + first_row * row_stride;
  for (int64_t k = 0; k < a.w.cols; k += kPieceElements) {
    const int64_t n_k = std::min<int64_t>(kPieceElements, a.w.cols - k);
    const int n_steps = static_cast<int>(ceil_div(n_k, kStep));
    for (int64_t panel = 0; panel < n_panels; ++panel) {
      if (job.stream.cancelled()) return;
      const int n_rows = static_cast<int>(std::min<int64_t>(kPanelRows, n_task_rows - panel * kPanelRows));
      unpack_panel<kFormat>(s, from + panel * kPanelRows * row_stride + row_bytes(kFormat, k), row_stride, n_rows, n_k);
      // What is unpacked next: this piece of the next panel, or the next piece of the first; behind the last lies the next task's first.
      const bool is_last = panel + 1 == n_panels;
      const int64_t next_k = is_last ? k + kPieceElements : k;
      const bool is_end = next_k >= a.w.cols;
      const uint8_t* next =
          from + (is_last ? (is_end ? n_task_rows : 0) : (panel + 1) * kPanelRows) * row_stride + (is_end ? 0 : row_bytes(kFormat, next_k));
      const Ahead ahead =
          Ahead{next, row_stride, static_cast<int64_t>(row_bytes(kFormat, n_k)), 0, 0}.part(0, kPanelRows, static_cast<int>(ceil_div(n_tiles, 2)));
      const std::byte* x = job.x + first_tile * x_stride + k / kStep * kTermsOfX * kTileBytes;
      for (int64_t tile = 0; tile < n_tiles; tile += 2, x += 2 * x_stride) {
        const bool is_pair = tile + 1 < n_tiles;
        ahead.ask<static_cast<int>(row_bytes(kFormat, kPieceElements))>(static_cast<int>(tile / 2));
        (is_pair ? multiply_panel<kFormat, 2> : multiply_panel<kFormat, 1>)(s, n_steps, x, x_stride, s.sums[panel][tile][0][0], k == 0);
      }
    }
  }
  for (int64_t tile = 0; tile < n_tiles; ++tile) {
    for (int64_t panel = 0; panel < n_panels; ++panel) {
      for (int row_tile = 0; row_tile < kPanelTiles; ++row_tile) {
        const int64_t row = panel * kPanelRows + row_tile * kSide;
        if (row < n_task_rows) write_tile(s, a, s.sums[panel][tile][row_tile][0], first_row + row, (first_tile + tile) * kSide);
      }
    }
  }
}

// Rounds of as many tokens as the shared memory holds.
template <DType kFormat> void gemm_tiles_of(Stream& stream, const GemmArgs& args) {
  constexpr int kTermsOfX = Terms<kFormat>::kOfX;
  Threads& threads = *static_cast<Threads*>(stream.backend);
  const int64_t n_steps = ceil_div(args.w.cols, kStep);
  const int64_t most_tiles = static_cast<int64_t>(Threads::kSharedBytes) / (n_steps * kTermsOfX * kTileBytes);
  const int64_t n_tiles = ceil_div(args.n_tokens, kSide), n_rounds = ceil_div(n_tiles, most_tiles);
  const int64_t tokens_per_round = ceil_div(n_tiles, n_rounds) * kSide;
  for (int64_t t = 0; t < args.n_tokens && !stream.cancelled(); t += tokens_per_round) {
    GemmArgs round = args;
    round.x += t * args.w.cols;
    round.out += t * args.w.rows;
    round.n_tokens = static_cast<int>(std::min<int64_t>(tokens_per_round, args.n_tokens - t));
    TilesJob job{stream, round, threads.shared(), n_steps, ceil_div(round.n_tokens, kSide), ceil_div(args.w.rows, kPanelRows), 0, 0};
    job.cut(4 * threads.n_threads());
    const Threads::Phase phases[] = {
        phase<TilesJob, tiles_pack_task<kTermsOfX>>(job, job.n_tiles), phase<TilesJob, tiles_task<kFormat>>(job, job.n_tasks())};
    threads.run(phases, 2);
  }
}

constexpr int64_t kTilesCols = 1 << 16;  // beyond it x of some tiles of tokens in three terms would not fit into the shared memory
static_assert(2 * (kTilesCols / kStep) * 3 * kTileBytes <= static_cast<int64_t>(Threads::kSharedBytes));

// False: too few tokens.
template <DType kFormat> bool try_tiles(Stream& stream, const GemmArgs& args) {
  if (args.n_tokens < least_tokens(kFormat)) return false;
  gemm_tiles_of<kFormat>(stream, args);
  return true;
}

inline bool try_tiles(Stream& stream, const GemmArgs& args) {
  if (args.w.rows <= 0 || args.w.cols <= 0 || args.w.cols > kTilesCols) return false;
  switch (args.w.dtype) {
    case DType::kF16: return try_tiles<DType::kF16>(stream, args);
    case DType::kBF16: return try_tiles<DType::kBF16>(stream, args);
    case DType::kQ8_0: return try_tiles<DType::kQ8_0>(stream, args);
    case DType::kQ4_0: return try_tiles<DType::kQ4_0>(stream, args);
    case DType::kQ4_K: return try_tiles<DType::kQ4_K>(stream, args);
    case DType::kQ5_K: return try_tiles<DType::kQ5_K>(stream, args);
    case DType::kQ6_K: return try_tiles<DType::kQ6_K>(stream, args);
    default: return false;
  }
}

inline void gemm_tiles(Stream& stream, const GemmArgs& args) {
  if (!try_tiles(stream, args)) kBase()->gemm(stream, args);
}

inline void gemm_tiles_together(Stream& stream, const GemmArgs* all, int n) {
  if (std::all_of(all, all + n, [](const GemmArgs& a) { return a.n_tokens < least_tokens(a.w.dtype); }))
    return kBase()->gemm_together(stream, all, n);
  for (int i = 0; i < n; ++i) gemm_tiles(stream, all[i]);
}
