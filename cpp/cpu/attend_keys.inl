// attend_keys: cuts the queries and keys of attend and inject into tasks, for few queries (attend_few.inl) or many (attend.inl).

template <class Few> void attend_few(AttendJob& job) {
  const AttendArgs& a = job.args;
  const auto count_tasks = [&](int joint_heads) {  // of one split
    job.joint_heads = joint_heads;
    job.n_head_tiles = static_cast<int>(ceil_div(a.n_kv_heads, joint_heads));
    return int64_t{job.n_tiles} * job.n_head_tiles;
  };
  int64_t n_tasks = count_tasks(joint_heads(a, job.tile_tokens * job.group));
  cut(job, n_tasks, kFewSplitKeys, kFewSplitTasks);
  const int64_t wanted = int64_t{kFewTasks} * static_cast<const Threads*>(job.stream.backend)->n_threads();
  while (job.joint_heads > 1 && n_tasks * job.n_splits < wanted) n_tasks = count_tasks(job.joint_heads / 2);
  run_splits<attend_few_task<Few>>(job, n_tasks);
}

template <class Many> void attend_many(AttendJob& job) {
  job.n_head_tiles = static_cast<int>(ceil_div(job.group, job.tile_heads));
  const int64_t n_tasks = int64_t{job.n_tiles} * job.args.n_kv_heads * job.n_head_tiles;
  cut(job, n_tasks, kSplitKeys, kSplitTasks);
  run_splits<attend_task<Many>>(job, n_tasks);
}

// n_slots: where args has no ranges.
template <class Many> AttendJob plan(Stream& stream, const AttendArgs& args, int n_slots) {
  AttendJob job{stream, args, n_slots, args.n_heads / args.n_kv_heads, 0, 0, 0, 0, 1, 1, nullptr};
  const int most = most_rows<Many>(args.head_dim), n_run = longest_run(job);
  job.tile_heads = std::min(job.group, most);
  const int n_cuts = static_cast<int>(ceil_div(n_run, most / job.tile_heads));
  job.tile_tokens = static_cast<int>(ceil_div(n_run, n_cuts));  // the tiles of a run are of one size
  job.n_tiles = static_cast<int>(ceil_div(args.n_tokens, job.tile_tokens));
  return job;
}

template <class Few, class Many> void attend_keys(Stream& stream, const AttendArgs& args, int n_slots) {
  if (args.n_tokens <= 0 || args.n_heads <= 0) return;
  AttendJob job = plan<Many>(stream, args, n_slots);
  if (is_few(args, job.tile_tokens * job.group)) attend_few<Few>(job);
  else attend_many<Many>(job);
}

inline void attend(Stream& stream, const AttendArgs& args) { attend_keys<FewFloats, ManyFloats>(stream, args, 0); }
