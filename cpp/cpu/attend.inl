// attend: out[t, h] = softmax(scale q[t, h] . k) v over the token's range of keys; flash attention (arXiv 2205.14135, 2307.08691).
// A task is a tile of queries that share one kv head, so that the heads of a group share every key they load. It walks its keys in tiles:
//   scores = q k^T (packed, multiply.inl), online softmax, o = o * correction + p v.
// Few queries over many keys are cut into splits of the keys; the partial states {m, l, o} are merged like a monoid (FlashInfer state.cuh).
// How the keys are cut depends on shapes only, never on the number of threads.

constexpr int kMaxHeadDim = 1024;
constexpr int kQueryRows = 192;     // keys are loaded and transposed once for so many rows (Many::kRows); q, o and scores of 128 dims take 240 KiB
constexpr int kWideHeadDim = 128;   // beyond it
constexpr int kWideQueryRows = 48;  // so many: the scratch memory holds no more
constexpr int kMostHidden = 48;     // keys that a tile may score for nothing, for tokens whose first key comes later
constexpr int kKeyTile = 64;        // at 128 dims, keys and values take 2 x 32 KiB: the second-level cache holds the whole tile
constexpr int kSplitKeys = 512;     // a split of fewer keys would not pay for its merge
constexpr int kMaxSplits = 16;      // each loads and rounds the queries again: with 64, a tenth of the time that one token takes for 16K slots
constexpr int kSplitTasks = 128;    // tasks worth having: two for each of 64 threads
static_assert(kQueryRows % kTileRows == 0 && kWideQueryRows % kTileRows == 0 && kKeyTile % kTileCols == 0);

struct AttendJob {
  const Stream& stream;
  const AttendArgs& args;  // kv_begin and kv_end null: every token sees keys 0 .. n_slots - 1 (inject)
  int n_slots;
  int group;  // query heads per kv head
  int tile_tokens, n_tiles;
  int tile_heads, n_head_tiles;  // heads of a group in one tile: all of them, unless the group is very large
  int joint_heads;  // kv heads in one task: one, or with few queries (attend_few.inl) several; n_head_tiles then counts tasks that share the heads
  int n_splits;
  float* partials;  // [T, H, n_splits, C + 2]: o, m, l; unused with one split

  int64_t begin(int64_t t) const { return args.kv_begin != nullptr ? args.kv_begin[t] : 0; }
  int64_t end(int64_t t) const { return args.kv_end != nullptr ? args.kv_end[t] : n_slots; }
  int64_t partial_floats() const { return args.head_dim + 2; }
};

// The state of one tile, cut from the task's scratch. Row = token * n_heads + head, both counted from the tile's first.
struct QueryTile {
  int64_t first_token;
  int n_tokens, first_head, n_heads, kv_head;
  int64_t padded_dim;  // C rounded up to whole packed columns; room only, what lies beyond whole vectors is never read
  int64_t vector_dim;  // C rounded up to whole vectors
  float* q;            // [rows, C], times scale; room for [rows, padded C]
  float* o;            // [rows, padded C]
  float* m;            // [rows] maximum of the scores so far
  float* l;            // [rows, kLanes] sums of e^(score - m), one for each lane: added up only at the end
  float* scores;       // [rows, kKeyTile]
  float* keys;         // packed [C, kKeyTile]
  float* values;       // packed [kKeyTile, C]
  float* rows;         // [kLanes, padded C], keys before the transposition
  int n_rows() const { return n_tokens * n_heads; }
};

// Rows of a tile, tokens x heads of a group; a multiple of every kTileRows.
template <class Many> int most_rows(int head_dim) { return head_dim <= kWideHeadDim ? Many::kRows : kWideQueryRows; }

