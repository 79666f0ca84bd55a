// scheduler: the one engine thread of a model. Jobs take turns, one slice each, so that a long compression never starves a chat.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "banyan.h"

namespace banyan {

class Job {
 public:
  explicit Job(CancelFlag flag) : cancel(flag ? std::move(flag) : std::make_shared<std::atomic<bool>>(false)) {}
  virtual ~Job() = default;
  // One slice of work; true when the job is complete. May throw.
  virtual bool step() = 0;
  // Called exactly once, last: null on success. Must not throw.
  virtual void finish(const Error* error) = 0;
  const CancelFlag cancel;
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
    CancelFlag running;  // of the job in its slice
    std::atomic<bool> is_closed = false;
  };
  static void loop(const std::shared_ptr<State>& state);
  static bool run_slice(Job& job, const State& state);
  std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace banyan
