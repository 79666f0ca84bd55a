// gemm_int8_few: gemm of a block format for few tokens (decoding). Rows of weights are read front to back as they lie in the file; a unit is unpacked
// in registers and at once multiplied with all tokens (dot_unit of the variant). Bound by reading the weights.

constexpr int64_t kFewInt8Rows = 512;  // of a task, at most
// Bytes. Far: into the second-level cache. 1024 is a fifth slower and every multiple of 4096 a twentieth, presumably because what is asked for and what is
// read then meet in the same sets of the first. Near: from there into the first, by which 4-bit formats, read with more instructions a byte, gain a twentieth.
constexpr int64_t kFewInt8Ahead = 3648;
constexpr int64_t kFewInt8Near = 1344;
constexpr int kFewInt8NearTokens = 2;  // with more, reading waits for products, and pieces of rows lie apart
// Bytes of x. Whole rows meet x again and again in the first-level cache, so the second does not see that it is used, and weights drive it out of there: the
// lines that the first level drops then come from memory, about one a row. So each task changes halfway to another copy of x, which the second level saw in
// use less than a task ago. Of a smaller x too few lines are dropped to pay for it.
constexpr int64_t kFewInt8TwoCopies = 8 << 10;
static_assert(kFewInt8Rows * kFewInt8Tokens * sizeof(float) <= Threads::kScratchBytes);

// out[t] += w x of n_k elements of one row. What lies `ahead` bytes on is asked for: the memory's own prefetchers keep one core short of what the
// memory gives. A prefetch beyond the end of the weights does nothing.
template <DType kFormat, int kTokens> void dot_units(const uint8_t* w, int64_t n_k, int64_t ahead, const void* x, int64_t x_stride, float* out) {
  using Format = Int8Format<kFormat>;
  constexpr bool kIsNear = kTokens <= kFewInt8NearTokens;
  constexpr int kFarBytes = kIsNear ? (Format::kBytes + 32) / 64 * 64 : Format::kBytes;  // a line missed now and then is asked for when it is near
  const auto* units = static_cast<const Unit<kFormat>*>(x);
  Vec sums[kTokens];
  BANYAN_UNROLL
  for (int t = 0; t < kTokens; ++t) sums[t] = zero();
  for (; n_k >= Format::kElements; n_k -= Format::kElements, w += Format::kBytes, ++units) {
    BANYAN_UNROLL
    for (int b = 0; b < kFarBytes; b += 64) BANYAN_PREFETCH(w + ahead + b);
    if constexpr (kIsNear) {
      BANYAN_UNROLL
      for (int b = 0; b < Format::kBytes; b += 64) BANYAN_PREFETCH_NEAR(w + kFewInt8Near + b);
    }
    dot_unit<kFormat, kTokens>(w, units, x_stride, sums);
  }
  if (n_k > 0) {
    uint8_t rest[Format::kBytes] = {};
    std::memcpy(rest, w, row_bytes(kFormat, n_k));
    dot_unit<kFormat, kTokens>(rest, units, x_stride, sums);
  }
  BANYAN_UNROLL
  for (int t = 0; t < kTokens; ++t) out[t] += reduce_add(sums[t]);
}

using DotUnits = void (*)(const uint8_t* w, int64_t n_k, int64_t ahead, const void* x, int64_t x_stride, float* out);

template <DType kFormat, int... kLess> DotUnits dot_units_of(int n_tokens, std::integer_sequence<int, kLess...>) {
  static constexpr DotUnits kAll[] = {dot_units<kFormat, kLess + 1>...};
  return kAll[n_tokens - 1];
}

struct FewInt8Job {
  const Stream& stream;
  const GemmArgs& args;
  std::byte* x;     // units [copies, T, n_units], memory that the phases share
  int64_t n_units;  // of a token
  int64_t n_per_task;
  int64_t depth;  // units of a row that meet all tokens at once
  int n_copies;
};

template <DType kFormat> void few_int8_quantize_task(const FewInt8Job& job, int index, std::byte*) {
  const GemmArgs& a = job.args;
  quantize_units<kFormat>(a.x + index % a.n_tokens * a.w.cols, a.w.cols, reinterpret_cast<Unit<kFormat>*>(job.x) + index * job.n_units);
}

