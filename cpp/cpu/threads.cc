#include "cpu/threads.h"

#include <new>
#include <string>
#include <system_error>

#include "base/error.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace banyan {
namespace {

// A worker spins about 20-50 us before it sleeps: longer than the gap between two ops of a decode step, far shorter than a time slice.
constexpr int kSpins = 1500;

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  __asm__ volatile("isb");  // `yield` is a no-op on most cores; isb takes about as long as x86's pause
#endif
}

}  // namespace

void Threads::Free::operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{64}); }

Threads::Threads(int n_threads) : n_threads_(n_threads), shares_(static_cast<size_t>(n_threads)) {
  const size_t n_bytes = kSharedBytes + static_cast<size_t>(n_threads) * kScratchBytes;
  memory_.reset(static_cast<std::byte*>(::operator new (n_bytes, std::align_val_t{64}, std::nothrow)));
  if (!memory_) throw Error(Code::kOutOfMemory, "Cannot allocate " + std::to_string(n_bytes) + " bytes for CPU scratch memory");
  shared_ = memory_.get() + static_cast<size_t>(n_threads) * kScratchBytes;
  try {
    workers_.reserve(static_cast<size_t>(n_threads - 1));
    for (int i = 1; i < n_threads; ++i) workers_.emplace_back(&Threads::work, this, i);
  } catch (const std::system_error&) {
    // The system refuses more threads: those that did start do all the work.
  }
}

Threads::~Threads() {
  is_stopped_.store(true, std::memory_order_relaxed);
  n_rounds_.fetch_add(1, std::memory_order_release);
  n_rounds_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Threads::run(const Phase* phases, int n_phases) noexcept {
  const std::lock_guard hold(turn_);
  for (const Phase* phase = phases; phase != phases + n_phases; ++phase) {
    if (workers_.empty() || phase->n_tasks == 1) {  // one task is not worth waking anybody
      for (int i = 0; i < phase->n_tasks; ++i) phase->task(phase->context, i, scratch_of(0));
      continue;
    }
    if (phase->n_tasks <= 0) continue;
    phase_ = *phase;
    n_running_.store(phase->n_tasks, std::memory_order_relaxed);
    for (int i = 0; i < n_threads_; ++i) { shares_[static_cast<size_t>(i)].n_left.store(share_end(i) - share_end(i - 1), std::memory_order_release); }
    n_rounds_.fetch_add(1, std::memory_order_release);
    n_rounds_.notify_all();
    run_all(0);
    for (int spins = 0; n_running_.load(std::memory_order_acquire) != 0; ++spins) {
      if (spins < kSpins) {
        pause();
        continue;
      }
      const int n_running = n_running_.load(std::memory_order_acquire);
      if (n_running != 0) n_running_.wait(n_running, std::memory_order_acquire);
    }
  }
}

int Threads::share_end(int thread) const { return static_cast<int>(int64_t{phase_.n_tasks} * (thread + 1) / n_threads_); }

// The claim comes first: having claimed a task of a phase is what makes phase_ safe to read, because the caller cannot move on without it.
bool Threads::run_one(int thread, std::byte* scratch) noexcept {
  std::atomic<int>& left = shares_[static_cast<size_t>(thread)].n_left;
  int n_left = left.load(std::memory_order_relaxed);
  do {
    if (n_left <= 0) return false;
  } while (!left.compare_exchange_weak(n_left, n_left - 1, std::memory_order_acquire, std::memory_order_relaxed));
  phase_.task(phase_.context, share_end(thread) - n_left, scratch);
  return true;
}

// Its own share, then what others have left. What it did it tells once, at the end, for that memory is everybody's; until then no other phase can begin, so all of it
// was of this one.
void Threads::run_all(int thread) noexcept {
  int n_done = 0;
  for (int i = 0; i < n_threads_; ++i) {
    while (run_one((thread + i) % n_threads_, scratch_of(thread))) ++n_done;
  }
  if (n_done > 0 && n_running_.fetch_sub(n_done, std::memory_order_acq_rel) == n_done) n_running_.notify_one();
}

void Threads::work(int thread) noexcept {
  for (int seen = 0;;) {
    int n_rounds = n_rounds_.load(std::memory_order_acquire);
    for (int spins = 0; spins < kSpins && n_rounds == seen; ++spins) {
      pause();
      n_rounds = n_rounds_.load(std::memory_order_acquire);
    }
    if (n_rounds == seen) {
      n_rounds_.wait(seen, std::memory_order_acquire);
      continue;
    }
    if (is_stopped_.load(std::memory_order_relaxed)) return;
    seen = n_rounds;
    run_all(thread);
  }
}

}  // namespace banyan
