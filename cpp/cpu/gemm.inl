// gemm: out[T, N] (+)= x[T, K] w[N, K]^T + bias, weights in their file's format, everything else float.
// Few tokens go to gemm_few.inl. Many tokens: a panel of weights is decoded and transposed once, then meets all of them; bound by multiply-adds.

constexpr int kPanelRows = 128;   // x is copied once per panel, 1/128 of the multiply-adds; a multiple of every kTileCols
constexpr int kPanelDepth = 256;  // a whole K-quant block; 128 x 256 floats = 128 KiB, half of the smallest second-level cache
constexpr int kPanelTokens = 48;  // 48 x 256 floats = 48 KiB of x per round; a multiple of every kTileRows
static_assert(kPanelRows % kTileCols == 0 && kPanelTokens % kTileRows == 0);

struct GemmJob {
  const Stream& stream;
  const GemmArgs& args;
  int64_t n_panels, tokens_per_task;
};

struct GemmScratch {
  alignas(64) float panel[kPanelRows * kPanelDepth];  // packed
  alignas(64) float rows[kLanes * kPanelDepth];       // decoded, before the transposition
  alignas(64) float x[kPanelTokens * kPanelDepth];    // contiguous: rows of x a power of two apart would fight for the same cache sets
};
static_assert(sizeof(GemmScratch) <= Threads::kScratchBytes);

// Packs n_rows x n_k weights from row `row` and element k on. Rows up to the next kTileCols are zero.
inline void pack_panel(GemmScratch& s, Decode decode, const WeightView& w, int64_t row, int n_rows, int64_t k, int n_k) {
  const size_t n_bytes = row_bytes(w.dtype, w.cols);
  const uint8_t* from = static_cast<const uint8_t*>(w.data) + static_cast<size_t>(row) * n_bytes + row_bytes(w.dtype, k);
  const size_t piece_bytes = row_bytes(w.dtype, n_k);
  const int n_k_padded = static_cast<int>(round_up(n_k, kLanes));
  for (int r = 0; r < round_up(n_rows, kTileCols); r += kLanes) {
    for (int i = 0; i < kLanes; ++i) {
      float* to = s.rows + i * kPanelDepth;
      if (r + i < n_rows) {
        const uint8_t* piece = from + static_cast<size_t>(r + i) * n_bytes;
        decode(piece, n_k, to);
        // The next panel's piece of this row comes while this panel is multiplied: pieces are too short for the memory's own prefetchers.
        for (size_t line = 0; line < piece_bytes; line += 64) BANYAN_PREFETCH(piece + piece_bytes + line);
      } else {
        std::memset(to, 0, static_cast<size_t>(n_k) * sizeof(float));
      }
      for (int c = n_k; c < n_k_padded; ++c) to[c] = 0.0f;
    }
    float* tile = s.panel + r / kTileCols * kTileCols * kPanelDepth + r % kTileCols;
    for (int c = 0; c < n_k_padded; c += kLanes) transpose(s.rows + c, kPanelDepth, tile + c * kTileCols, kTileCols);
  }
}

// What the sum starts from, where that is neither 0 nor out itself: the bias.
inline void begin_with_bias(const GemmArgs& a, int64_t t_begin, int64_t t_end, int64_t row, int n_rows) {
  for (int64_t t = t_begin; t < t_end; ++t) {
    float* out = a.out + t * a.w.rows + row;
    for (int r = 0; r < n_rows; ++r) out[r] = a.bias[row + r] + (a.accumulate ? out[r] : 0.0f);
  }
}

inline void gemm_panel_task(const GemmJob& job, int index, std::byte* scratch) {
  const GemmArgs& a = job.args;
  GemmScratch& s = *reinterpret_cast<GemmScratch*>(scratch);
  const Decode decode = decoder_of(a.w.dtype);
  const int64_t n_k_all = a.w.cols, n_rows_all = a.w.rows;
  const int64_t row = index % job.n_panels * kPanelRows, t_begin = index / job.n_panels * job.tokens_per_task;
  const int64_t t_end = std::min<int64_t>(a.n_tokens, t_begin + job.tokens_per_task);
  const int n_rows = static_cast<int>(std::min<int64_t>(kPanelRows, n_rows_all - row));
  if (a.bias != nullptr) begin_with_bias(a, t_begin, t_end, row, n_rows);
  for (int64_t k = 0; k < n_k_all; k += kPanelDepth) {
    const int n_k = static_cast<int>(std::min<int64_t>(kPanelDepth, n_k_all - k));
    const bool is_added = k > 0 || a.accumulate || a.bias != nullptr;
    pack_panel(s, decode, a.w, row, n_rows, k, n_k);
    for (int64_t t = t_begin; t < t_end; t += kPanelTokens) {
      if (job.stream.cancelled()) return;
      const int n_tokens = static_cast<int>(std::min<int64_t>(kPanelTokens, t_end - t));
      for (int i = 0; i < n_tokens; ++i) std::memcpy(s.x + i * kPanelDepth, a.x + (t + i) * n_k_all + k, static_cast<size_t>(n_k) * sizeof(float));
      multiply(a.out + t * n_rows_all + row, n_rows_all, s.x, kPanelDepth, n_tokens, s.panel, kTileCols * kPanelDepth, n_k, n_rows, is_added);
    }
  }
}

