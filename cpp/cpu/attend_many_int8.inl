// attend_many_int8: many queries over Q8_0 slots in integers (VNNI), for a document's memory: what attend_few_int8.inl does, but values become words once for
// all rows of a tile. Half as many products as in floats; the softmax between them stays.

constexpr int64_t kWordBytes = kInt8Keys * 32 * 2;  // of one block of all values

// o[row, 0 .. 32 kBlocks) += the weights of each block times that block of all values, as words: with two blocks 16 sums hide what a product takes.
template <int kRows, int kBlocks> BANYAN_INLINE void add_words(const Weights<kRows>* weights, const uint8_t* words, int head_dim, float* o) {
  __m512i sums[kBlocks][kRows][2];
  BANYAN_UNROLL
  for (int b = 0; b < kBlocks; ++b) {
    BANYAN_UNROLL
    for (int row = 0; row < kRows; ++row) sums[b][row][0] = sums[b][row][1] = _mm512_setzero_si512();
  }
  for (int i = 0; i < 16; i += 2) {
    BANYAN_UNROLL
    for (int j = 0; j < 2; ++j) {
      BANYAN_UNROLL
      for (int b = 0; b < kBlocks; ++b) {
        const uint8_t* at = words + kWordBytes * b + 128 * (i + j);
        const Bytes low = load_64(at), high = load_64(at + 64);
        BANYAN_UNROLL
        for (int row = 0; row < kRows; ++row) {
          int32_t two;
          std::memcpy(&two, reinterpret_cast<const char*>(weights[b].pairs + row) + 4 * (i + j), sizeof two);
          sums[b][row][0] = _mm512_dpwssd_epi32(sums[b][row][0], low, _mm512_set1_epi32(two));
          sums[b][row][1] = _mm512_dpwssd_epi32(sums[b][row][1], high, _mm512_set1_epi32(two));
        }
      }
    }
  }
  BANYAN_UNROLL
  for (int b = 0; b < kBlocks; ++b) {
    BANYAN_UNROLL
    for (int row = 0; row < kRows; ++row) add_sums(sums[b][row], row_of(weights[b].scales, row), o + row * head_dim + 32 * b);
  }
}

// o[row] += the weights p[row, 0 .. kInt8Keys) times the values, which become words in `words` [head_dim / 32, kWordBytes]. Values that are not there are zero,
// and so are their weights.
inline void add_many_int8(const WholeRows& values, const FewAhead& ahead, const float* p, int n_rows, int head_dim, uint8_t* words, float* o) {
  const int n_blocks = head_dim / 32, n_groups = static_cast<int>(ceil_div(n_rows, kRowsAtOnce));
  ValueScales scales[kMaxHeadDim / 32];
  for (int b = 0; b < n_blocks; ++b) {
    const uint8_t* blocks = values.first + b * kBlockBytes;
    scales[b] = ValueScales(blocks, values.stride);
    for (int i = 0; i < 16; ++i, blocks += values.stride) {
      const __m256i first = load_32(blocks + 2), second = load_32(blocks + 16 * values.stride + 2);
      uint8_t* to = words + kWordBytes * b + 128 * i;
      _mm512_storeu_si512(to, low_words(first, second));
      _mm512_storeu_si512(to + 64, high_words(first, second));
    }
  }
  in_groups(n_rows, [&](int row, auto n) {
    constexpr int kRows = decltype(n)::value;
    ahead.ask(row / kRowsAtOnce, n_groups);
    const Vec highest = highest_weights<kRows>(p + row * kKeyTile);
    Weights<kRows> weights[kMaxHeadDim / 32];
    for (int b = 0; b < n_blocks; ++b) quantize_weights(p + row * kKeyTile, highest, scales[b], weights + b);
    int b = 0;
    for (; b + 2 <= n_blocks; b += 2) add_words<kRows, 2>(weights + b, words + kWordBytes * b, head_dim, o + row * head_dim + 32 * b);
    if (b < n_blocks) add_words<kRows, 1>(weights + b, words + kWordBytes * b, head_dim, o + row * head_dim + 32 * b);
  });
}

struct ManyInt8 {
  static void prepare(const AttendArgs& a, QueryTile& tile) { FewInt8::prepare(a, tile); }
  static void fold(const AttendJob& job, QueryTile& tile, int64_t n, int n_keys) {
    const AttendArgs& a = job.args;
    const size_t n_bytes = row_bytes(DType::kQ8_0, a.head_dim);
    CopiedRows copied;
    const auto rows = [&](const void* side, int first) {
      return whole(rows_of<DType::kQ8_0>(a.kv, side, tile.kv_head, n + first, std::min(kInt8Keys, n_keys - first)), a.head_dim, copied);
    };
    const auto ahead = [&](const void* side, int64_t first) {
      const FewRows next = rows_of<DType::kQ8_0>(a.kv, side, tile.kv_head, n + first, kInt8Keys);
      return FewAhead{next.first, next.stride, n_bytes, kInt8Keys};
    };
    for (int first = 0; first < n_keys; first += kInt8Keys) {
      score_int8(rows(a.kv.k, first), ahead(a.kv.v, first), reinterpret_cast<const QueryBlock*>(tile.q), tile.n_rows(), a.head_dim / 32,
          tile.scores + first);
    }
    fold_rows(job, tile, n, n_keys);
    for (int first = 0; first < n_keys; first += kInt8Keys) {
      add_many_int8(rows(a.kv.v, first), ahead(a.kv.k, first + kKeyTile), tile.scores + first, tile.n_rows(), a.head_dim,
          reinterpret_cast<uint8_t*>(tile.values), tile.o);
    }
  }
};

inline void inject_int8(Stream& stream, const InjectArgs& args) {
  if (args.kv.dtype == DType::kQ8_0) inject_slots<FewInt8, ManyInt8>(stream, args);
  else kBase()->inject(stream, args);
}
