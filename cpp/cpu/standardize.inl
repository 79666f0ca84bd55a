// standardize: in three phases the sums of each head over each chunk, the mean and deviation of each head, and the highest over the heads of each token.

struct StandardizeJob {
  const Stream& stream;
  const StandardizeArgs& args;
};

// The products of a head with the tokens of a chunk.
BANYAN_INLINE const float* products_of(const StandardizeArgs& a, int head, int chunk) {
  const int64_t part = a.heads[head] / a.group, place = a.heads[head] % a.group, n = a.begin[chunk + 1] - a.begin[chunk];
  return a.x + (part * a.n_tokens + a.begin[chunk]) * a.group + place * n;
}
BANYAN_INLINE double* sums_of(const StandardizeArgs& a, int head, int chunk) { return a.sums + 2 * (int64_t{head} * (a.n_chunks + 1) + chunk); }

// Differences from some value of the data are summed, so that the squares do not cancel where the mean is large; several side by side, because one sum
// would wait for itself.
inline void standardize_sum_task(const StandardizeJob& job, int index, std::byte*) {
  constexpr int kSums = 8;
  const StandardizeArgs& a = job.args;
  const int head = index / a.n_chunks, chunk = index % a.n_chunks, n = a.begin[chunk + 1] - a.begin[chunk];
  const float* x = products_of(a, head, chunk);
  const double pivot = static_cast<double>(*products_of(a, head, 0));
  double sums[kSums] = {}, squares[kSums] = {};
  for (int i = 0; i < n; i += kSums) {
    const int n_here = std::min(kSums, n - i);
    for (int e = 0; e < n_here; ++e) {
      const double difference = static_cast<double>(x[i + e]) - pivot;
      sums[e] += difference;
      squares[e] += difference * difference;
    }
  }
  double* out = sums_of(a, head, chunk);
  out[0] = out[1] = 0;
  for (int e = 0; e < kSums; ++e) {
    out[0] += sums[e];
    out[1] += squares[e];
  }
}

// Behind a head's sums its mean, and what its differences from it are multiplied by.
inline void standardize_spread_task(const StandardizeJob& job, int head, std::byte*) {
  const StandardizeArgs& a = job.args;
  double sum = 0, squares = 0;
  for (int chunk = 0; chunk < a.n_chunks; ++chunk) {
    sum += sums_of(a, head, chunk)[0];
    squares += sums_of(a, head, chunk)[1];
  }
  const double shift = sum / a.n_tokens, deviation = std::sqrt(std::max(0.0, squares / a.n_tokens - shift * shift));
  double* out = sums_of(a, head, a.n_chunks);
  out[0] = static_cast<double>(*products_of(a, head, 0)) + shift;
  out[1] = 1 / std::max(deviation, 1e-6);
}

inline void standardize_task(const StandardizeJob& job, int chunk, std::byte*) {
  const StandardizeArgs& a = job.args;
  const int n = a.begin[chunk + 1] - a.begin[chunk];
  float* out = a.out + a.begin[chunk];
  std::fill(out, out + n, -std::numeric_limits<float>::infinity());
  for (int head = 0; head < a.n_heads; ++head) {
    const float* x = products_of(a, head, chunk);
    const double mean = sums_of(a, head, a.n_chunks)[0], scale = sums_of(a, head, a.n_chunks)[1];
    for (int i = 0; i < n; ++i) out[i] = std::max(out[i], static_cast<float>((static_cast<double>(x[i]) - mean) * scale));
  }
}

inline void standardize(Stream& stream, const StandardizeArgs& args) {
  if (args.n_chunks == 0 || args.n_heads == 0) return;
  const StandardizeJob job{stream, args};
  const Threads::Phase phases[] = {phase<StandardizeJob, standardize_sum_task>(job, int64_t{args.n_heads} * args.n_chunks),
      phase<StandardizeJob, standardize_spread_task>(job, args.n_heads), phase<StandardizeJob, standardize_task>(job, args.n_chunks)};
  static_cast<Threads*>(stream.backend)->run(phases, 3);
}