inline QueryTile lay_out(const AttendArgs& a, int64_t n_rows, std::byte* scratch) {
  QueryTile tile{};
  tile.padded_dim = round_up(a.head_dim, kTileCols);
  tile.vector_dim = round_up(a.head_dim, kLanes);
  float* at = reinterpret_cast<float*>(scratch);
  const auto take = [&at](int64_t n_floats) {
    float* taken = at;
    at += round_up(n_floats, 16);
    return taken;
  };
  tile.q = take(n_rows * tile.padded_dim);
  tile.o = take(n_rows * tile.padded_dim);
  tile.m = take(n_rows);
  tile.l = take(n_rows * kLanes);
  tile.scores = take(n_rows * kKeyTile);
  tile.keys = take(tile.padded_dim * kKeyTile);
  tile.values = take(tile.padded_dim * kKeyTile);
  tile.rows = take(kLanes * tile.padded_dim);
  return tile;
}
constexpr int tile_floats(int n_rows, int head_dim) {
  return (2 * n_rows + 2 * kKeyTile + kLanes) * head_dim + n_rows * (kKeyTile + 1 + kLanes) + 8 * 16;
}
static_assert(std::max(tile_floats(kQueryRows, kWideHeadDim), tile_floats(kWideQueryRows, kMaxHeadDim)) <=
              static_cast<int>(Threads::kScratchBytes / sizeof(float)));

inline void load_queries(const AttendArgs& a, QueryTile& tile) {
  const Vec scale = broadcast(a.scale);
  for (int row = 0; row < tile.n_rows(); ++row) {
    const int64_t t = tile.first_token + row / tile.n_heads, h = tile.first_head + row % tile.n_heads;
    const float* from = a.q + (t * a.n_heads + h) * a.head_dim;
    float* to = tile.q + int64_t{row} * a.head_dim;
    int c = 0;
    for (; c + kLanes <= a.head_dim; c += kLanes) store(to + c, mul(scale, load(from + c)));
    if (c < a.head_dim) store_n(to + c, mul(scale, load_n(from + c, a.head_dim - c)), a.head_dim - c);
    tile.m[row] = -std::numeric_limits<float>::infinity();
    store(tile.l + row * kLanes, zero());
  }
  std::memset(tile.o, 0, static_cast<size_t>(tile.n_rows() * tile.padded_dim) * sizeof(float));
}

// Where a key or value row lies.
template <DType kFormat> BANYAN_INLINE const uint8_t* find_row(const KvView& kv, const void* side, int64_t n, int kv_head, int head_dim) {
  const uint8_t* row = static_cast<const uint8_t*>(side) + row_bytes(kFormat, n * kv.row_stride + kv_head * kv.head_stride);
  // The row of the next tile comes while this one is worked on: storing what was read, the memory's own prefetchers fall behind.
  const uint8_t* next = row + row_bytes(kFormat, kKeyTile * kv.row_stride);
  for (size_t i = 0; i < row_bytes(kFormat, head_dim); i += 64) BANYAN_PREFETCH(next + i);
  return row;
}

// Hands one key or value row to a sink of dequant.inl.
template <DType kFormat, class Sink>
BANYAN_INLINE void load_row_as(const KvView& kv, const void* side, int64_t n, int kv_head, int head_dim, Sink& sink) {
  decode_row<kFormat>(find_row<kFormat>(kv, side, n, kv_head, head_dim), head_dim, sink);
}
template <class Sink> BANYAN_INLINE void load_row(const KvView& kv, const void* side, int64_t n, int kv_head, int head_dim, Sink sink) {
  switch (kv.dtype) {
    case DType::kQ8_0: return load_row_as<DType::kQ8_0>(kv, side, n, kv_head, head_dim, sink);
    case DType::kF16: return load_row_as<DType::kF16>(kv, side, n, kv_head, head_dim, sink);
    default: return load_row_as<DType::kF32>(kv, side, n, kv_head, head_dim, sink);
  }
}

// Sinks that write whole vectors, so that a short row is followed by zeros.
struct StoreWhole {
  float* out;
  BANYAN_INLINE void put(int64_t at, int, Vec x) { store(out + at, x); }
  BANYAN_INLINE void put_n(int64_t at, Vec x, int) { store(out + at, x); }
};
struct StorePacked {  // into one row of packed tiles of columns
  float* out;
  BANYAN_INLINE void put(int64_t at, int, Vec x) { store(out + at / kTileCols * kTileCols * kKeyTile + at % kTileCols, x); }
  BANYAN_INLINE void put_n(int64_t at, Vec x, int) { put(at, 0, x); }
};

