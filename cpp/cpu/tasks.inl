// tasks: how an op becomes tasks of the pool. An op fills a job (stream, args, how it is cut) and names the function that does one task.

template <class Job, void (*kTask)(const Job&, int, std::byte*)> void call_task(const void* job, int index, std::byte* scratch) noexcept {
  if (!static_cast<const Job*>(job)->stream.cancelled()) kTask(*static_cast<const Job*>(job), index, scratch);
}

template <class Job, void (*kTask)(const Job&, int, std::byte*)> Threads::Phase phase(const Job& job, int64_t n_tasks) {
  return {static_cast<int>(n_tasks), &call_task<Job, kTask>, &job};
}

template <class Job, void (*kTask)(const Job&, int, std::byte*)> void run_tasks(const Job& job, int64_t n_tasks) {
  const Threads::Phase only = phase<Job, kTask>(job, n_tasks);
  static_cast<Threads*>(job.stream.backend)->run(&only, 1);
}

BANYAN_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
BANYAN_INLINE int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Rows a task of a cheap op takes: enough that its 16 K elements (some microseconds) outweigh the claim and the wake-up.
BANYAN_INLINE int64_t rows_per_task(int64_t row_elements) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, row_elements)); }

// The job of an op whose rows are independent: task i does rows i * n_per_task and following.
template <class Args> struct RowsJob {
  const Stream& stream;
  const Args& args;
  int64_t n_rows, n_per_task;
  int64_t begin(int index) const { return index * n_per_task; }
  int64_t end(int index) const { return std::min(n_rows, (index + 1) * n_per_task); }
};

template <class Args, void (*kTask)(const RowsJob<Args>&, int, std::byte*)>
void run_rows(const Stream& stream, const Args& args, int64_t n_rows, int64_t row_elements) {
  const RowsJob<Args> job{stream, args, n_rows, rows_per_task(row_elements)};
  run_tasks<RowsJob<Args>, kTask>(job, ceil_div(n_rows, job.n_per_task));
}
