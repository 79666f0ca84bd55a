// block: runs the threads of one block as fibers. A warp collective (shuffle, vote, ldmatrix, mma) and the block's barrier are places where
// threads meet: whoever comes last does the work for all. If threads wait at different places, or some have ended, the launch fails and says
// where; nothing hangs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <vector>

#include "cuda/emulate/types.h"

namespace banyan::emulate {

using Where = std::source_location;

// What a copy of cp_async16 will do once it is waited for.
struct LateCopy {
  void* shared;
  const void* global;  // null: zeros
  int group;           // commits of the thread before it
};

struct Thread {
  void* stack_pointer = nullptr;
  uint3 index{};
  int warp = 0, lane = 0;
  int n_groups = 0;  // cp_async_commit so far
  std::vector<LateCopy> late_copies;
};

extern Thread* current;  // the thread that runs; null outside of kernels
extern uint3 block_index;
extern dim3 block_shape, grid_shape;

// Ends the launch with a message that names kernel, block and thread. Does not return to the kernel.
[[noreturn]] void fail(const Where& where, const char* what);

// Waits for the other 31 lanes; all must come to the same place. True for the last one, which does the work and then calls warp_continue().
bool warp_meet(void* mine, const Where& where, const char* what);
void** warp_slots();   // what each lane handed to warp_meet
void warp_continue();  // lets the other lanes go on

// Each lane hands in one argument; `all` sees the 32 of them.
template <class Argument, class All> void warp_collective(Argument& mine, const Where& where, const char* what, All&& all) {
  if (!warp_meet(&mine, where, what)) return;
  all(reinterpret_cast<Argument**>(warp_slots()));
  warp_continue();
}

// Waits for all threads of the block. `vote` of all threads: their sum is returned.
int block_meet(int vote, const Where& where);

// Dynamic shared memory of the block, 128-byte aligned; behind its end (rounded up to 128) and before its start access faults.
unsigned char* dynamic_shared();

// Static shared memory: filled with NaN when the first thread of a block comes by.
void fresh_shared(void* memory, size_t n_bytes);

void copy_late(void* shared, const void* global, const Where& where);
void commit_late_copies();
void finish_late_copies(int n_left);  // all groups but the n_left latest

struct Shape {
  dim3 grid, block;
  size_t shared_bytes;
  Where where;
};

// A kernel with its arguments, which it owns; called once per thread.
using Body = std::function<void()>;

// Returns an empty string or what went wrong.
const char* run_grid(const Shape& shape, const Body& body);

}  // namespace banyan::emulate
