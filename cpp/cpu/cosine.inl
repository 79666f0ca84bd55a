// cosine: a query with each of many vectors, in float64.

constexpr int kCosineSums = 8;  // side by side, because one sum would wait for itself

struct CosineSums {
  double dot = 0, aa = 0, bb = 0;
};

inline CosineSums cosine_sums(const float* a, const float* b, int n) {
  double dot[kCosineSums] = {}, aa[kCosineSums] = {}, bb[kCosineSums] = {};
  for (int i = 0; i < n; i += kCosineSums) {
    const int n_here = std::min(kCosineSums, n - i);
    for (int e = 0; e < n_here; ++e) {
      const double x = static_cast<double>(a[i + e]), y = static_cast<double>(b[i + e]);
      dot[e] += x * y;
      aa[e] += x * x;
      bb[e] += y * y;
    }
  }
  CosineSums total;
  for (int e = 0; e < kCosineSums; ++e) {
    total.dot += dot[e];
    total.aa += aa[e];
    total.bb += bb[e];
  }
  return total;
}

inline void cosine_task(const RowsJob<CosineArgs>& job, int index, std::byte*) {
  constexpr double kEpsilon = 1e-6;
  const CosineArgs& a = job.args;
  for (int64_t i = job.begin(index); i < job.end(index); ++i) {
    const CosineSums sums = cosine_sums(a.rows[i], a.query, a.dim);
    a.out[i] = static_cast<float>(sums.dot / (std::max(std::sqrt(sums.aa), kEpsilon) * std::max(std::sqrt(sums.bb), kEpsilon)));
  }
}

inline void cosine(Stream& stream, const CosineArgs& args) { run_rows<CosineArgs, cosine_task>(stream, args, args.n_rows, args.dim); }
