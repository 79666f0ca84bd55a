// gemm_few: gemm for few tokens (decoding), by dot products along the rows as they lie in the file; bound by reading the weights.
// One token: each vector of weights is decoded in a register and multiplied at once.
// More: kFewRows rows are decoded piece by piece, and a register tile of rows x tokens multiplies each piece.

// Above this the packing of gemm.inl pays: it costs about as much as multiplying the weights with 16 tokens.
constexpr int kFewTokens = 16;

// ---- one token ----

// The sum of a row of weights times x, in 4 chains of multiply-adds to hide their latency.
struct Dot {
  static constexpr int kChains = kLanes == 1 ? 1 : 4;
  const float* x;
  Vec sums[kChains];

  BANYAN_INLINE explicit Dot(const float* x) : x(x) {
    BANYAN_UNROLL
    for (int c = 0; c < kChains; ++c) sums[c] = zero();
  }
  BANYAN_INLINE void put(int64_t at, int chain, Vec w) { sums[chain % kChains] = fma(w, load(x + at), sums[chain % kChains]); }
  BANYAN_INLINE void put_n(int64_t at, Vec w, int n) { sums[0] = fma(w, load_n(x + at, n), sums[0]); }
  BANYAN_INLINE float sum() const {
    Vec total = sums[0];
    BANYAN_UNROLL
    for (int c = 1; c < kChains; ++c) total = add(total, sums[c]);
    return reduce_add(total);
  }
};

template <DType kFormat>
float dot_row(const uint8_t* row, int64_t n_k, const float* x) {
  Dot dot(x);
  decode_row<kFormat>(row, n_k, dot);
  return dot.sum();
}

using DotRow = float (*)(const uint8_t* row, int64_t n_k, const float* x);

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

BANYAN_INLINE void write_sum(const GemmArgs& a, int64_t t, int64_t row, float sum) {
  float& out = a.out[t * a.w.rows + row];
  out = (a.accumulate ? out : 0.0f) + sum + (a.bias != nullptr ? a.bias[row] : 0.0f);
}

BANYAN_INLINE const uint8_t* weight_row(const WeightView& w, int64_t row) {
  return static_cast<const uint8_t*>(w.data) + static_cast<size_t>(row) * row_bytes(w.dtype, w.cols);
}

inline void gemm_one_task(const RowsJob<GemmArgs>& job, int index, std::byte*) {
  const GemmArgs& a = job.args;
  const DotRow dot_row = dot_row_of(a.w.dtype);
  for (int64_t row = job.begin(index); row < job.end(index); ++row) write_sum(a, 0, row, dot_row(weight_row(a.w, row), a.w.cols, a.x));
}

// ---- up to kFewTokens ----

constexpr int kFewRows = 4;
constexpr int kFewTileTokens = kTileRows >= 12 ? 4 : 2;  // 4 x 4 sums where there are 32 registers, 4 x 2 where there are 16
constexpr int kFewDepth = 4096;  // long pieces: short ones would hop between rows faster than the memory's prefetchers follow; whole K-quant blocks

constexpr int kFewStride = kFewDepth + 48;  // rows a power of two apart would fight for the same cache sets

struct FewScratch {
  alignas(64) float rows[kFewRows * kFewStride];           // decoded, zero up to whole vectors
  alignas(64) float sums[kFewTokens * kFewRows * kLanes];  // one vector per token and row
};
static_assert(sizeof(FewScratch) <= Threads::kScratchBytes);

// Decodes a piece of a row and pads it with zeros. The hardware's prefetchers fall behind while results are stored, so the weights are asked for
// kFewAhead bytes early: some 300 ns at full speed, more than the latency of the memory.
inline void decode_ahead(Decode decode, DType dtype, const uint8_t* piece, int n_k, float* to) {
  constexpr int kChunk = 256;
  constexpr size_t kFewAhead = 16384;
  for (int k = 0; k < n_k; k += kChunk) {
    const int n = std::min(kChunk, n_k - k);
    const size_t n_bytes = row_bytes(dtype, n);
    for (size_t line = 0; line < n_bytes; line += 64) BANYAN_PREFETCH(piece + kFewAhead + line);
    decode(piece, n, to + k);
    piece += n_bytes;
  }
  for (int k = n_k; k < round_up(n_k, kLanes); ++k) to[k] = 0.0f;
}

