// gemm_few_plain: gemm of weights without blocks (F32, F16, BF16) for few tokens. A tile of rows meets a group of tokens in registers, so that a vector
// of weights is converted once for the group and a vector of x is loaded once for the rows. While a task's weights are multiplied, those of the next
// task are asked for in the order of their addresses: memory then sees one reader that never waits for the multiplying. One token walks row after row,
// which is that order already.

constexpr bool kHas32Registers = kTileRows == 12;
constexpr int kGroupTokens = kHas32Registers ? 8 : 4;  // 8 tokens x 2 rows or 4 x 4: 16 sums of the 32 registers; 4 x 2: 8 of 16
constexpr int kMostRows = kHas32Registers ? 4 : 2;     // at once
constexpr int rows_at_once(int n_tokens) { return n_tokens <= 2 ? 1 : n_tokens <= 4 ? kMostRows : 2; }
// Bytes. One token asks for what lies so far ahead, and for what lies near, from the second-level cache into the first (gemm_int8_few.inl). Where x fills a
// first-level cache of 32 KiB it comes from the second in every row, and weights asked for no more than a page ahead come a third slower; two pages
// more keep the distance within a page, on which the sets of the first level depend.
constexpr int64_t kFewAhead = 3136;
constexpr int64_t kFewAheadWide = kFewAhead + 2 * 4096;
constexpr int64_t kFewNear = 1344;
// More ask for the next task's weights from so far before them: the lines of a round, 256 bytes, then are of two blocks of 256, which come up to a fifth faster.
constexpr int64_t kFewEarlier = 128;

// The first kLanes elements, or n of them.
template <DType kFormat> BANYAN_INLINE Vec load_plain(const uint8_t* at) {
  if constexpr (kFormat == DType::kF32) return load(at);
  else if constexpr (kFormat == DType::kF16) return load_f16(at);
  else return load_bf16(at);
}
template <DType kFormat> BANYAN_INLINE Vec load_plain_n(const uint8_t* at, int n) {
  if constexpr (kFormat == DType::kF32) return load_n(at, n);
  else if constexpr (kFormat == DType::kF16) return load_f16_n(at, n);
  else return load_bf16_n(at, n);
}

// sums[r, t] += n_k elements of row r times those of token t; rows of sums are `n_tokens` apart. As many bytes as are read are asked for at `next`.
template <DType kFormat, int kTokens, int kRows>
void dot_tile(const uint8_t* w, int64_t w_stride, int64_t n_k, const float* x, int64_t x_stride, const uint8_t* next, float* sums, int n_tokens) {
  constexpr int kBytes = traits(kFormat).block_bytes;
  constexpr int kSteps =
      kLanes >= 16 && (kTokens == 1 || kRows > 1) ? 2 : 4;  // of a round, which reads whole cache lines; 16 bits and one token: one
  constexpr int kRoundBytes = kSteps * kLanes * kRows * kBytes;
  constexpr int kChains = std::clamp(8 / (kTokens * kRows), 1, kSteps);  // 2 multiply-adds a cycle with a latency of 4 need 8 chains
  Vec dots[kChains][kRows][kTokens];
  BANYAN_UNROLL
  for (int c = 0; c < kChains; ++c) {
    BANYAN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      BANYAN_UNROLL
      for (int t = 0; t < kTokens; ++t) dots[c][r][t] = zero();
    }
  }
  int64_t k = 0;
  for (; k + kSteps * kLanes <= n_k; k += kSteps * kLanes, next += kRoundBytes) {
    BANYAN_UNROLL
    for (int b = 0; b + 64 <= kRoundBytes; b += 64) BANYAN_PREFETCH(next + b);
    if constexpr (kTokens == 1 && kRows == 1) {
      BANYAN_UNROLL
      for (int b = 0; b + 64 <= kRoundBytes; b += 64) BANYAN_PREFETCH_NEAR(w + k * kBytes + kFewNear + b);
    }
    BANYAN_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      const int64_t at = k + step * kLanes;
      Vec row[kRows];
      BANYAN_UNROLL
      for (int r = 0; r < kRows; ++r) row[r] = load_plain<kFormat>(w + r * w_stride + at * kBytes);
      BANYAN_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        const Vec part = load(x + t * x_stride + at);
        BANYAN_UNROLL
        for (int r = 0; r < kRows; ++r) dots[step % kChains][r][t] = fma(row[r], part, dots[step % kChains][r][t]);
      }
    }
  }
  for (; k < n_k; k += kLanes) {
    const int n = static_cast<int>(std::min<int64_t>(kLanes, n_k - k));
    BANYAN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const uint8_t* from = w + r * w_stride + k * kBytes;
      const Vec row = n == kLanes ? load_plain<kFormat>(from) : load_plain_n<kFormat>(from, n);
      BANYAN_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        const float* part = x + t * x_stride + k;
        dots[0][r][t] = fma(row, n == kLanes ? load(part) : load_n(part, n), dots[0][r][t]);
      }
    }
  }
  BANYAN_UNROLL
  for (int r = 0; r < kRows; ++r) {
    BANYAN_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      Vec total = dots[0][r][t];
      BANYAN_UNROLL
      for (int c = 1; c < kChains; ++c) total = add(total, dots[c][r][t]);
      sums[r * n_tokens + t] += reduce_add(total);
    }
  }
}

