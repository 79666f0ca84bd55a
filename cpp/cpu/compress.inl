// compress: slots out of keys or values, pooled, turned and rounded in one pass over what they are made of.

inline void compress_task(const RowsJob<CompressArgs>& job, int index, std::byte* scratch) {
  const CompressArgs& a = job.args;
  const int dim = a.n_heads * a.head_dim, n_pairs = a.head_dim / 2;
  const size_t n_bytes = row_bytes(a.dtype, dim);
  float* cos = reinterpret_cast<float*>(scratch);
  const SlotTurn turn{cos, cos + n_pairs, a.n_heads, n_pairs, a.is_interleaved};
  float* row = cos + 2 * n_pairs;
  for (int64_t i = job.begin(index); i < job.end(index); ++i) {
    const int begin = a.begin[i], n = a.end != nullptr ? a.end[i] - begin : 1;
    mean_of_rows(row, a.x + int64_t{begin} * dim, n, dim);
    if (a.inv_freq != nullptr) {
      turn.set([&](int m) { return static_cast<double>(a.positions[i]) * static_cast<double>(a.inv_freq[m]); }, a.magnitude);
      turn.turn(row);
    }
    const int64_t to = a.rows[i] + int64_t{a.side} * a.strides[i];
    store_row(a.dtype, static_cast<uint8_t*>(a.out) + static_cast<size_t>(to) * n_bytes, row, dim);
  }
}

inline void compress(Stream& stream, const CompressArgs& args) {
  run_rows<CompressArgs, compress_task>(stream, args, args.n_slots, int64_t{args.n_heads} * args.head_dim);
}