// Pieces of rows, so that x stays in the first-level cache. One token walks whole rows.
template <DType kFormat> void few_int8_task(const FewInt8Job& job, int index, std::byte* scratch) {
  using Format = Int8Format<kFormat>;
  const GemmArgs& a = job.args;
  const int64_t n_bytes = static_cast<int64_t>(row_bytes(kFormat, a.w.cols));
  const int64_t begin = index * job.n_per_task, end = std::min(a.w.rows, begin + job.n_per_task);
  // Whole rows follow each other in memory; pieces of rows are a row apart.
  const int64_t piece_bytes = job.depth * Format::kBytes;
  const int64_t ahead = job.depth >= job.n_units ? kFewInt8Ahead : ceil_div(kFewInt8Ahead, piece_bytes) * n_bytes;
  const DotUnits dot = dot_units_of<kFormat>(a.n_tokens, std::make_integer_sequence<int, kFewInt8TokensOf<kFormat>>());
  float* sums = reinterpret_cast<float*>(scratch);  // [rows, T]
  std::memset(sums, 0, static_cast<size_t>((end - begin) * a.n_tokens) * sizeof(float));
  for (int64_t u = 0; u < job.n_units; u += job.depth) {
    const int64_t n_k = std::min(job.depth * Format::kElements, a.w.cols - u * Format::kElements);
    const uint8_t* piece = static_cast<const uint8_t*>(a.w.data) + begin * n_bytes + u * Format::kBytes;
    const Unit<kFormat>* x = reinterpret_cast<const Unit<kFormat>*>(job.x) + u;
    int64_t row = begin;
    for (int copy = 1; copy <= job.n_copies; ++copy, x += a.n_tokens * job.n_units) {
      for (const int64_t last = begin + (end - begin) * copy / job.n_copies; row < last; ++row, piece += n_bytes) {
        dot(piece, n_k, ahead, x, job.n_units, sums + (row - begin) * a.n_tokens);
      }
    }
  }
  for (int t = 0; t < a.n_tokens; ++t) {
    for (int64_t row = begin; row < end; ++row) {
      float& out = a.out[t * a.w.rows + row];
      out = (a.accumulate ? out : 0.0f) + sums[(row - begin) * a.n_tokens + t] + (a.bias != nullptr ? a.bias[row] : 0.0f);
    }
  }
}

// all_bytes: of all matrices whose tasks are one phase.
template <DType kFormat> bool plan_int8_few(const Stream& stream, const GemmArgs& a, int64_t all_bytes, std::byte* x, GemmPlan& plan) {
  const int64_t n_units = ceil_div(a.w.cols, Int8Format<kFormat>::kElements), unit_bytes = sizeof(Unit<kFormat>);
  // Four tasks a thread, but long ones: what lies ahead of a task's first rows was asked for by another thread.
  const int n_threads = static_cast<const Threads*>(stream.backend)->n_threads();
  const int64_t task_bytes = std::clamp<int64_t>(all_bytes / (4 * n_threads), 32 << 10, 512 << 10);
  const int64_t n_per_task = std::clamp<int64_t>(task_bytes / static_cast<int64_t>(row_bytes(kFormat, a.w.cols)), 1, kFewInt8Rows);
  FewInt8Job job{stream, a, x, n_units, n_per_task, n_units, 1};
  if (a.n_tokens > 2) job.depth = std::max<int64_t>(4, (28 << 10) / (a.n_tokens * unit_bytes));
  else if (a.n_tokens * n_units * unit_bytes >= kFewInt8TwoCopies) job.n_copies = 2;
  const FewInt8Job& kept = plan.keep(job);
  plan.prepare = phase<FewInt8Job, few_int8_quantize_task<kFormat>>(kept, a.n_tokens * job.n_copies);
  plan.multiply = phase<FewInt8Job, few_int8_task<kFormat>>(kept, ceil_div(a.w.rows, n_per_task));
  plan.x_bytes = job.n_copies * a.n_tokens * n_units * unit_bytes;
  return true;
}
