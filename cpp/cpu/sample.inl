// sample: a token out of each row of logits. A row is one task. Its highest logit is found block by block; what follows looks at the blocks that can
// hold a kept token only, and finds cuts by the digits of a key that sorts as logits do, so nothing is sorted or copied.

constexpr int kSampleBlock = 64;              // logits whose highest one is remembered: of 128 K one in each of 2 K
constexpr int kSampleDigits[] = {21, 10, 0};  // where the digits of a key begin: 11, 11 and 10 bits
constexpr int kSampleBins = 1 << 11;

// 2^40 e^x for x <= 0, which is 0 once cut to the whole part if x is NaN or -infinity; within 2 ulp. As exp_bounded, but never with fused operations:
// cuda/sample.cu does the same ones in the same order, and so does a machine without them.
BANYAN_INLINE Vec sample_weight(Vec x) {
  const Vec clamped = max_number(x, broadcast(-29.0f));  // 2^40 e^-29 is 0.28
  const Vec n = round_to_even(mul(clamped, broadcast(1.44269504f)));
  Vec r = sub(clamped, mul(n, broadcast(0.693359375f)));
  r = sub(r, mul(n, broadcast(-2.12194440e-4f)));
  constexpr float kSeries[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  Vec p = broadcast(1.0f / 5040);
  BANYAN_UNROLL
  for (int i = 0; i < 7; ++i) p = add(mul(p, r), broadcast(kSeries[i]));
  return times_power_of_two(p, add(n, broadcast(40.0f)));
}

BANYAN_INLINE uint64_t whole_part(float weight) { return static_cast<uint64_t>(static_cast<int64_t>(weight)); }

// Keys sort as numbers do; both zeros have the same.
BANYAN_INLINE uint32_t sample_key(float x) {
  x += 0.0f;
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
BANYAN_INLINE float sample_number(uint32_t key) {
  const uint32_t bits = (key >> 31) != 0 ? key & 0x7fffffffu : ~key;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// The tokens above `bound` and the first n_at_bound of those at it.
struct SampleKept {
  float bound;
  int64_t n_at_bound;
};

struct SampledRow {
  const float* logits;
  int n;
  float highest, scale;
  float* block_highest;  // of each block
  float* weights;        // of one block
  uint64_t* bins;        // one digit's

  int n_blocks() const { return static_cast<int>(ceil_div(n, kSampleBlock)); }
};

inline int32_t first_at(const SampledRow& row, float logit) {
  int i = 0;
  while (row.block_highest[i / kSampleBlock] != logit) i += kSampleBlock;
  while (row.logits[i] != logit) ++i;
  return i;
}

// Calls f(id, logit, weight) for the kept tokens of at least `lowest`, in the order of ids, until it returns false. Without kIsWeight the weight is 1.
template <bool kIsWeight, class F> BANYAN_INLINE void each_kept(const SampledRow& row, const SampleKept& kept, float lowest, F&& f) {
  const Vec highest = broadcast(row.highest), scale = broadcast(row.scale);
  int64_t n_left = kept.n_at_bound;
  for (int block = 0; block < row.n_blocks(); ++block) {
    if (row.block_highest[block] < lowest) continue;
    const int first = block * kSampleBlock, n = std::min(kSampleBlock, row.n - first);
    const float* x = row.logits + first;
    for (int i = 0; kIsWeight && i < n; i += kLanes) {
      const Vec part = n - i >= kLanes ? load(x + i) : load_n(x + i, n - i);
      store(row.weights + i, sample_weight(mul(sub(part, highest), scale)));
    }
    for (int i = 0; i < n; ++i) {
      if (!(x[i] >= lowest) || (x[i] == kept.bound && n_left-- <= 0)) continue;
      if (!f(first + i, x[i], kIsWeight ? whole_part(row.weights[i]) : 1)) return;
    }
  }
}

// The fewest kept tokens, by logit and then by id, that are `need` in number or in weight; all of them if that is not enough.
template <bool kIsWeight> SampleKept fewest(const SampledRow& row, const SampleKept& kept, uint64_t need) {
  float lowest = kept.bound;
  uint32_t key = 0;  // the leading digits of the last token's
  int known = 32;
  for (const int shift : kSampleDigits) {
    const int n_bits = known - shift;
    const uint32_t last = (1u << n_bits) - 1u;
    std::memset(row.bins, 0, kSampleBins * sizeof *row.bins);
    each_kept<kIsWeight>(row, kept, lowest, [&](int, float logit, uint64_t weight) {
      const uint32_t digits = sample_key(logit) >> shift;
      if (digits >> n_bits == key) row.bins[digits & last] += weight;
      return true;
    });
    uint32_t digit = last;
    for (; row.bins[digit] < need; --digit) {
      need -= row.bins[digit];
      if (digit == 0) return kept;
    }
    key = key << n_bits | digit;
    known = shift;
    lowest = std::max(lowest, sample_number(key << shift));
  }
  if (!kIsWeight) return {lowest, static_cast<int64_t>(need)};
  store(row.weights, sample_weight(broadcast((lowest - row.highest) * row.scale)));
  const uint64_t each = whole_part(row.weights[0]);
  return {lowest, static_cast<int64_t>((need + each - 1) / each)};
}

inline uint64_t total_weight(const SampledRow& row, const SampleKept& kept) {
  uint64_t total = 0;
  each_kept<true>(row, kept, kept.bound, [&](int, float, uint64_t weight) {
    total += weight;
    return true;
  });
  return total;
}

inline int32_t draw_token(const SampledRow& row, const SampleRow& how) {
  SampleKept kept{std::max(-std::numeric_limits<float>::max(), row.highest + how.reach), row.n};
  if (how.top_k > 0 && how.top_k < row.n) {
    if (const int n_blocks = row.n_blocks(); how.top_k <= n_blocks) {  // so many blocks have a token of at least this
      float* sorted = row.block_highest + n_blocks;
      std::copy(row.block_highest, sorted, sorted);
      std::nth_element(sorted, sorted + how.top_k - 1, sorted + n_blocks, std::greater<float>());
      kept.bound = std::max(kept.bound, sorted[how.top_k - 1]);
    }
    kept = fewest<false>(row, kept, static_cast<uint64_t>(how.top_k));
  }
  uint64_t total = total_weight(row, kept);
  if (how.top_p < 1.0f) {
    const double need = std::ceil(static_cast<double>(how.top_p) * static_cast<double>(total));
    kept = fewest<true>(row, kept, std::max<uint64_t>(1, static_cast<uint64_t>(need)));
    total = total_weight(row, kept);
  }
  const uint64_t target = std::min(static_cast<uint64_t>(how.draw * static_cast<double>(total)), total - 1);
  int32_t chosen = first_at(row, row.highest);
  uint64_t sum = 0;
  each_kept<true>(row, kept, kept.bound, [&](int id, float, uint64_t weight) {
    sum += weight;
    if (sum <= target) return true;
    chosen = id;
    return false;
  });
  return chosen;
}

inline void sample_task(const RowsJob<SampleArgs>& job, int index, std::byte* scratch) {
  const SampleArgs& a = job.args;
  const SampleRow& how = a.rows[index];
  float* logits = a.logits + int64_t{index} * a.vocab_size;
  for (int i = 0; i < how.n_edits; ++i) {
    const LogitEdit& edit = a.edits[how.first_edit + i];
    const float x = logits[edit.id] + edit.bias;
    logits[edit.id] = (x > 0 ? x / edit.repetition : x * edit.repetition) - edit.subtracted;
  }
  constexpr size_t kMaxBlocks = kMaxVocabulary / kSampleBlock;
  struct Memory {
    uint64_t bins[kSampleBins];
    float weights[kSampleBlock], block_highest[2 * kMaxBlocks];
  };
  static_assert(sizeof(Memory) <= Threads::kScratchBytes);
  Memory& memory = *reinterpret_cast<Memory*>(scratch);
  SampledRow row{logits, a.vocab_size, -std::numeric_limits<float>::infinity(), how.scale, memory.block_highest, memory.weights, memory.bins};
  for (int block = 0; block < row.n_blocks(); ++block) {
    const int first = block * kSampleBlock;
    row.block_highest[block] = highest_of(logits + first, std::min(kSampleBlock, row.n - first));
    row.highest = std::max(row.highest, row.block_highest[block]);
  }
  if (row.highest == -std::numeric_limits<float>::infinity()) a.ids[index] = -1;
  else if (std::isinf(how.scale) || std::isinf(row.highest)) a.ids[index] = first_at(row, row.highest);
  else a.ids[index] = draw_token(row, how);
}

inline void sample(Stream& stream, const SampleArgs& args) {
  run_tasks<RowsJob<SampleArgs>, sample_task>({stream, args, args.n_rows, 1}, args.n_rows);
}
