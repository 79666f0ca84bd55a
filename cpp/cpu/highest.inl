// highest: the highest number of each range of a row of them.

inline float highest_of(const float* x, int n) {
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  Vec most = broadcast(kNothing);
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) most = max_number(load(x + i), most);
  float highest = reduce_max(most);
  for (; i < n; ++i) highest = x[i] > highest ? x[i] : highest;
  return highest;
}

inline void highest_task(const RowsJob<HighestArgs>& job, int index, std::byte*) {
  const HighestArgs& a = job.args;
  for (int64_t i = job.begin(index); i < job.end(index); ++i) a.out[i] = highest_of(a.x + a.begin[i], a.end[i] - a.begin[i]);
}

// Ranges are nodes of some hundred tokens, or groups of a few.
inline void highest(Stream& stream, const HighestArgs& args) { run_rows<HighestArgs, highest_task>(stream, args, args.n_groups, 64); }
