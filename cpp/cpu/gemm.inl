// gemm: out[T, N] (+)= x[T, K] w[N, K]^T + bias, weights in their file's format, everything else float.
// Few tokens: each row is decoded in registers and multiplied at once; bound by the reading of the weights.
// Many tokens: a panel of weights is decoded and transposed once (multiply.inl's packing) and meets all tokens; bound by multiply-adds.

// Dot products beat the panel up to 8 tokens: the panel's transposition costs about as much as 8 multiplications of it.
constexpr int kDotTokens = 8;

// ---- few tokens ----

// The sums of kTokens rows of x with one row of weights. At least 4 chains of multiply-adds run side by side.
template <int kTokens>
struct Dot {
  static constexpr int kChains = kLanes == 1 ? 1 : kTokens >= 4 ? 1 : 4 / kTokens;
  const float* x;
  int64_t x_stride;
  Vec sums[kTokens][kChains];

  BANYAN_INLINE Dot(const float* x, int64_t x_stride) : x(x), x_stride(x_stride) {
    BANYAN_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      BANYAN_UNROLL
      for (int c = 0; c < kChains; ++c) sums[t][c] = zero();
    }
  }
  BANYAN_INLINE void put(int64_t at, int chain, Vec w) {
    BANYAN_UNROLL
    for (int t = 0; t < kTokens; ++t) sums[t][chain % kChains] = fma(w, load(x + t * x_stride + at), sums[t][chain % kChains]);
  }
  BANYAN_INLINE void put_n(int64_t at, Vec w, int n) {
    BANYAN_UNROLL
    for (int t = 0; t < kTokens; ++t) sums[t][0] = fma(w, load_n(x + t * x_stride + at, n), sums[t][0]);
  }
  BANYAN_INLINE float sum(int t) const {
    Vec total = sums[t][0];
    BANYAN_UNROLL
    for (int c = 1; c < kChains; ++c) total = add(total, sums[t][c]);
    return reduce_add(total);
  }
};

template <DType kFormat, int kTokens>
void dot(const uint8_t* row, int64_t n_k, const float* x, int64_t x_stride, float* sums) {
  Dot<kTokens> sink(x, x_stride);
  decode_row<kFormat>(row, n_k, sink);
  BANYAN_UNROLL
  for (int t = 0; t < kTokens; ++t) sums[t] = sink.sum(t);
}

// sums[0..n_tokens) of one row; tokens in groups of 4, 2 and 1, the row staying in the first-level cache.
template <DType kFormat>
void dot_row(const uint8_t* row, int64_t n_k, const float* x, int n_tokens, float* sums) {
  int t = 0;
  for (; t + 4 <= n_tokens; t += 4) dot<kFormat, 4>(row, n_k, x + t * n_k, n_k, sums + t);
  if (t + 2 <= n_tokens) { dot<kFormat, 2>(row, n_k, x + t * n_k, n_k, sums + t); t += 2; }
  if (t < n_tokens) dot<kFormat, 1>(row, n_k, x + t * n_k, n_k, sums + t);
}

using DotRow = void (*)(const uint8_t* row, int64_t n_k, const float* x, int n_tokens, float* sums);

inline DotRow dot_row_of(DType dtype) {
  switch (dtype) {
    case DType::kF32: return dot_row<DType::kF32>;
    case DType::kF16: return dot_row<DType::kF16>;
    case DType::kBF16: return dot_row<DType::kBF16>;
    case DType::kQ8_0: return dot_row<DType::kQ8_0>;
    case DType::kQ4_0: return dot_row<DType::kQ4_0>;
    case DType::kQ4_K: return dot_row<DType::kQ4_K>;
    case DType::kQ5_K: return dot_row<DType::kQ5_K>;
    case DType::kQ6_K: return dot_row<DType::kQ6_K>;
    default: return nullptr;
  }
}

inline void gemm_dot_task(const RowsJob<GemmArgs>& job, int index, std::byte*) {
  const GemmArgs& a = job.args;
  const DotRow dot_row = dot_row_of(a.w.dtype);
  const size_t n_bytes = row_bytes(a.w.dtype, a.w.cols);
  for (int64_t row = job.begin(index); row < job.end(index); ++row) {
    float sums[kDotTokens];
    dot_row(static_cast<const uint8_t*>(a.w.data) + static_cast<size_t>(row) * n_bytes, a.w.cols, a.x, a.n_tokens, sums);
    const float bias = a.bias != nullptr ? a.bias[row] : 0.0f;
    for (int t = 0; t < a.n_tokens; ++t) {
      float& out = a.out[t * a.w.rows + row];
      out = (a.accumulate ? out : 0.0f) + sums[t] + bias;
    }
  }
}

// ---- many tokens ----

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
  alignas(64) float panel[kPanelRows * kPanelDepth];   // packed
  alignas(64) float rows[kLanes * kPanelDepth];        // decoded, before the transposition
  alignas(64) float x[kPanelTokens * kPanelDepth];     // contiguous: rows of x a power of two apart would fight for the same cache sets
};
static_assert(sizeof(GemmScratch) <= Threads::kScratchBytes);

// Packs n_rows x n_k weights from row `row` and element k on. Rows up to the next kTileCols are zero.
inline void pack_panel(GemmScratch& s, Decode decode, const WeightView& w, int64_t row, int n_rows, int64_t k, int n_k) {
  const size_t n_bytes = row_bytes(w.dtype, w.cols);
  const uint8_t* from = static_cast<const uint8_t*>(w.data) + static_cast<size_t>(row) * n_bytes + row_bytes(w.dtype, k);
  const int n_k_padded = static_cast<int>(round_up(n_k, kLanes));
  for (int r = 0; r < round_up(n_rows, kTileCols); r += kLanes) {
    for (int i = 0; i < kLanes; ++i) {
      float* to = s.rows + i * kPanelDepth;
      if (r + i < n_rows) decode(from + static_cast<size_t>(r + i) * n_bytes, n_k, to);
      else std::memset(to, 0, static_cast<size_t>(n_k) * sizeof(float));
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

inline void gemm(Stream& stream, const GemmArgs& args) {
  if (args.n_tokens <= 0 || args.w.rows <= 0) return;
  if (args.n_tokens <= kDotTokens) {
    // 32 KiB of weights a task: some microseconds, and the row stays in the first-level cache for further tokens.
    const int64_t n_bytes = static_cast<int64_t>(row_bytes(args.w.dtype, args.w.cols));
    const RowsJob<GemmArgs> job{stream, args, args.w.rows, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, n_bytes))};
    run_tasks<RowsJob<GemmArgs>, gemm_dot_task>(job, ceil_div(args.w.rows, job.n_per_task));
    return;
  }
  // Few panels: the tokens are cut too, until there are 4 tasks a thread; each cut decodes the panel again, hence at least 2 rounds of tokens.
  GemmJob job{stream, args, ceil_div(args.w.rows, kPanelRows), 0};
  const int64_t wanted = ceil_div(4 * static_cast<Threads*>(stream.backend)->n_threads(), job.n_panels);
  job.tokens_per_task = std::max<int64_t>(2 * kPanelTokens, round_up(ceil_div(args.n_tokens, wanted), kPanelTokens));
  run_tasks<GemmJob, gemm_panel_task>(job, job.n_panels * ceil_div(args.n_tokens, job.tokens_per_task));
}
