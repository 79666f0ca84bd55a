#include "engine/scheduler.h"

#include <new>

namespace banyan {

namespace {

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
    if (state_->running) state_->running->store(true);
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
    std::unique_ptr<Job> job = std::move(state->jobs.front());
    state->jobs.pop_front();
    state->running = job->cancel;
    lock.unlock();
    const bool is_done = run_slice(*job, *state);
    if (is_done) job.reset();  // may drop the last reference to the model, hence outside the lock
    lock.lock();
    state->running.reset();
    if (!is_done) state->jobs.push_back(std::move(job));
  }
  std::deque<std::unique_ptr<Job>> left = std::move(state->jobs);
  state->jobs.clear();
  lock.unlock();
  for (auto& job : left) {
    job->finish(&kClosed);
    job.reset();
  }
}

// True once the job has been finished.
bool Scheduler::run_slice(Job& job, const State& state) {
  const auto end = [&](const Error& error) {
    job.finish(state.is_closed ? &kClosed : &error);
    return true;
  };
  try {
    if (*job.cancel) return end(Error(Code::kAborted, "aborted"));
    if (!job.step()) return false;
  } catch (const Error& error) { return end(error); } catch (const std::bad_alloc&) {
    return end(Error(Code::kOutOfMemory, "out of memory"));
  } catch (const std::exception& error) { return end(Error(Code::kInternal, error.what())); }
  job.finish(nullptr);
  return true;
}

}  // namespace banyan
