// store: x[T, G, C] into rows of a cache, as F32 or F16.

inline void store_task(const RowsJob<StoreArgs>& job, int index, std::byte*) {
  const StoreArgs& a = job.args;
  const int dim = a.head_dim;
  for (int64_t t = job.begin(index); t < job.end(index); ++t) {
    for (int g = 0; g < a.n_heads; ++g) {
      const float* x = a.x + (t * a.n_heads + g) * dim;
      const int64_t to = a.rows[t] * a.row_stride + g * a.head_stride;
      if (a.dtype == DType::kF32) {
        std::memcpy(static_cast<float*>(a.out) + to, x, static_cast<size_t>(dim) * sizeof(float));
        continue;
      }
      uint16_t* out = static_cast<uint16_t*>(a.out) + to;
      int i = 0;
      for (; i + kLanes <= dim; i += kLanes) store_f16(out + i, load(x + i));
      if (i < dim) store_f16_n(out + i, load_n(x + i, dim - i), dim - i);
    }
  }
}

inline void store(Stream& stream, const StoreArgs& args) {
  run_rows<StoreArgs, store_task>(stream, args, args.n_tokens, int64_t{args.n_heads} * args.head_dim);
}