// sums[t, r] += x[t] . rows[r] over one piece, lane by lane.
template <int kTokens>
void dot_piece(const float* rows, const float* x, int64_t x_stride, int n_k, float* sums) {
  Vec tile[kTokens][kFewRows];
  BANYAN_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BANYAN_UNROLL
    for (int r = 0; r < kFewRows; ++r) tile[t][r] = load(sums + (t * kFewRows + r) * kLanes);
  }
  int k = 0;
  for (; k + kLanes <= n_k; k += kLanes) {
    Vec w[kFewRows];
    BANYAN_UNROLL
    for (int r = 0; r < kFewRows; ++r) w[r] = load(rows + r * kFewStride + k);
    BANYAN_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      const Vec part = load(x + t * x_stride + k);
      BANYAN_UNROLL
      for (int r = 0; r < kFewRows; ++r) tile[t][r] = fma(part, w[r], tile[t][r]);
    }
  }
  if (k < n_k) {
    BANYAN_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      const Vec part = load_n(x + t * x_stride + k, n_k - k);
      BANYAN_UNROLL
      for (int r = 0; r < kFewRows; ++r) tile[t][r] = fma(part, load(rows + r * kFewStride + k), tile[t][r]);
    }
  }
  BANYAN_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BANYAN_UNROLL
    for (int r = 0; r < kFewRows; ++r) store(sums + (t * kFewRows + r) * kLanes, tile[t][r]);
  }
}

using DotPiece = void (*)(const float*, const float*, int64_t, int, float*);
constexpr DotPiece kDotPieces[] = {dot_piece<1>, dot_piece<2>, dot_piece<3>, dot_piece<4>};

inline void gemm_few_task(const RowsJob<GemmArgs>& job, int index, std::byte* scratch) {
  const GemmArgs& a = job.args;
  FewScratch& s = *reinterpret_cast<FewScratch*>(scratch);
  const Decode decode = decoder_of(a.w.dtype);
  for (int64_t row = job.begin(index); row < job.end(index); row += kFewRows) {
    const int n_rows = static_cast<int>(std::min<int64_t>(kFewRows, job.end(index) - row));
    std::memset(s.sums, 0, static_cast<size_t>(a.n_tokens * kFewRows * kLanes) * sizeof(float));
    for (int64_t k = 0; k < a.w.cols; k += kFewDepth) {
      const int n_k = static_cast<int>(std::min<int64_t>(kFewDepth, a.w.cols - k));
      for (int r = 0; r < kFewRows; ++r) {
        const uint8_t* piece = weight_row(a.w, row + std::min(r, n_rows - 1)) + row_bytes(a.w.dtype, k);  // missing rows repeat the last one
        decode_ahead(decode, a.w.dtype, piece, n_k, s.rows + r * kFewStride);
      }
      for (int t = 0; t < a.n_tokens; t += kFewTileTokens) {
        kDotPieces[std::min(kFewTileTokens, a.n_tokens - t) - 1](s.rows, a.x + t * a.w.cols + k, a.w.cols, n_k, s.sums + t * kFewRows * kLanes);
      }
    }
    for (int t = 0; t < a.n_tokens; ++t) {
      for (int r = 0; r < n_rows; ++r) write_sum(a, t, row + r, reduce_add(load(s.sums + (t * kFewRows + r) * kLanes)));
    }
  }
}

inline void gemm_few(Stream& stream, const GemmArgs& args) {
  // 32 KiB of weights a task: some microseconds.
  const int64_t n_bytes = static_cast<int64_t>(row_bytes(args.w.dtype, args.w.cols));
  const RowsJob<GemmArgs> job{stream, args, args.w.rows, round_up(ceil_div(32768, std::max<int64_t>(1, n_bytes)), kFewRows)};
  const int64_t n_tasks = ceil_div(args.w.rows, job.n_per_task);
  if (args.n_tokens == 1) run_tasks<RowsJob<GemmArgs>, gemm_one_task>(job, n_tasks);
  else run_tasks<RowsJob<GemmArgs>, gemm_few_task>(job, n_tasks);
}
