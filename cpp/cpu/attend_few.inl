// attend_few: attention of few queries over many keys (decoding), bound by reading them. Keys are scored and values added straight from where they lie;
// nothing is packed. Memory is read fastest in its order: where heads lie apart, as in a session's cache, a task does one kv head; where those of a token lie
// together, several side by side, tile of keys by tile. Tiles, softmax and splits are those of attend.inl.

constexpr int kFewQueryRows = 16;   // of one kv head; with more, transposing the keys once is cheaper than a sum across lanes per score
constexpr int kFewBlock = 16;       // keys; a multiple of every kLanes
constexpr int kRowsAtOnce = 4;      // a whole group of the usual models
constexpr int kFewSplitKeys = 128;  // with fewer keys, writing and merging a split's state would cost more than some percent
constexpr int kFewSplitTasks = 32;  // each costs a microsecond, and so many threads read more than the memory gives
constexpr int kFewTasks = 4;  // of a thread: fewer kv heads a task, if there would be fewer; unlike keys, heads may be cut by the number of threads
constexpr int kFewStateFloats = 1 << 15;  // of the heads of a task: 128 KiB of a second-level cache that must also hold the tile of keys

// Accumulators kept in registers: rows x keys of scores, rows x vectors of outputs. 16 of 32 registers, 8 of 16.
constexpr int kVectorsAtOnce = kTileRows >= 12 ? 4 : 2;

// The rows of one side of one kv head, from some key on.
struct FewRows {
  const uint8_t* first;
  size_t stride;  // bytes
  int n;
  // Asks for the row after row i, which has n_bytes. Into the second-level cache: the first holds the states of all heads too. Row i itself would often be a
  // multiple of 4096 bytes from the one that is read meanwhile, which is slower (gemm_int8_few.inl).
  BANYAN_INLINE void ask(int i, size_t n_bytes) const {
    const uint8_t* row = first + static_cast<size_t>(i + 1) * stride;
    for (size_t at = 0; at < n_bytes; at += 64) BANYAN_PREFETCH(row + at);
  }
};

template <DType kFormat> FewRows rows_of(const KvView& kv, const void* side, int kv_head, int64_t n, int n_keys) {
  const uint8_t* first = static_cast<const uint8_t*>(side) + row_bytes(kFormat, n * kv.row_stride + kv_head * kv.head_stride);
  return {first, row_bytes(kFormat, kv.row_stride), n_keys};
}

// Elements at .. at + kLanes of a row, `at` a multiple of kLanes.
template <DType kFormat> BANYAN_INLINE Vec load_at(const uint8_t* row, int at) {
  if constexpr (kFormat == DType::kQ8_0) {
    const uint8_t* block = row + row_bytes(kFormat, at);
    return mul(broadcast(half(block)), to_float(load_i8(block + 2 + at % 32)));
  } else if constexpr (kFormat == DType::kF16) {
    return load_f16(row + 2 * int64_t{at});
  } else {
    return load(row + 4 * int64_t{at});
  }
}

// scores[row, i] = q[row] . keys[i], whole vectors of keys; what lies beyond the last key is some number. n_asked bytes of each row of the next block are asked
// for a row at a time, between the work: a burst fills the buffers that everything not in the first-level cache waits for, and both stand still.
template <DType kFormat, int kRows>
void score_rows(const FewRows& keys, const FewRows& next, size_t n_asked, const float* q, int head_dim, float* scores) {
  for (int i = 0; i < keys.n; i += kLanes) {
    Vec products[kRows][kLanes / kKeysAtOnce];  // sums across some of the lanes
    for (int j = 0; j < kLanes; j += kKeysAtOnce) {
      const uint8_t* at[kKeysAtOnce];
      Vec sums[kRows][kKeysAtOnce];
      BANYAN_UNROLL
      for (int k = 0; k < kKeysAtOnce; ++k) {
        next.ask(i + j + k, n_asked);
        at[k] = keys.first + static_cast<size_t>(std::min(i + j + k, keys.n - 1)) * keys.stride;
        BANYAN_UNROLL
        for (int row = 0; row < kRows; ++row) sums[row][k] = zero();
      }
      for (int c = 0; c < head_dim; c += kLanes) {
        Vec key[kKeysAtOnce];
        BANYAN_UNROLL
        for (int k = 0; k < kKeysAtOnce; ++k) key[k] = load_at<kFormat>(at[k], c);
        BANYAN_UNROLL
        for (int row = 0; row < kRows; ++row) {
          const Vec x = load(q + row * head_dim + c);
          BANYAN_UNROLL
          for (int k = 0; k < kKeysAtOnce; ++k) sums[row][k] = fma(x, key[k], sums[row][k]);
        }
      }
      BANYAN_UNROLL
      for (int row = 0; row < kRows; ++row) products[row][j / kKeysAtOnce] = sum_some(sums[row]);
    }
    BANYAN_UNROLL
    for (int row = 0; row < kRows; ++row) store(scores + row * kKeyTile + i, sum_rest(products[row]));
  }
}