// Keys become columns: packed [C][kTileCols] per kTileCols keys, zero beyond n_keys.
inline void load_keys(const AttendArgs& a, QueryTile& tile, int64_t n, int n_keys) {
  for (int i = 0; i < round_up(n_keys, kTileCols); i += kLanes) {
    for (int j = 0; j < kLanes; ++j) {
      float* to = tile.rows + j * tile.padded_dim;
      if (i + j < n_keys) load_row(a.kv, a.kv.k, n + i + j, tile.kv_head, a.head_dim, StoreWhole{to});
      else std::memset(to, 0, static_cast<size_t>(a.head_dim) * sizeof(float));
    }
    float* packed = tile.keys + i / kTileCols * kTileCols * tile.padded_dim + i % kTileCols;
    for (int64_t c = 0; c < a.head_dim; c += kLanes) transpose(tile.rows + c, tile.padded_dim, packed + c * kTileCols, kTileCols);
  }
}

// Values are columns already: packed [keys][kTileCols] per kTileCols dims.
inline void load_values(const AttendArgs& a, QueryTile& tile, int64_t n, int n_keys) {
  for (int i = 0; i < n_keys; ++i) load_row(a.kv, a.kv.v, n + i, tile.kv_head, a.head_dim, StorePacked{tile.values + i * kTileCols});
}

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Scores of a row, whose highest are these, come next: m, l and o follow. Behind the first keys the maximum hardly ever moves, and then nothing is summed across
// lanes and o stays as it is.
BANYAN_INLINE void raise_maximum(QueryTile& tile, int row, Vec highest) {
  if (!is_any_above(highest, tile.m[row])) return;
  const float m = reduce_max(max(highest, broadcast(tile.m[row])));
  const Vec correction = exp_bounded(broadcast(tile.m[row] - m));
  tile.m[row] = m;
  float *l = tile.l + row * kLanes, *o = tile.o + row * tile.padded_dim;
  store(l, mul(load(l), correction));
  for (int64_t c = 0; c < tile.vector_dim; c += kLanes) store(o + c, mul(load(o + c), correction));
}

// Scores of one row become e^(score - m). Keys [n_hidden, n_visible) of n_keys count.
inline void fold_row(QueryTile& tile, int row, int n_hidden, int n_visible, int n_keys) {
  float *scores = tile.scores + row * kKeyTile, *l = tile.l + row * kLanes;
  const int n_padded = static_cast<int>(round_up(n_keys, kLanes));
  for (int i = 0; i < n_hidden; ++i) scores[i] = kNothing;
  for (int i = n_visible; i < n_padded; ++i) scores[i] = kNothing;
  Vec highest = load(scores);
  for (int i = kLanes; i < n_padded; i += kLanes) highest = max(highest, load(scores + i));
  raise_maximum(tile, row, highest);
  const float m = tile.m[row];
  if (m == kNothing) {  // nothing seen yet: -inf - -inf would be NaN
    std::memset(scores, 0, static_cast<size_t>(n_padded) * sizeof(float));
    return;
  }
  Vec sum = load(l);
  for (int i = 0; i < n_padded; i += kLanes) {
    const Vec p = exp_bounded(sub(load(scores + i), broadcast(m)));
    store(scores + i, p);
    sum = add(sum, p);
  }
  store(l, sum);
}

// Which of keys [n, n + n_keys) the token of a row sees, counted from n.
struct SeenKeys {
  int begin, end;
};
BANYAN_INLINE SeenKeys seen_keys(const AttendJob& job, const QueryTile& tile, int row, int64_t n, int n_keys) {
  const int64_t t = tile.first_token + row / tile.n_heads;
  const auto within = [&](int64_t key) { return static_cast<int>(std::clamp<int64_t>(key - n, 0, n_keys)); };
  return {within(job.begin(t)), within(job.end(t))};
}

inline void fold_rows(const AttendJob& job, QueryTile& tile, int64_t n, int n_keys) {
  for (int row = 0; row < tile.n_rows(); ++row) {
    const SeenKeys seen = seen_keys(job, tile, row, n, n_keys);
    fold_row(tile, row, seen.begin, seen.end, n_keys);
  }
}

// o += the weights of a tile's keys times their values.
inline void add_tile_values(const AttendArgs& a, QueryTile& tile, int64_t n, int n_keys) {
  load_values(a, tile, n, n_keys);
  multiply(tile.o, tile.padded_dim, tile.scores, kKeyTile, tile.n_rows(), tile.values, kTileCols * kKeyTile, n_keys,
      static_cast<int>(tile.vector_dim), true);
}

