// backend: what an op finds behind Stream::backend: the stream, what the device can, scratch memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/runtime.h"
#include "device/ops.h"

namespace banyan::cuda {

// Scratch of one stream: one buffer, handed to one op at a time. The next call may hand out the same memory: the ops of a stream run one after
// another.
class Scratch {
 public:
  explicit Scratch(cudaStream_t stream) : stream_(stream) {}
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // 64-byte aligned at least, content undefined; null if the device has no memory left: the op then does nothing, and sync() throws
  // kOutOfMemory.
  void* take(size_t n_bytes);

  // A buffer of n zeroed counters that stays: for blocks that count themselves. Who uses them leaves zeros behind. Null as above.
  unsigned* counters(size_t n);

  // Bytes that could not be had, 0 if none; asking forgets.
  size_t missing_bytes();

  // Another number whenever what take() or counters() hand out may lie elsewhere than before.
  uint64_t generation() const { return generation_; }

  // While one lives, take() and counters() give null where there is not enough, instead of growing; nothing is missing then.
  class Held {
   public:
    explicit Held(Scratch& scratch) : scratch_(scratch) { scratch_.is_held_ = true, scratch_.was_short_ = false; }
    ~Held() { scratch_.is_held_ = false; }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    bool was_short() const { return scratch_.was_short_; }

   private:
    Scratch& scratch_;
  };

 private:
  bool can_grow();
  void* grow(void* memory, size_t& n_bytes, size_t wanted);

  cudaStream_t stream_;
  void* memory_ = nullptr;
  void* counters_ = nullptr;
  size_t n_bytes_ = 0, counter_bytes_ = 0, missing_ = 0;
  uint64_t generation_ = 0;
  bool is_held_ = false, was_short_ = false;
};

struct Backend {
  cudaStream_t stream;
  int device_index;
  int sm_count;             // streaming multiprocessors
  int compute_capability;   // 90: 9.0
  size_t shared_per_block;  // bytes a block may have if the kernel opts in
  bool is_exact;            // f32 everywhere: no rounding of activations, no tensor cores
  Scratch& scratch;
};

// Makes the device that of the calling thread; cheap where it already is.
void use_device(int index);

inline Backend& backend_of(Stream& stream) {
  Backend& backend = *static_cast<Backend*>(stream.backend);
  use_device(backend.device_index);
  return backend;
}

}  // namespace banyan::cuda
