// fiber: a stack of its own and a switch between stacks, by hand: nothing but the registers that a call must keep. Linux on x86-64 and aarch64.
#pragma once

#include <cstddef>

// Stores the caller's stack pointer in *from and continues where `to` was stored.
extern "C" void banyan_switch_stack(void** from, void* to);

namespace banyan::emulate {

constexpr size_t kStackBytes = 256 * 1024;  // generous: only touched pages cost memory, and checked builds need a lot

// A stack with a page below it that faults, so that a deep recursion or a huge local array is seen.
class Stack {
 public:
  Stack();
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  // A stack pointer that, switched to, calls `entry`; `entry` never returns.
  void* start(void (*entry)()) const;
  bool has_guard_at(const void* address) const;

 private:
  char* memory_;  // the guard page, then kStackBytes
};

}  // namespace banyan::emulate