// How many queries meet their keys, one tile at most: in floats, in words (attend_words.inl) or in bf16 (attend_bf16.inl); slots in tiles meet them in integers
// (attend_tiles.inl).
struct ManyFloats {
  static constexpr int kRows = kQueryRows;               // of a tile
  static void prepare(const AttendArgs&, QueryTile&) {}  // of what load_queries left
  static void fold(const AttendJob& job, QueryTile& tile, int64_t n, int n_keys) {
    const AttendArgs& a = job.args;
    load_keys(a, tile, n, n_keys);
    multiply(tile.scores, kKeyTile, tile.q, a.head_dim, tile.n_rows(), tile.keys, kTileCols * tile.padded_dim, a.head_dim,
        static_cast<int>(round_up(n_keys, kLanes)), false);
    fold_rows(job, tile, n, n_keys);
    add_tile_values(a, tile, n, n_keys);
  }
};

// ln(l e^m), the logarithm of the sum of a softmax; its state before any key is m = -infinity, l = 0.
inline float log_sum(float m, float l) { return l > 0.0f ? m + std::log(l) : -std::numeric_limits<float>::infinity(); }

inline void write_tile(const AttendJob& job, const QueryTile& tile, int split) {
  const AttendArgs& a = job.args;
  for (int row = 0; row < tile.n_rows(); ++row) {
    const int64_t t = tile.first_token + row / tile.n_heads, h = tile.first_head + row % tile.n_heads;
    const float* o = tile.o + row * tile.padded_dim;
    const float l = reduce_add(load(tile.l + row * kLanes));
    if (job.n_splits == 1) {
      float* out = a.out + (t * a.n_heads + h) * a.head_dim;
      const float norm = l > 0.0f ? 1.0f / l : 0.0f;
      for (int c = 0; c < a.head_dim; ++c) out[c] = o[c] * norm;
      if (a.lse != nullptr) a.lse[t * a.n_heads + h] = log_sum(tile.m[row], l);
    } else {
      float* partial = job.partials + ((t * a.n_heads + h) * job.n_splits + split) * job.partial_floats();
      std::memcpy(partial, o, static_cast<size_t>(a.head_dim) * sizeof(float));
      partial[a.head_dim] = tile.m[row];
      partial[a.head_dim + 1] = l;
    }
  }
}

// Whether a token's keys are nearly those of an earlier one, whose first key is `begin` and whose tile reaches to `end`: the same first key, or one a little
// later, as in a sliding window. Keys before a token's own first one are then computed and hidden, at most kMostHidden.
inline bool is_together(const AttendJob& job, int64_t begin, int64_t end, int64_t t) {
  const int64_t later = job.begin(t) - begin;
  return later == 0 || (later > 0 && later <= kMostHidden && job.begin(t) < end);
}

struct KeySpan {
  int64_t begin, end;
};

// Puts token t and those after it, before t_end, that are together with it into the tile; the keys of their split.
inline KeySpan take_run(const AttendJob& job, QueryTile& tile, int64_t t, int64_t t_end, int split) {
  const int64_t begin = job.begin(t);
  int64_t end = job.end(t), next = t + 1;
  for (; next < t_end && is_together(job, begin, end, next); ++next) end = std::max(end, job.end(next));
  tile.first_token = t;
  tile.n_tokens = static_cast<int>(next - t);
  const int64_t split_keys = round_up(ceil_div(std::max<int64_t>(0, end - begin), job.n_splits), kKeyTile);
  const int64_t from = begin + split * split_keys;
  return {from, std::min(end, from + split_keys)};
}

