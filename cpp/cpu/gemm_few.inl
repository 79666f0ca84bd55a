// gemm_few: gemm for few tokens (decoding). Each vector of weights is decoded in a register and at once multiplied with up to 4 tokens; the rows of
// weights are read front to back as they lie in the file. Bound by reading the weights. Weights without blocks have a kernel of their own,
// gemm_few_plain.inl.

constexpr int kFewTokens = 10;       // of a block format: above it the packing of gemm.inl pays
constexpr int kFewPlainTokens = 16;  // the same without blocks

// Most rows of a task; rows of a model are so long that it is less.
constexpr int64_t kFewRows = 512;
constexpr int64_t kFewTaskBytes = 128 << 10;  // some 10 microseconds of work; of one token, or two of a block format, a quarter
constexpr int64_t kFewPieceBytes = 24 << 10;  // of x, which stay in a first-level cache of 32 KiB
static_assert(kFewRows * kFewPlainTokens * sizeof(float) <= Threads::kScratchBytes);

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

// out = the sums [rows, T] of rows `begin` and following.
inline void store_sums(const GemmArgs& a, int64_t begin, int64_t end, const float* sums) {
  for (int t = 0; t < a.n_tokens; ++t) {
    for (int64_t row = begin; row < end; ++row) {
      float& out = a.out[t * a.w.rows + row];
      out = (a.accumulate ? out : 0.0f) + sums[(row - begin) * a.n_tokens + t] + (a.bias != nullptr ? a.bias[row] : 0.0f);
    }
  }
}

// One token walks whole rows. More tokens walk the rows in pieces, so that x stays in the first-level cache; the pieces are too short for the
// memory's own prefetchers, so each piece asks for that of the row after next.
inline void few_blocks_task(const FewJob& job, int index, std::byte* scratch) {
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
  store_sums(a, begin, end, sums);
}
