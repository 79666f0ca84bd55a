// pool: the mean of consecutive rows, summed in row order.

inline void pool_task(const RowsJob<PoolArgs>& job, int index, std::byte*) {
  const PoolArgs& a = job.args;
  for (int64_t i = job.begin(index); i < job.end(index); ++i) {
    const Vec n_rows = broadcast(static_cast<float>(a.end[i] - a.begin[i]));
    float* out = a.out + i * a.dim;
    for (int64_t c = 0; c < a.dim; c += kLanes) {
      const int n = static_cast<int>(std::min<int64_t>(kLanes, a.dim - c));
      Vec sum = zero();
      for (int64_t row = a.begin[i]; row < a.end[i]; ++row) {
        const float* x = a.x + row * a.dim + c;
        sum = add(sum, n == kLanes ? load(x) : load_n(x, n));
      }
      sum = div(sum, n_rows);
      if (n == kLanes) store(out + c, sum);
      else store_n(out + c, sum, n);
    }
  }
}

inline void pool(Stream& stream, const PoolArgs& args) { run_rows<PoolArgs, pool_task>(stream, args, args.n_groups, args.dim); }
