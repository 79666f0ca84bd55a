// gemm_few: gemm for few tokens (decoding). Each vector of weights is decoded in a register and at once multiplied with up to 4 tokens; the rows of
// weights are read front to back as they lie in the file. Bound by reading the weights.

// Above this the packing of gemm.inl pays.
constexpr int kFewTokens = 10;

// Most rows of a task; rows of a model are so long that it is less.
constexpr int64_t kFewRows = 512;
static_assert(kFewRows * kFewTokens * sizeof(float) <= Threads::kScratchBytes);

// The sums of one row of weights times kTokens rows of x. At least 4 chains of multiply-adds hide their latency.
template <int kTokens> struct Dot {
  static constexpr int kChains = kLanes == 1 || kTokens >= 4 ? 1 : 4 / kTokens;
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

template <DType kFormat, int kTokens> void dot(const uint8_t* row, int64_t n_k, const float* x, int64_t x_stride, float* sums) {
  Dot<kTokens> sink(x, x_stride);
  decode_row<kFormat>(row, n_k, sink);
  BANYAN_UNROLL
  for (int t = 0; t < kTokens; ++t) sums[t] = sink.sum(t);
}

// sums[0 .. n_tokens) of one row; it stays in the first-level cache for all groups of 4, 2 and 1 tokens.
template <DType kFormat> void dot_row(const uint8_t* row, int64_t n_k, const float* x, int64_t x_stride, int n_tokens, float* sums) {
  int t = 0;
  for (; t + 4 <= n_tokens; t += 4) dot<kFormat, 4>(row, n_k, x + t * x_stride, x_stride, sums + t);
  for (; t + 2 <= n_tokens; t += 2) dot<kFormat, 2>(row, n_k, x + t * x_stride, x_stride, sums + t);
  for (; t < n_tokens; ++t) dot<kFormat, 1>(row, n_k, x + t * x_stride, x_stride, sums + t);
}

using DotRow = void (*)(const uint8_t* row, int64_t n_k, const float* x, int64_t x_stride, int n_tokens, float* sums);

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

struct FewJob {
  const Stream& stream;
  const GemmArgs& args;
  float* x;  // [T, x_stride], memory that the phases share; args.x itself for one token
  int64_t x_stride;
  int64_t n_per_task;
  int64_t depth;  // elements of a row that meet all tokens at once
};

inline void spread_task(const FewJob& job, int t, std::byte*) {
  std::memcpy(job.x + t * job.x_stride, job.args.x + t * job.args.w.cols, static_cast<size_t>(job.args.w.cols) * sizeof(float));
}

// One token walks whole rows. More tokens walk the rows in pieces, so that x stays in the first-level cache; the pieces are too short for the
// memory's own prefetchers, so each piece asks for that of the row after next.
inline void gemm_few_task(const FewJob& job, int index, std::byte* scratch) {
  const GemmArgs& a = job.args;
  const DotRow dot_row = dot_row_of(a.w.dtype);
  const size_t n_bytes = row_bytes(a.w.dtype, a.w.cols);
  const int64_t begin = index * job.n_per_task, end = std::min(a.w.rows, begin + job.n_per_task);
  float* sums = reinterpret_cast<float*>(scratch);  // [rows, T]
  std::memset(sums, 0, static_cast<size_t>((end - begin) * a.n_tokens) * sizeof(float));
  for (int64_t k = 0; k < a.w.cols; k += job.depth) {
    const int64_t n_k = std::min(job.depth, a.w.cols - k);
    const uint8_t* piece = static_cast<const uint8_t*>(a.w.data) + static_cast<size_t>(begin) * n_bytes + row_bytes(a.w.dtype, k);
    for (int64_t row = begin; row < end; ++row, piece += n_bytes) {
      if (a.n_tokens > 2) {
        for (size_t line = 0; line < row_bytes(a.w.dtype, n_k); line += 64) BANYAN_PREFETCH(piece + 2 * n_bytes + line);
      }
      float parts[kFewTokens];
      dot_row(piece, n_k, job.x + k, job.x_stride, a.n_tokens, parts);
      for (int t = 0; t < a.n_tokens; ++t) sums[(row - begin) * a.n_tokens + t] += parts[t];
    }
  }
  for (int t = 0; t < a.n_tokens; ++t) {
    for (int64_t row = begin; row < end; ++row) {
      float& out = a.out[t * a.w.rows + row];
      out = (a.accumulate ? out : 0.0f) + sums[(row - begin) * a.n_tokens + t] + (a.bias != nullptr ? a.bias[row] : 0.0f);
    }
  }
}

// Rows of x whose distance is a multiple of 4 KiB, as model dims are, would all map to the same sets of the first-level cache: they are copied
// to rows of an odd number of cache lines.
inline void gemm_few(Stream& stream, const GemmArgs& a) {
  Threads& threads = *static_cast<Threads*>(stream.backend);
  const int64_t n_bytes = static_cast<int64_t>(row_bytes(a.w.dtype, a.w.cols));
  const int64_t task_bytes = a.n_tokens > 2 ? 128 << 10 : 32 << 10;  // some 10 microseconds of work
  const int64_t n_per_task = std::clamp<int64_t>(task_bytes / std::max<int64_t>(1, n_bytes), 1, kFewRows);
  FewJob job{stream, a, const_cast<float*>(a.x), a.w.cols, n_per_task, a.w.cols};
  if (a.n_tokens > 2) job.depth = std::max<int64_t>(256, 4096 / a.n_tokens / 256 * 256);  // 16 KiB of x, whole K-quant blocks
  const int64_t odd_stride = (round_up(a.w.cols, 16) / 16 | 1) * 16;
  const int64_t spread_bytes = a.n_tokens * odd_stride * static_cast<int64_t>(sizeof(float));
  const bool is_spread = a.n_tokens > 1 && spread_bytes <= static_cast<int64_t>(Threads::kSharedBytes);
  if (is_spread) {
    job.x = reinterpret_cast<float*>(threads.shared());
    job.x_stride = odd_stride;
  }
  const Threads::Phase phases[] = {phase<FewJob, spread_task>(job, a.n_tokens), phase<FewJob, gemm_few_task>(job, ceil_div(a.w.rows, n_per_task))};
  threads.run(is_spread ? phases : phases + 1, is_spread ? 2 : 1);
}