// Rows of x whose distance is a multiple of 4 KiB, as model dims are, would all map to the same sets of the first-level cache: they are copied
// to rows of an odd number of cache lines.
inline void gemm_few(Stream& stream, const GemmArgs& a) {
  Threads& threads = *static_cast<Threads*>(stream.backend);
  const bool is_plain = traits(a.w.dtype).block_size == 1;
  const auto n_bytes = static_cast<int64_t>(row_bytes(a.w.dtype, a.w.cols));
  const bool is_row_by_row = a.n_tokens <= (is_plain ? 1 : 2);
  const int64_t task_bytes = is_row_by_row ? kFewTaskBytes / 4 : kFewTaskBytes;
  int64_t n_per_task = std::clamp<int64_t>(task_bytes / std::max<int64_t>(1, n_bytes), 1, kFewRows);
  if (n_per_task > kMostRows) n_per_task = n_per_task / kMostRows * kMostRows;
  FewJob job{stream, a, const_cast<float*>(a.x), a.w.cols, n_per_task, a.w.cols};
  const int n_together = is_plain ? std::min(a.n_tokens, kGroupTokens) : a.n_tokens;
  if (!is_row_by_row) job.depth = std::max<int64_t>(256, kFewPieceBytes / 4 / n_together / 256 * 256);  // whole K-quant blocks
  const int64_t odd_stride = (round_up(a.w.cols, 16) / 16 | 1) * 16;
  const int64_t spread_bytes = a.n_tokens * odd_stride * static_cast<int64_t>(sizeof(float));
  const bool is_spread = a.n_tokens > 1 && spread_bytes <= static_cast<int64_t>(Threads::kSharedBytes);
  if (is_spread) {
    job.x = reinterpret_cast<float*>(threads.shared());
    job.x_stride = odd_stride;
  }
  const int64_t n_tasks = ceil_div(a.w.rows, n_per_task);
  const auto work = [&] {
    switch (a.w.dtype) {
      case DType::kF32: return phase<FewJob, few_plain_task<DType::kF32>>(job, n_tasks);
      case DType::kF16: return phase<FewJob, few_plain_task<DType::kF16>>(job, n_tasks);
      case DType::kBF16: return phase<FewJob, few_plain_task<DType::kBF16>>(job, n_tasks);
      default: return phase<FewJob, few_blocks_task>(job, n_tasks);
    }
  };
  const Threads::Phase phases[] = {phase<FewJob, spread_task>(job, a.n_tokens), work()};
  threads.run(is_spread ? phases : phases + 1, is_spread ? 2 : 1);
}

inline void gemm(Stream& stream, const GemmArgs& args) {
  if (args.n_tokens <= 0 || args.w.rows <= 0) return;
  if (args.n_tokens <= (traits(args.w.dtype).block_size == 1 ? kFewPlainTokens : kFewTokens)) return gemm_few(stream, args);
  // Few panels: the tokens are cut too, until there are 4 tasks a thread; each cut decodes the panel again, hence at least 2 rounds of tokens.
  GemmJob job{stream, args, ceil_div(args.w.rows, kPanelRows), 0};
  const int64_t wanted = ceil_div(4 * static_cast<Threads*>(stream.backend)->n_threads(), job.n_panels);
  job.tokens_per_task = std::max<int64_t>(2 * kPanelTokens, round_up(ceil_div(args.n_tokens, wanted), kPanelTokens));
  run_tasks<GemmJob, gemm_panel_task>(job, job.n_panels * ceil_div(args.n_tokens, job.tokens_per_task));
}
