#include "cuda/emulate/block.h"

#include <sys/mman.h>

#include <bit>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>

#include "cuda/emulate/fiber.h"

namespace banyan::emulate {

Thread* current = nullptr;
uint3 block_index{};
dim3 block_shape, grid_shape;

namespace {

constexpr int kWarp = 32, kMaxThreads = 1024;
constexpr uint32_t kFull = 0xFFFFFFFFu;
constexpr size_t kMaxShared = 227 * 1024;  // what sm_90 gives a block

struct Warp {
  uint32_t ready = kFull, met = 0, at_barrier = 0, ended = 0;
  void* slots[kWarp] = {};
  Where where;  // of those in `met`
  const char* what = "";
  Where lane_where[kWarp];  // for the report
};

// Dynamic shared memory ends at a page that faults, so its start moves with its size.
class SharedArena {
 public:
  SharedArena() {
    memory_ = static_cast<unsigned char*>(mmap(nullptr, kBytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(memory_ + kPage, kBytes, PROT_READ | PROT_WRITE);
  }
  unsigned char* start(size_t n_bytes) const { return memory_ + kPage + kBytes - (n_bytes + 127) / 128 * 128; }

 private:
  static constexpr size_t kPage = 64 * 1024, kBytes = 256 * 1024;
  unsigned char* memory_;
};

struct Machine {
  std::vector<std::unique_ptr<Stack>> stacks;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  SharedArena arena;
  void* scheduler = nullptr;  // its stack pointer while a fiber runs
  Shape shape{};
  const Body* body = nullptr;
  uint64_t block_serial = 0;
  std::unordered_map<const void*, uint64_t> shared_seen;  // static shared memory: the block it was filled for
  Where barrier_where;
  int n_at_barrier = 0, votes = 0, vote_result = 0;
  std::string failure;
};

Machine& machine() {
  static Machine machine;
  return machine;
}

void to_scheduler() {
  Machine& m = machine();
  Thread* self = current;
  banyan_switch_stack(&self->stack_pointer, m.scheduler);
}

bool is_same(const Where& a, const Where& b) {
  if (a.line() != b.line() || a.column() != b.column()) return false;
  return a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0;  // mostly the very same literal
}

std::string text_of(const Where& where) { return std::string(where.file_name()) + ":" + std::to_string(where.line()); }

std::string text_of(const uint3& at) {
  char text[40];
  std::snprintf(text, sizeof text, "(%u, %u, %u)", at.x, at.y, at.z);
  return text;
}

void thread_entry() {
  Machine& m = machine();
  (*m.body)();
  Thread* self = current;
  Warp& warp = m.warps[static_cast<size_t>(self->warp)];
  warp.ready &= ~(1u << self->lane);
  warp.ended |= 1u << self->lane;
  to_scheduler();
}

void begin_block(const Shape& shape) {
  Machine& m = machine();
  const unsigned n_threads = shape.block.x * shape.block.y * shape.block.z;
  ++m.block_serial;
  m.n_at_barrier = m.votes = 0;
  std::memset(m.arena.start(shape.shared_bytes), 0xFF, (shape.shared_bytes + 127) / 128 * 128);
  for (unsigned i = 0; i < n_threads; ++i) {
    Thread& thread = m.threads[i];
    thread.index = {i % shape.block.x, i / shape.block.x % shape.block.y, i / (shape.block.x * shape.block.y)};
    thread.warp = static_cast<int>(i / kWarp);
    thread.lane = static_cast<int>(i % kWarp);
    thread.n_groups = 0;
    thread.late_copies.clear();
    thread.stack_pointer = m.stacks[i]->start(thread_entry);
  }
  for (Warp& warp : m.warps) {
    warp.ready = kFull;
    warp.met = warp.at_barrier = warp.ended = 0;
  }
}

std::string describe_wait() {
  const Machine& m = machine();
  std::string text = "threads wait for each other:";
  for (size_t w = 0; w < m.warps.size(); ++w) {
    const Warp& warp = m.warps[w];
    char line[200];
    std::snprintf(line, sizeof line, "\n  warp %zu:", w);
    text += line;
    if (warp.ended != 0) {
      std::snprintf(line, sizeof line, " lanes %08x have ended", warp.ended);
      text += line;
    }
    if (warp.met != 0) {
      std::snprintf(line, sizeof line, " lanes %08x at %s ", warp.met, warp.what);
      text += line + text_of(warp.where);
    }
    if (warp.at_barrier != 0) {
      std::snprintf(line, sizeof line, " lanes %08x at a barrier ", warp.at_barrier);
      text += line + text_of(warp.lane_where[std::countr_zero(warp.at_barrier)]);
    }
  }
  return text;
}

void run(Thread& thread) {
  Machine& m = machine();
  current = &thread;
  banyan_switch_stack(&m.scheduler, thread.stack_pointer);
  current = nullptr;
}

// The order of the threads differs from block to block: forward, backward, and from another warp on, so that a missing barrier shows.
void run_block(const Shape& shape, bool* has_failed) {
  Machine& m = machine();
  begin_block(shape);
  const size_t n_warps = m.warps.size();
  const uint64_t mixed = m.block_serial * 0x9E3779B97F4A7C15u >> 32;
  const bool is_backward = (mixed & 1) != 0;
  const size_t first = (mixed >> 1) % n_warps;
  for (;;) {
    bool is_any_run = false;
    for (size_t i = 0; i < n_warps; ++i) {
      const size_t w = (first + (is_backward ? n_warps - i : i)) % n_warps;
      Warp& warp = m.warps[w];
      while (warp.ready != 0) {
        const int lane = is_backward ? 31 - std::countl_zero(warp.ready) : std::countr_zero(warp.ready);
        run(m.threads[w * kWarp + static_cast<size_t>(lane)]);
        is_any_run = true;
        if (!m.failure.empty()) {
          *has_failed = true;
          return;
        }
      }
    }
    if (is_any_run) continue;
    bool is_ended = true;
    for (const Warp& warp : m.warps) is_ended = is_ended && warp.ended == kFull;
    if (is_ended) return;
    m.failure = text_of(shape.where) + ": block " + text_of(block_index) + ": " + describe_wait();
    *has_failed = true;
    return;
  }
}

}  // namespace

void fail(const Where& where, const char* what) {
  Machine& m = machine();
  m.failure =
      text_of(m.shape.where) + ": block " + text_of(block_index) + ", thread " + text_of(current->index) + ": " + what + " at " + text_of(where);
  to_scheduler();
  __builtin_unreachable();
}

bool warp_meet(void* mine, const Where& where, const char* what) {
  Thread* self = current;
  Warp& warp = machine().warps[static_cast<size_t>(self->warp)];
  const uint32_t bit = 1u << self->lane;
  if (warp.met == 0) {
    warp.where = where;
    warp.what = what;
  } else if (!is_same(warp.where, where)) {
    fail(where, (std::string(what) + " while other lanes of the warp are at " + warp.what + " " + text_of(warp.where) + "; this one is").c_str());
  }
  warp.slots[self->lane] = mine;
  warp.met |= bit;
  if (warp.met == kFull) return true;
  warp.ready &= ~bit;
  to_scheduler();
  return false;
}

void** warp_slots() { return machine().warps[static_cast<size_t>(current->warp)].slots; }

void warp_continue() {
  Warp& warp = machine().warps[static_cast<size_t>(current->warp)];
  warp.met = 0;
  warp.ready = kFull;
}

int block_meet(int vote, const Where& where) {
  Machine& m = machine();
  Thread* self = current;
  Warp& warp = m.warps[static_cast<size_t>(self->warp)];
  const uint32_t bit = 1u << self->lane;
  if (m.n_at_barrier == 0) m.barrier_where = where;
  else if (!is_same(m.barrier_where, where))
    fail(where, ("barrier while other threads of the block are at the barrier of " + text_of(m.barrier_where) + "; this one is").c_str());
  m.votes += vote;
  warp.lane_where[self->lane] = where;
  warp.at_barrier |= bit;
  warp.ready &= ~bit;
  if (++m.n_at_barrier == static_cast<int>(m.warps.size()) * kWarp) {
    m.vote_result = m.votes;
    m.votes = m.n_at_barrier = 0;
    for (Warp& each : m.warps) {
      each.at_barrier = 0;
      each.ready = kFull;
    }
  } else {
    to_scheduler();
  }
  return m.vote_result;
}

unsigned char* dynamic_shared() {
  Machine& m = machine();
  return m.arena.start(m.shape.shared_bytes);
}

void fresh_shared(void* memory, size_t n_bytes) {
  Machine& m = machine();
  uint64_t& seen = m.shared_seen[memory];
  if (seen == m.block_serial) return;
  seen = m.block_serial;
  std::memset(memory, 0xFF, n_bytes);
}

// The target is poisoned at once and written when it is waited for: reading too early, or writing over what others still read, shows.
void copy_late(void* shared, const void* global, const Where& where) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0)
    fail(where, "cp_async16 of an unaligned address");
  std::memset(shared, 0xFF, 16);
  current->late_copies.push_back({shared, global, current->n_groups});
}

void commit_late_copies() { ++current->n_groups; }

void finish_late_copies(int n_left) {
  Thread& self = *current;
  size_t n_done = 0;
  for (; n_done < self.late_copies.size() && self.late_copies[n_done].group < self.n_groups - n_left; ++n_done) {
    const LateCopy& copy = self.late_copies[n_done];
    if (copy.global == nullptr) std::memset(copy.shared, 0, 16);
    else std::memcpy(copy.shared, copy.global, 16);
  }
  self.late_copies.erase(self.late_copies.begin(), self.late_copies.begin() + static_cast<std::ptrdiff_t>(n_done));
}

const char* run_grid(const Shape& shape, const Body& body) {
  Machine& m = machine();
  m.failure.clear();
  const size_t n_threads = size_t{shape.block.x} * shape.block.y * shape.block.z;
  const size_t n_blocks = size_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  if (n_threads == 0 || n_threads > kMaxThreads || n_threads % kWarp != 0) m.failure = "a block has 32 to 1024 threads, in whole warps";
  if (n_blocks == 0 || shape.grid.x > 0x7FFFFFFFu || shape.grid.y > 65535 || shape.grid.z > 65535)
    m.failure = "a grid is 1 to 2^31 - 1 blocks wide, y and z up to 65535";
  if (shape.shared_bytes > kMaxShared) m.failure = "a block has at most 227 KiB of shared memory";
  if (!m.failure.empty()) {
    m.failure = text_of(shape.where) + ": " + m.failure;
    return m.failure.c_str();
  }
  m.shape = shape;
  m.body = &body;
  while (m.stacks.size() < n_threads) m.stacks.push_back(std::make_unique<Stack>());
  m.threads.resize(n_threads);
  m.warps.resize(n_threads / kWarp);
  grid_shape = shape.grid;
  block_shape = shape.block;
  bool has_failed = false;
  for (size_t i = 0; i < n_blocks && !has_failed; ++i) {
    block_index = {static_cast<unsigned>(i % shape.grid.x), static_cast<unsigned>(i / shape.grid.x % shape.grid.y),
        static_cast<unsigned>(i / (size_t{shape.grid.x} * shape.grid.y))};
    run_block(shape, &has_failed);
  }
  return m.failure.c_str();
}

}  // namespace banyan::emulate
