// merge: attention over two sets of keys from the attention over each, weighted by the sums of their softmaxes.

// out = a weight_a + b weight_b; out may be a or b.
inline void add_weighted(float* out, const float* a, float weight_a, const float* b, float weight_b, int dim) {
  const Vec from_a = broadcast(weight_a), from_b = broadcast(weight_b);
  int c = 0;
  for (; c + kLanes <= dim; c += kLanes) store(out + c, fma(from_a, load(a + c), mul(from_b, load(b + c))));
  if (const int n = dim - c; n > 0) store_n(out + c, fma(from_a, load_n(a + c, n), mul(from_b, load_n(b + c, n))), n);
}

inline void merge_rows_task(const RowsJob<MergeArgs>& job, int index, std::byte*) {
  const MergeArgs& args = job.args;
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  const size_t n_bytes = static_cast<size_t>(args.dim) * sizeof(float);
  for (int64_t row = job.begin(index); row < job.end(index); ++row) {
    const float* a = args.a + row * args.dim;
    const float* b = args.b + row * args.dim;
    float* out = args.out + row * args.dim;
    const float u = args.a_lse[row] == kNothing ? kNothing : args.a_power * args.a_lse[row] + args.a_bias, v = args.b_lse[row];
    const float m = std::max(u, v);
    float lse = m;
    if (m == kNothing) {
      std::memset(out, 0, n_bytes);
    } else {
      const float weight_a = exp_one(u - m), weight_b = exp_one(v - m), total = weight_a + weight_b;  // the larger one is 1
      // A side of weight 0 is not read: nobody need have written it.
      if (weight_b == 0.0f) std::memmove(out, a, n_bytes);
      else if (weight_a == 0.0f) std::memmove(out, b, n_bytes);
      else add_weighted(out, a, weight_a / total, b, weight_b / total, args.dim);
      lse += std::log(total);
    }
    if (args.lse != nullptr) args.lse[row] = lse;
  }
}

inline void merge(Stream& stream, const MergeArgs& args) { run_rows<MergeArgs, merge_rows_task>(stream, args, args.n_rows, args.dim); }
