// gemm_plan: a gemm as two phases that are yet to run, so that those of matrices that meet the same x can run as two together.

// x made ready, then the rows of weights. It holds the job that the phases point to.
class GemmPlan {
 public:
  GemmPlan() = default;
  GemmPlan(const GemmPlan&) = delete;
  GemmPlan& operator=(const GemmPlan&) = delete;

  template <class Job> const Job& keep(const Job& job) {
    static_assert(sizeof(Job) <= sizeof job_ && std::is_trivially_destructible_v<Job>);
    return *new (job_) Job(job);
  }
  void run(Threads& threads) const {
    const Threads::Phase phases[] = {prepare, multiply};
    threads.run(phases, 2);
  }

  Threads::Phase prepare{}, multiply{};
  std::byte* x = nullptr;  // what `prepare` makes, in the memory that phases share
  int64_t x_bytes = 0;

 private:
  alignas(16) std::byte job_[96];
};

// Phases that need not wait for each other, as one.
struct JointPhase {
  Threads::Phase parts[kMostTogether];
  int n_parts = 0, n_tasks = 0;

  void add(const Threads::Phase& part) {
    parts[n_parts++] = part;
    n_tasks += part.n_tasks;
  }
  static void call(const void* joint, int index, std::byte* scratch) noexcept {
    const Threads::Phase* part = static_cast<const JointPhase*>(joint)->parts;
    for (; index >= part->n_tasks; ++part) index -= part->n_tasks;
    part->task(part->context, index, scratch);
  }
  Threads::Phase phase() const { return {n_tasks, &call, this}; }
};

inline int64_t weight_bytes(const GemmArgs& a) { return a.w.rows * static_cast<int64_t>(row_bytes(a.w.dtype, a.w.cols)); }

// False, and nothing has run: kPlan cannot plan one of them, or not in the memory that phases share. Of one format x is made ready once.
template <bool (*kPlan)(const Stream&, const GemmArgs&, int64_t all_bytes, std::byte* x, GemmPlan&)>
bool run_together(Stream& stream, const GemmArgs* all, int n) {
  Threads& threads = *static_cast<Threads*>(stream.backend);
  GemmPlan plans[kMostTogether];
  JointPhase prepare, multiply;
  int64_t all_bytes = 0, used = 0;
  for (int i = 0; i < n; ++i) all_bytes += weight_bytes(all[i]);
  for (int i = 0; i < n; ++i) {
    const auto* same = std::find_if(all, all + i, [&](const GemmArgs& a) { return a.w.dtype == all[i].w.dtype; });
    GemmPlan& plan = plans[i];
    plan.x = same != all + i ? plans[same - all].x : threads.shared() + used;
    if (!kPlan(stream, all[i], all_bytes, plan.x, plan)) return false;
    multiply.add(plan.multiply);
    if (same != all + i) continue;
    prepare.add(plan.prepare);
    used += round_up(plan.x_bytes, 64);
    if (used > static_cast<int64_t>(Threads::kSharedBytes)) return false;
  }
  const Threads::Phase phases[] = {prepare.phase(), multiply.phase()};
  threads.run(phases, 2);
  return true;
}