// o[row, c ..] += the weights p[row] times kVectors vectors of the values.
template <DType kFormat, int kRows, int kVectors>
BANYAN_INLINE void add_vectors(const FewRows& values, const FewRows& next, size_t n_asked, const float* p, int c, int head_dim, float* o) {
  Vec sums[kRows][kVectors];
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) {
    BANYAN_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[row][v] = load(o + row * head_dim + c + v * kLanes);
  }
  const uint8_t* at = values.first;
  for (int i = 0; i < values.n; ++i, at += values.stride) {
    next.ask(i, n_asked);
    Vec value[kVectors];
    BANYAN_UNROLL
    for (int v = 0; v < kVectors; ++v) value[v] = load_at<kFormat>(at, c + v * kLanes);
    BANYAN_UNROLL
    for (int row = 0; row < kRows; ++row) {
      const Vec weight = broadcast(p[row * kKeyTile + i]);
      BANYAN_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[row][v] = fma(weight, value[v], sums[row][v]);
    }
  }
  BANYAN_UNROLL
  for (int row = 0; row < kRows; ++row) {
    BANYAN_UNROLL
    for (int v = 0; v < kVectors; ++v) store(o + row * head_dim + c + v * kLanes, sums[row][v]);
  }
}

template <DType kFormat, int kRows>
void add_values(const FewRows& values, const FewRows& next, size_t n_asked, const float* p, int head_dim, float* o) {
  int c = 0;
  for (; c + kVectorsAtOnce * kLanes <= head_dim; c += kVectorsAtOnce * kLanes, n_asked = 0) {
    add_vectors<kFormat, kRows, kVectorsAtOnce>(values, next, n_asked, p, c, head_dim, o);
  }
  for (; c < head_dim; c += kLanes, n_asked = 0) add_vectors<kFormat, kRows, 1>(values, next, n_asked, p, c, head_dim, o);
}

// Calls a template of a number of rows with 4, 4, ... and what is left.
template <class Call> BANYAN_INLINE void in_groups(int n_rows, Call call) {
  for (int row = 0; row < n_rows; row += kRowsAtOnce) {
    switch (std::min(kRowsAtOnce, n_rows - row)) {
      case 1: call(row, std::integral_constant<int, 1>()); break;
      case 2: call(row, std::integral_constant<int, 2>()); break;
      case 3: call(row, std::integral_constant<int, 3>()); break;
      default: call(row, std::integral_constant<int, 4>());
    }
  }
}
static_assert(kRowsAtOnce == 4);

// State of a kv head: q, o, scores, m and l.
constexpr int few_floats(int n_rows, int head_dim) { return n_rows * (2 * head_dim + kKeyTile + 1 + kLanes); }
static_assert(std::max(kFewStateFloats, few_floats(kFewQueryRows, kMaxHeadDim)) <= static_cast<int>(Threads::kScratchBytes / sizeof(float)));

// The state of each kv head of a task, one behind the other in its scratch.
struct FewHeads {
  float* state;
  int first_kv_head, n_kv_heads;
  int n_rows;  // most of a kv head
  void turn_to(const AttendArgs& a, QueryTile& tile, int i) const {
    tile.kv_head = first_kv_head + i;
    tile.first_head = tile.kv_head * tile.n_heads;
    tile.q = state + int64_t{i} * few_floats(n_rows, a.head_dim);
    tile.o = tile.q + int64_t{n_rows} * a.head_dim;
    tile.scores = tile.o + int64_t{n_rows} * a.head_dim;
    tile.m = tile.scores + n_rows * kKeyTile;
    tile.l = tile.m + n_rows;
  }
};

// One side of the keys of a tile, and what is read after it.
struct FewWalk {
  const void *side, *next_side;
  int64_t n, next_n;
  int n_keys;
};
inline FewWalk walk_of_keys(const KvView& kv, int64_t n, int n_keys) { return {kv.k, kv.v, n, n, n_keys}; }
inline FewWalk walk_of_values(const KvView& kv, int64_t n, int n_keys) { return {kv.v, kv.k, n, n + n_keys, n_keys}; }

// Calls for blocks that the first-level cache holds for all heads, head by head, with the rows of the head in the next block.
template <DType kFormat, int kBlock, class Call> void walk_blocks(const KvView& kv, const FewWalk& walk, const FewHeads& heads, Call call) {
  for (int i = 0; i < walk.n_keys; i += kBlock) {
    const bool is_last = i + kBlock >= walk.n_keys;
    for (int head = 0; head < heads.n_kv_heads; ++head) {
      const int kv_head = heads.first_kv_head + head;
      const FewRows rows = rows_of<kFormat>(kv, walk.side, kv_head, walk.n + i, std::min(kBlock, walk.n_keys - i));
      call(head, i, rows, rows_of<kFormat>(kv, is_last ? walk.next_side : walk.side, kv_head, is_last ? walk.next_n : walk.n + i + kBlock, kBlock));
    }
  }
}

