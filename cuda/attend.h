// attend: how attention is computed; ops.h has the op itself. Needs no CUDA headers, so that tests may choose.
#pragma once

#include "device/ops.h"

namespace banyan::cuda {

// kAuto is what the op uses; the others are for tests and measurements. kMma and kSplit fall back to kExact where they cannot be: F32 keys, head
// dims that are no multiple of 8 or beyond 256, unaligned addresses.
enum class AttendPath { kAuto, kExact, kSplit, kMma };

struct AttendChoice {
  AttendPath path = AttendPath::kAuto;
  int n_splits = 0;  // 0: as many as fill the device; otherwise so many, however few keys each may have
};

// attend of ops.h; with kv_begin and kv_end null, every token sees keys 0 .. n_slots - 1 (inject).
void attend_by(Stream& stream, const AttendArgs& args, int n_slots, const AttendChoice& choice);

}  // namespace banyan::cuda