// One tile of queries, one kv head, one split of the keys. Consecutive tokens with nearly the same keys are done together, others one after another.
template <class Many> void attend_task(const AttendJob& job, int index, std::byte* scratch) {
  const AttendArgs& a = job.args;
  const int split = index % job.n_splits;
  index /= job.n_splits;
  QueryTile tile = lay_out(a, most_rows<Many>(a.head_dim), scratch);
  const int head_tile = index % job.n_head_tiles;
  index /= job.n_head_tiles;
  tile.kv_head = index % a.n_kv_heads;
  tile.first_head = tile.kv_head * job.group + head_tile * job.tile_heads;
  tile.n_heads = std::min(job.tile_heads, job.group - head_tile * job.tile_heads);
  const int64_t t_begin = int64_t{index / a.n_kv_heads} * job.tile_tokens, t_end = std::min<int64_t>(a.n_tokens, t_begin + job.tile_tokens);
  for (int64_t t = t_begin; t < t_end; t += tile.n_tokens) {
    const KeySpan span = take_run(job, tile, t, t_end, split);
    load_queries(a, tile);
    Many::prepare(a, tile);
    for (int64_t n = span.begin; n < span.end && !job.stream.cancelled(); n += kKeyTile) {
      Many::fold(job, tile, n, static_cast<int>(std::min<int64_t>(kKeyTile, span.end - n)));
    }
    write_tile(job, tile, split);
  }
}

// Merges the splits of a few rows (token, head).
inline void merge_task(const AttendJob& job, int index, std::byte*) {
  const AttendArgs& a = job.args;
  const float* parts = job.partials + int64_t{index} * job.n_splits * job.partial_floats();
  float* out = a.out + int64_t{index} * a.head_dim;
  float m = -std::numeric_limits<float>::infinity(), l = 0.0f;
  for (int s = 0; s < job.n_splits; ++s) m = std::max(m, parts[s * job.partial_floats() + a.head_dim]);
  std::memset(out, 0, static_cast<size_t>(a.head_dim) * sizeof(float));
  if (m == -std::numeric_limits<float>::infinity()) {
    if (a.lse != nullptr) a.lse[index] = m;
    return;
  }
  for (int s = 0; s < job.n_splits; ++s) {
    const float* part = parts + s * job.partial_floats();
    const float weight = exp_one(part[a.head_dim] - m);
    l += part[a.head_dim + 1] * weight;
    for (int c = 0; c < a.head_dim; ++c) out[c] += part[c] * weight;
  }
  if (a.lse != nullptr) a.lse[index] = log_sum(m, l);
  for (int c = 0; c < a.head_dim; ++c) out[c] /= l;
}

// The most consecutive tokens with nearly the same keys. A tile of more would put unrelated keys into one task, and cut runs of equal length in two.
inline int longest_run(const AttendJob& job) {
  int longest = 1;
  int64_t begin = job.begin(0), end = job.end(0);
  for (int t = 1, first = 0; t < job.args.n_tokens; ++t) {
    if (is_together(job, begin, end, t)) {
      end = std::max(end, job.end(t));
    } else {
      first = t;
      begin = job.begin(t), end = job.end(t);
    }
    longest = std::max(longest, t - first + 1);
  }
  return longest;
}

// Each task has some tokens, some heads and one split of the keys, of at least split_keys; n_tasks counts those of one split, split_tasks all worth having.
inline void cut(AttendJob& job, int64_t n_tasks, int64_t split_keys, int64_t split_tasks) {
  const AttendArgs& a = job.args;
  int64_t longest = 0;
  for (int64_t t = 0; t < a.n_tokens; ++t) longest = std::max(longest, job.end(t) - job.begin(t));
  const int64_t n_rows = int64_t{a.n_tokens} * a.n_heads;
  const int64_t room = static_cast<int64_t>(Threads::kSharedBytes / sizeof(float)) / (n_rows * job.partial_floats());
  const int64_t n_splits = std::min({ceil_div(longest, split_keys), ceil_div(split_tasks, n_tasks), room, int64_t{kMaxSplits}});
  job.n_splits = static_cast<int>(std::max<int64_t>(1, n_splits));
}

template <void (*kTask)(const AttendJob&, int, std::byte*)> void run_splits(AttendJob& job, int64_t n_tasks) {
  Threads& threads = *static_cast<Threads*>(job.stream.backend);
  job.partials = reinterpret_cast<float*>(threads.shared());
  const Threads::Phase phases[] = {
      phase<AttendJob, kTask>(job, n_tasks * job.n_splits), phase<AttendJob, merge_task>(job, int64_t{job.args.n_tokens} * job.args.n_heads)};
  threads.run(phases, job.n_splits > 1 ? 2 : 1);
}
