#include "engine/scheduler.h"

#include <new>

namespace banyan {

namespace {

constexpr size_t kMostShared = 32;  // jobs of one slice: rows of one matrix product

const Error kClosed(Code::kDisposed, "the model was disposed");

}  // namespace

Scheduler::Scheduler() : state_(std::make_shared<State>()), thread_([state = state_] { loop(state); }) {}

Scheduler::~Scheduler() { close(); }

void Scheduler::post(std::unique_ptr<Job> job) {
  {
    const std::lock_guard lock(state_->mutex);
    if (!state_->is_closed) {
      state_->jobs.push_back(std::move(job));
      state_->wake.notify_one();
      return;
    }
  }
  job->finish(&kClosed);
}

void Scheduler::close() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->is_closed = true;
    for (const CancelFlag& flag : state_->running) flag->store(true);
    state_->wake.notify_one();
  }
  if (!thread_.joinable()) return;
  if (thread_.get_id() == std::this_thread::get_id()) thread_.detach();
  else thread_.join();
}

void Scheduler::loop(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  while (!state->is_closed) {
    if (state->jobs.empty()) {
      state->wake.wait(lock);
      continue;
    }
    std::vector<std::unique_ptr<Job>> jobs = take_jobs(*state);
    std::vector<SharedSlice> slices;
    for (const auto& job : jobs) {
      slices.push_back({job.get(), false, {}});
      state->running.push_back(job->cancel);
    }
    lock.unlock();
    run_slices(slices);
    for (size_t i = 0; i < jobs.size(); ++i) {
      if (!slices[i].is_done && !slices[i].error) continue;
      end(*jobs[i], *state, slices[i].error);
      jobs[i].reset();  // may drop the last reference to the model, hence outside the lock
    }
    lock.lock();
    state->running.clear();
    for (auto& job : jobs) {
      if (job) state->jobs.push_back(std::move(job));
    }
  }
  std::deque<std::unique_ptr<Job>> left = std::move(state->jobs);
  state->jobs.clear();
  lock.unlock();
  for (auto& job : left) {
    job->finish(&kClosed);
    job.reset();
  }
}

// The next job; if its slice can be shared, with all waiting ones of its kind, up to kMostShared.
std::vector<std::unique_ptr<Job>> Scheduler::take_jobs(State& state) {
  std::vector<std::unique_ptr<Job>> taken;
  taken.push_back(std::move(state.jobs.front()));
  state.jobs.pop_front();
  if (!taken[0]->can_share()) return taken;
  std::deque<std::unique_ptr<Job>> left;
  for (auto& job : state.jobs) {
    if (taken.size() < kMostShared && job->can_share()) taken.push_back(std::move(job));
    else left.push_back(std::move(job));
  }
  state.jobs = std::move(left);
  return taken;
}

void Scheduler::run_slices(std::span<SharedSlice> slices) {
  if (slices.size() > 1) return slices[0].job->step_shared(slices);
  SharedSlice& slice = slices[0];
  try {
    if (*slice.job->cancel) throw Error(Code::kAborted, "aborted");
    slice.is_done = slice.job->step();
  } catch (...) { slice.error = std::current_exception(); }
}

void Job::step_shared(std::span<SharedSlice> slices) {
  for (SharedSlice& slice : slices) Scheduler::run_slices({&slice, 1});
}

void Scheduler::end(Job& job, const State& state, const std::exception_ptr& error) {
  const auto fail = [&](const Error& reason) { job.finish(state.is_closed ? &kClosed : &reason); };
  try {
    if (error) std::rethrow_exception(error);
  } catch (const Error& reason) { return fail(reason); } catch (const std::bad_alloc&) {
    return fail(Error(Code::kOutOfMemory, "out of memory"));
  } catch (const std::exception& reason) { return fail(Error(Code::kInternal, reason.what())); }
  job.finish(nullptr);
}

}  // namespace banyan
