// cosine: a query with each of many vectors, in float64.

// Eight sums side by side, because one would wait for itself.
inline double dot_f64(const float* a, const float* b, int n) {
  constexpr int kSums = 8;
  double sums[kSums] = {};
  for (int i = 0; i < n; i += kSums) {
    const int n_here = std::min(kSums, n - i);
    for (int e = 0; e < n_here; ++e) sums[e] += static_cast<double>(a[i + e]) * static_cast<double>(b[i + e]);
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

inline void cosine_task(const RowsJob<CosineArgs>& job, int index, std::byte*) {
  const CosineArgs& a = job.args;
  const auto norm_of = [&a](const float* x) { return std::max(std::sqrt(dot_f64(x, x, a.dim)), 1e-6); };
  const double of_query = norm_of(a.query);
  for (int64_t i = job.begin(index); i < job.end(index); ++i) {
    a.out[i] = static_cast<float>(dot_f64(a.rows[i], a.query, a.dim) / (norm_of(a.rows[i]) * of_query));
  }
}

inline void cosine(Stream& stream, const CosineArgs& args) { run_rows<CosineArgs, cosine_task>(stream, args, args.n_rows, args.dim); }
