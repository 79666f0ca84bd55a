// threads: the pool a CPU device owns. Fixed workers, the caller takes part, a task cannot throw. Each thread has a share of neighbouring tasks, claimed
// one by one in order, and helps with others' shares when its own is done: weights are then read front to back by each, which memory gives faster than
// pieces read in turns.
// What a task computes must not depend on who runs it, so results never depend on the number of threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace banyan {

class Threads {
 public:
  // Private memory of whoever runs a task, 64-byte aligned; its content does not survive the task. The largest user is the tile of attend
  // at kMaxHeadDim, which needs just under 1 MiB; pages that are never touched cost nothing.
  static constexpr size_t kScratchBytes = size_t{1} << 20;
  // Memory that the phases of one run share. Partial softmax states: 4 MiB is 16 key splits of 1 token with 128 heads of 510 dims. x of a gemm, in rounds of as many
  // tokens as fit: 12 MiB is 256 tokens x 8192 in three terms of bf16.
  static constexpr size_t kSharedBytes = size_t{12} << 20;

  // Tasks 0..n_tasks-1, each exactly once, in any order, concurrently.
  struct Phase {
    int n_tasks;
    void (*task)(const void* context, int index, std::byte* scratch) noexcept;
    const void* context;
  };

  // n_threads >= 1 counts the caller: 1 has no workers. Throws Error{kOutOfMemory}.
  explicit Threads(int n_threads);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  // Runs the phases one after another; all tasks of a phase are done (and visible) before the next starts. May be called from any thread; calls
  // take turns.
  void run(const Phase* phases, int n_phases) noexcept;

  int n_threads() const { return n_threads_; }
  std::byte* shared() const { return shared_; }  // only inside run

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };

  // The tasks of one thread that nobody has claimed yet; a cache line of its own, because others only look at it at the end.
  struct alignas(64) Share {
    std::atomic<int> n_left{0};
  };

  int share_end(int thread) const;                        // of the phase's tasks
  bool run_one(int thread, std::byte* scratch) noexcept;  // from the share of `thread`; false: nothing left to claim
  void run_all(int thread) noexcept;
  void work(int thread) noexcept;
  std::byte* scratch_of(int thread) const { return memory_.get() + static_cast<size_t>(thread) * kScratchBytes; }

  const int n_threads_;
  std::unique_ptr<std::byte, Free> memory_;
  std::byte* shared_ = nullptr;
  std::mutex turn_;
  std::vector<Share> shares_;
  Phase phase_{};                              // written only while nothing is left to claim and nothing runs
  alignas(64) std::atomic<int> n_rounds_{0};   // phases begun, which workers wait for
  std::atomic<bool> is_stopped_{false};        // ends the workers, who see it after a change of n_rounds_
  alignas(64) std::atomic<int> n_running_{0};  // tasks not yet told to be done
  std::vector<std::thread> workers_;
};

}  // namespace banyan
