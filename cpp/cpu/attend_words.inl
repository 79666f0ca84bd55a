// attend_words: attention of many queries over 16- and 8-bit keys, whose scores are products of 16-bit words (VPDPWSSD, VPMADDWD: twice as many an
// instruction as of floats). A query (times scale) and a key are each divided by their norm and rounded to parts of 32767: no sum can overflow then
// (Cauchy-Schwarz), and a score is off by 2^-16 |q| |k| or so, less than keys in halves are. The softmax and the values stay float32, as attend.inl has
// them: weights of very different sizes would not keep their bits in words.

constexpr float kWordNorm = 32767.0f;
constexpr float kLeastNorm = 1e-30f;  // of zeros
constexpr int kWordStep = 32;         // words of a vector, which head_dim is a multiple of
constexpr int kWordRows = 6;          // at once: 12 sums; beside more than 16 the compiler moves registers in every step
static_assert(kTileCols == 2 * kLanes && kKeyTile % kTileCols == 0);

// x[n] becomes words, in its place; what they are to be multiplied with.
BANYAN_INLINE float round_to_words(float* x, int n) {
  Vec squares = zero();
  for (int i = 0; i < n; i += kLanes) squares = fma(load(x + i), load(x + i), squares);
  const float norm = std::max(std::sqrt(reduce_add(squares)), kLeastNorm);
  const Vec parts = broadcast(kWordNorm / norm);
  auto* words = reinterpret_cast<std::byte*>(x);
  for (int i = 0; i < n; i += kLanes) store_rounded(words + 2 * i, mul(load(x + i), parts));
  return norm / kWordNorm;
}

// Keys become columns of pairs of words: [C / 2][kTileCols] per kTileCols keys, and a row of what they are to be multiplied with.
inline void load_key_words(const AttendArgs& a, QueryTile& tile, int64_t n, int n_keys) {
  const int n_pairs = a.head_dim / 2;
  for (int i = 0; i < round_up(n_keys, kLanes); i += kLanes) {
    float* packed = tile.keys + i / kTileCols * kTileCols * tile.padded_dim + i % kTileCols;
    for (int j = 0; j < kLanes; ++j) {
      float* row = tile.rows + j * tile.padded_dim;
      if (i + j < n_keys) load_row(a.kv, a.kv.k, n + i + j, tile.kv_head, a.head_dim, StoreWhole{row});
      else std::memset(row, 0, static_cast<size_t>(a.head_dim) * sizeof(float));
      packed[n_pairs * kTileCols + j] = round_to_words(row, a.head_dim);
    }
    for (int c = 0; c < n_pairs; c += kLanes) transpose(tile.rows + c, tile.padded_dim, packed + c * kTileCols, kTileCols);
  }
}

// scores[kRows, n_cols] = q keys; n_cols whole vectors. A row of q has its words and then what they are to be multiplied with.
template <int kRows>
void score_words(float* BANYAN_RESTRICT scores, const float* BANYAN_RESTRICT q, int head_dim, const float* BANYAN_RESTRICT keys, int n_cols) {
  const int n_pairs = head_dim / 2;
  IVec sums[kRows][kTileVectors];
  BANYAN_UNROLL
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = IVec{};
  for (int k = 0; k < n_pairs; ++k, keys += kTileCols) {
    const Bytes column[kTileVectors] = {load_bytes(keys), load_bytes(keys + kLanes)};
    BANYAN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const Bytes pair = four_bytes(q + r * head_dim + k);
      BANYAN_UNROLL
      for (int v = 0; v < kTileVectors; ++v) add_pairs(sums[r][v], column[v], pair);
    }
  }
  BANYAN_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const Vec scale = broadcast(q[r * head_dim + n_pairs]);
    BANYAN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      if (v * kLanes < n_cols) store(scores + r * kKeyTile + v * kLanes, mul(mul(to_float(sums[r][v]), load(keys + v * kLanes)), scale));
    }
  }
}

using ScoreWords = void (*)(float*, const float*, int, const float*, int);
template <int... kLess> ScoreWords score_words_of(int n_rows, std::integer_sequence<int, kLess...>) {
  static constexpr ScoreWords kAll[] = {score_words<kLess + 1>...};
  return kAll[n_rows - 1];
}

struct ManyWords {
  static constexpr int kRows = kQueryRows;
  static void prepare(const AttendArgs& a, QueryTile& tile) {
    for (int row = 0; row < tile.n_rows(); ++row) {
      float* q = tile.q + int64_t{row} * a.head_dim;
      const float scale = round_to_words(q, a.head_dim);
      q[a.head_dim / 2] = scale;
    }
  }
  static void fold(const AttendJob& job, QueryTile& tile, int64_t n, int n_keys) {
    const AttendArgs& a = job.args;
    load_key_words(a, tile, n, n_keys);
    const float* keys = tile.keys;
    for (int col = 0; col < n_keys; col += kTileCols, keys += kTileCols * tile.padded_dim) {
      const auto n_cols = static_cast<int>(round_up(n_keys - col, kLanes));
      for (int row = 0; row < tile.n_rows(); row += kWordRows) {
        score_words_of(std::min(kWordRows, tile.n_rows() - row), std::make_integer_sequence<int, kWordRows>())(
            tile.scores + row * kKeyTile + col, tile.q + int64_t{row} * a.head_dim, a.head_dim, keys, n_cols);
      }
    }
    fold_rows(job, tile, n, n_keys);
    add_tile_values(a, tile, n, n_keys);
  }
};

// False: few queries, or none, or keys that words would make coarser.
inline bool try_words(Stream& stream, const AttendArgs& args, int n_slots) {
  if (args.n_tokens <= 0 || args.n_heads <= 0 || args.kv.dtype == DType::kF32 || args.head_dim % kWordStep != 0) return false;
  AttendJob job = plan<ManyWords>(stream, args, n_slots);
  if (is_few(args, job.tile_tokens * job.group)) return false;
  attend_many<ManyWords>(job);
  return true;
}
template <void (*kOther)(Stream&, const AttendArgs&)> void attend_words(Stream& stream, const AttendArgs& args) {
  if (!try_words(stream, args, 0)) kOther(stream, args);
}
inline void inject_words(Stream& stream, const InjectArgs& args) {
  if (args.kv.dtype != DType::kF16 || !try_words(stream, as_attention(args), args.n_slots)) inject_int8(stream, args);
}
