// norm: out = x / sqrt(mean(x^2) + eps) * weight, row by row (RMS norm, arXiv 1910.07467).

inline float sum_of_squares(const float* x, int dim) {
  Vec sums[4] = {zero(), zero(), zero(), zero()};  // 4 chains hide the latency of the multiply-add
  int i = 0;
  for (; i + 4 * kLanes <= dim; i += 4 * kLanes) {
    BANYAN_UNROLL
    for (int v = 0; v < 4; ++v) {
      const Vec part = load(x + i + v * kLanes);
      sums[v] = fma(part, part, sums[v]);
    }
  }
  for (; i < dim; i += kLanes) {
    const Vec part = dim - i >= kLanes ? load(x + i) : load_n(x + i, dim - i);
    sums[0] = fma(part, part, sums[0]);
  }
  return reduce_add(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

inline void norm_task(const RowsJob<NormArgs>& job, int index, std::byte*) {
  const NormArgs& a = job.args;
  for (int64_t row = job.begin(index); row < job.end(index); ++row) {
    const float* x = a.x + row * a.dim;
    float* out = a.out + row * a.dim;
    const Vec scale = broadcast(1.0f / std::sqrt(sum_of_squares(x, a.dim) / static_cast<float>(a.dim) + a.eps));
    int i = 0;
    for (; i + kLanes <= a.dim; i += kLanes) store(out + i, mul(mul(load(x + i), scale), load(a.weight + i)));
    if (i < a.dim) store_n(out + i, mul(mul(load_n(x + i, a.dim - i), scale), load_n(a.weight + i, a.dim - i)), a.dim - i);
  }
}

inline void norm(Stream& stream, const NormArgs& args) { run_rows<NormArgs, norm_task>(stream, args, args.n_rows, args.dim); }
