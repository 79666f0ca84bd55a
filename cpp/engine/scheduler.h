// scheduler: the one engine thread of a model. Jobs take turns, one slice each, so that a long compression never starves a chat. Jobs that can share a
// slice (the next token of several sessions) do: then the weights are read once for all of them.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "banyan.h"

namespace banyan {

class Job {
 public:
  explicit Job(CancelFlag flag) : cancel(flag ? std::move(flag) : std::make_shared<std::atomic<bool>>(false)) {}
  virtual ~Job() = default;
  // One slice of work; true when the job is complete. May throw.
  virtual bool step() = 0;
  // Whether the next slice can be shared with other jobs that say so. One of them is then asked to take it for all.
  virtual bool can_share() const { return false; }
  // One slice of all these jobs, this one among them; sets each one's end. Throws nothing of a single job.
  virtual void step_shared(std::span<struct SharedSlice> slices);
  // Called exactly once, last: null on success. Must not throw.
  virtual void finish(const Error* error) = 0;
  const CancelFlag cancel;
};

// A job's part of a shared slice.
struct SharedSlice {
  Job* job;
  bool is_done = false;
  std::exception_ptr error;  // ends the job
};

class Scheduler {
 public:
  Scheduler();
  ~Scheduler();  // as close()
  // After close() the job is finished at once with kDisposed, on the calling thread.
  void post(std::unique_ptr<Job> job);
  // Ends running and waiting jobs with kDisposed and joins the thread (unless called on it). Idempotent.
  void close();

 private:
  struct State {  // shared with the thread, which may outlive the scheduler when it drops the last reference itself
    std::mutex mutex;
    std::condition_variable wake;
    std::deque<std::unique_ptr<Job>> jobs;
    std::vector<CancelFlag> running;  // of the jobs in their slice
    std::atomic<bool> is_closed = false;
  };
  static void loop(const std::shared_ptr<State>& state);
  friend class Job;
  static std::vector<std::unique_ptr<Job>> take_jobs(State& state);
  static void run_slices(std::span<SharedSlice> slices);  // throws nothing
  static void end(Job& job, const State& state, const std::exception_ptr& error);
  std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace banyan
