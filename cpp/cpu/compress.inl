// compress: slots out of keys or values, pooled, turned and rounded in one pass over what they are made of.

inline void compress_task(const RowsJob<CompressArgs>& job, int index, std::byte* scratch) {
  const CompressArgs& a = job.args;
  const int dim = a.n_heads * a.head_dim, n_pairs = a.head_dim / 2, n_part = heads_of_part(a.head_dim);
  float* cos = reinterpret_cast<float*>(scratch);
  const SlotTurn turn{cos, cos + n_pairs, n_pairs, a.is_interleaved};
  float* part = cos + 2 * n_pairs;
  for (int64_t i = job.begin(index); i < job.end(index); ++i) {
    const int begin = a.begin[i], n = a.end != nullptr ? a.end[i] - begin : 1;
    if (a.inv_freq != nullptr) turn.set([&](int m) { return static_cast<double>(a.positions[i]) * static_cast<double>(a.inv_freq[m]); }, a.magnitude);
    uint8_t* out = static_cast<uint8_t*>(a.out) + row_bytes(a.dtype, (a.rows[i] + int64_t{a.side} * a.strides[i]) * dim);
    for (int head = 0; head < a.n_heads; head += n_part) {
      const int n_heads = std::min(n_part, a.n_heads - head), first = head * a.head_dim, n_elements = n_heads * a.head_dim;
      mean_of_rows(part, a.x + int64_t{begin} * dim + first, dim, n, n_elements);
      if (a.inv_freq != nullptr) turn.turn(part, n_heads);
      store_row(a.dtype, out + row_bytes(a.dtype, first), part, n_elements);
    }
  }
}

inline void compress(Stream& stream, const CompressArgs& args) {
  run_rows<CompressArgs, compress_task>(stream, args, args.n_slots, int64_t{args.n_heads} * args.head_dim);
}