using DotTile = void (*)(
    const uint8_t* w, int64_t w_stride, int64_t n_k, const float* x, int64_t x_stride, const uint8_t* next, float* sums, int n_tokens);

template <DType kFormat, int kTokens> DotTile dot_tile_of_rows(int n_rows) {
  if (n_rows == 1) return dot_tile<kFormat, kTokens, 1>;
  if (n_rows == 2) return dot_tile<kFormat, kTokens, 2>;
  if constexpr (kTokens <= 4) return dot_tile<kFormat, kTokens, kMostRows>;
  return nullptr;
}

template <DType kFormat> DotTile dot_tile_of(int n_tokens, int n_rows) {
  switch (n_tokens) {
    case 1: return dot_tile_of_rows<kFormat, 1>(n_rows);
    case 2: return dot_tile_of_rows<kFormat, 2>(n_rows);
    case 3: return dot_tile_of_rows<kFormat, 3>(n_rows);
    case 4: return dot_tile_of_rows<kFormat, 4>(n_rows);
    default: break;
  }
  if constexpr (kGroupTokens == 8) {
    switch (n_tokens) {
      case 5: return dot_tile_of_rows<kFormat, 5>(n_rows);
      case 6: return dot_tile_of_rows<kFormat, 6>(n_rows);
      case 7: return dot_tile_of_rows<kFormat, 7>(n_rows);
      default: return dot_tile_of_rows<kFormat, 8>(n_rows);
    }
  }
  return nullptr;
}

template <DType kFormat> void few_plain_task(const FewJob& job, int index, std::byte* scratch) {
  const GemmArgs& a = job.args;
  const auto n_bytes = static_cast<int64_t>(row_bytes(kFormat, a.w.cols));
  const int64_t begin = index * job.n_per_task, end = std::min(a.w.rows, begin + job.n_per_task);
  const auto* weights = static_cast<const uint8_t*>(a.w.data);
  const int n_groups = static_cast<int>(ceil_div(a.n_tokens, kGroupTokens)), n_each = static_cast<int>(ceil_div(a.n_tokens, n_groups));
  float* sums = reinterpret_cast<float*>(scratch);  // [rows, T]
  std::memset(sums, 0, static_cast<size_t>((end - begin) * a.n_tokens) * sizeof(float));
  const bool is_wide = a.w.cols * static_cast<int64_t>(sizeof(float)) > kFewPieceBytes;
  const uint8_t* next = weights + end * n_bytes - kFewEarlier;  // of the last task: beyond the weights, where asking does nothing
  for (int64_t k = 0; k < a.w.cols; k += job.depth) {
    const int64_t n_k = std::min(job.depth, a.w.cols - k), piece_bytes = static_cast<int64_t>(row_bytes(kFormat, n_k));
    int n_rows = 0;
    for (int64_t row = begin; row < end; row += n_rows, next += n_rows * piece_bytes) {
      n_rows = end - row >= rows_at_once(n_each) ? rows_at_once(n_each) : 1;
      const uint8_t* piece = weights + row * n_bytes + static_cast<int64_t>(row_bytes(kFormat, k));
      for (int t = 0; t < a.n_tokens; t += n_each) {
        const int n_tokens = std::min(n_each, a.n_tokens - t);
        const uint8_t* ahead = a.n_tokens == 1 ? piece + (is_wide ? kFewAheadWide : kFewAhead) : t == 0 ? next : piece;
        dot_tile_of<kFormat>(n_tokens, n_rows)(
            piece, n_bytes, n_k, job.x + t * job.x_stride + k, job.x_stride, ahead, sums + (row - begin) * a.n_tokens + t, a.n_tokens);
      }
    }
  }
  store_sums(a, begin, end, sums);
}
