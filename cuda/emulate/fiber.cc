#include "cuda/emulate/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__x86_64__)
asm(R"(
  .text
  .globl banyan_switch_stack
  .hidden banyan_switch_stack
  .type banyan_switch_stack, @function
banyan_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size banyan_switch_stack, .-banyan_switch_stack
)");
#elif defined(__aarch64__)
asm(R"(
  .text
  .globl banyan_switch_stack
  .hidden banyan_switch_stack
  .type banyan_switch_stack, %function
banyan_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
  .size banyan_switch_stack, .-banyan_switch_stack
)");
#else
#error "The emulator switches stacks on x86-64 and aarch64 only"
#endif

namespace banyan::emulate {
namespace {

constexpr size_t kGuardBytes = 64 * 1024;  // a multiple of every page size

}  // namespace

Stack::Stack() {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
  mprotect(memory_, kGuardBytes, PROT_NONE);
}

Stack::~Stack() { munmap(memory_, kGuardBytes + kStackBytes); }

void* Stack::start(void (*entry)()) const {
  auto* top = reinterpret_cast<uint64_t*>(memory_ + kGuardBytes + kStackBytes);
#if defined(__x86_64__)
  // A function begins with its return address on the stack, at 8 modulo 16.
  uint64_t* sp = top - 1;
  *sp = 0;
  *--sp = reinterpret_cast<uint64_t>(entry);  // where `ret` goes
  sp -= 6;
  for (int i = 0; i < 6; ++i) sp[i] = 0;
#else
  uint64_t* sp = top - 20;
  for (int i = 0; i < 20; ++i) sp[i] = 0;
  sp[11] = reinterpret_cast<uint64_t>(entry);  // x30
#endif
  return sp;
}

bool Stack::has_guard_at(const void* address) const { return address >= memory_ && address < memory_ + kGuardBytes; }

}  // namespace banyan::emulate