// Folds keys [n, n + n_keys), one tile at most, into the states of all heads.
template <DType kFormat> void fold_few_as(const AttendJob& job, QueryTile& tile, const FewHeads& heads, int64_t n, int n_keys) {
  const AttendArgs& a = job.args;
  const size_t n_bytes = row_bytes(kFormat, a.head_dim);
  const auto n_asked = [n_bytes](int row) { return row == 0 ? n_bytes : 0; };  // once
  walk_blocks<kFormat, kFewBlock>(a.kv, walk_of_keys(a.kv, n, n_keys), heads, [&](int head, int first, const FewRows& keys, const FewRows& next) {
    heads.turn_to(a, tile, head);
    in_groups(tile.n_rows(), [&](int row, auto n_rows) {
      score_rows<kFormat, decltype(n_rows)::value>(
          keys, next, n_asked(row), tile.q + row * a.head_dim, a.head_dim, tile.scores + row * kKeyTile + first);
    });
  });
  for (int head = 0; head < heads.n_kv_heads; ++head) {
    heads.turn_to(a, tile, head);
    fold_rows(job, tile, n, n_keys);
  }
  walk_blocks<kFormat, kFewBlock>(a.kv, walk_of_values(a.kv, n, n_keys), heads, [&](int head, int first, const FewRows& values, const FewRows& next) {
    heads.turn_to(a, tile, head);
    in_groups(tile.n_rows(), [&](int row, auto n_rows) {
      add_values<kFormat, decltype(n_rows)::value>(
          values, next, n_asked(row), tile.scores + row * kKeyTile + first, a.head_dim, tile.o + row * a.head_dim);
    });
  });
}

// How the rows of few queries meet their keys: in floats, or (attend_few_int8.inl) in integers.
struct FewFloats {
  static void prepare(const AttendArgs&, QueryTile&) {}  // of what load_queries left
  static void fold(const AttendJob& job, QueryTile& tile, const FewHeads& heads, int64_t n, int n_keys) {
    switch (job.args.kv.dtype) {
      case DType::kQ8_0: return fold_few_as<DType::kQ8_0>(job, tile, heads, n, n_keys);
      case DType::kF16: return fold_few_as<DType::kF16>(job, tile, heads, n, n_keys);
      default: return fold_few_as<DType::kF32>(job, tile, heads, n, n_keys);
    }
  }
};

// Whether the keys of n_rows queries a kv head are worth no packing.
inline bool is_few(const AttendArgs& a, int n_rows) { return n_rows <= kFewQueryRows && a.head_dim % kLanes == 0; }

// How many kv heads a task does: all where a token's heads lie together, one where each head's keys do.
inline int joint_heads(const AttendArgs& a, int n_rows) {
  if (a.kv.head_stride > a.kv.row_stride) return 1;
  return std::clamp(kFewStateFloats / few_floats(n_rows, a.head_dim), 1, a.n_kv_heads);
}

// Queries that share their keys, some kv heads, one split of the keys.
template <class Few> void attend_few_task(const AttendJob& job, int index, std::byte* scratch) {
  const AttendArgs& a = job.args;
  const int split = index % job.n_splits;
  index /= job.n_splits;
  const int first_kv_head = index % job.n_head_tiles * job.joint_heads, n_kv_heads = std::min(job.joint_heads, a.n_kv_heads - first_kv_head);
  const int64_t t_begin = int64_t{index / job.n_head_tiles} * job.tile_tokens, t_end = std::min<int64_t>(a.n_tokens, t_begin + job.tile_tokens);
  const FewHeads heads{reinterpret_cast<float*>(scratch), first_kv_head, n_kv_heads, job.tile_tokens * job.group};
  QueryTile tile{};
  tile.n_heads = job.group;
  tile.padded_dim = tile.vector_dim = a.head_dim;
  for (int64_t t = t_begin; t < t_end; t += tile.n_tokens) {
    const KeySpan span = take_run(job, tile, t, t_end, split);
    for (int i = 0; i < n_kv_heads; ++i) {
      heads.turn_to(a, tile, i);
      load_queries(a, tile);
      Few::prepare(a, tile);
    }
    for (int64_t n = span.begin; n < span.end && !job.stream.cancelled(); n += kKeyTile) {
      Few::fold(job, tile, heads, n, static_cast<int>(std::min<int64_t>(kKeyTile, span.end - n)));
    }
    for (int i = 0; i < n_kv_heads; ++i) {
      heads.turn_to(a, tile, i);
      write_tile(job, tile, split);
    }
  }
}
