// device: where tensors live and ops run. The engine knows only this; make_cpu_device is always there, make_cuda_device may return null.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/ops.h"

namespace banyan {

// Rows that a device computes at once, enough to use all of it; more would cost memory, and let other jobs wait longer.
struct BatchRows {
  int encode;   // of documents: one slice of the engine thread
  int prefill;  // of local tokens: one slice as well
  int mlp;      // whose inner activations, the largest, are there together
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;  // "cpu (avx512, 2 threads)"
  virtual bool is_host() const = 0;      // its memory is the process's own: ops read mapped files, the host reads results
  virtual BatchRows batch_rows() const = 0;
  virtual bool has_slot_tiles() const { return false; }     // its ops' (ops.h)
  virtual bool keeps_heads_apart() const { return false; }  // attention reads a cache [G, rows, C] faster than [rows, G, C]
  virtual uint64_t available_bytes() const = 0;             // that allocate() could still give: a promise, not a reservation
  virtual Stream stream() = 0;                              // a fresh stream; valid while the device lives
  virtual void* allocate(size_t n_bytes) = 0;               // 64-byte aligned; throws Error{kOutOfMemory} that says n_bytes
  virtual void release(void* memory) noexcept = 0;
  virtual void to_device(void* to, const void* from, size_t n_bytes) = 0;  // behind the ops before it; `from` is free on return
  virtual void to_host(void* to, const void* from, size_t n_bytes) = 0;    // waits for the ops before it
  virtual void sync() = 0;  // waits for all ops; throws Error{kDeviceFailed} if the device failed, kOutOfMemory if an op found no working memory

  // Ops issued on `stream` between the two may be put off until the end; where the same ops come again, with the same arguments and in the same order,
  // they may be started as one. What their pointers lead to may have changed. Until the end this thread asks the device for nothing else: allocations,
  // copies, sync() and another beginning throw kInternal there, and a release makes the end throw it. Use Replay (device/replay.h), which sees to it that
  // every beginning has an end. A device whose ops are done when they return has nothing to put off.
  virtual void begin_replay(Stream&) {}
  virtual void end_replay(Stream&) {}
  virtual void drop_replay(Stream&) noexcept {}      // instead of the end: what was put off is not run
  virtual uint64_t n_replayed() const { return 0; }  // ends so far whose ops were started as one
};

// n_threads <= 0: one per physical core, at most 64. `variant` names a kernel variant ("scalar", "avx2", ...), empty: the best
// this machine runs (or what the environment variable BANYAN_CPU names); an unknown or impossible one throws kInvalidArgument.
std::unique_ptr<Device> make_cpu_device(int n_threads, const std::string& variant);

// Names of the kernel variants this machine can run, best first.
std::vector<std::string> cpu_variants_here();

// Null where the build or the machine has no such CUDA device, or it is too old; cuda_obstacle says why. With the environment variable
// BANYAN_CUDA_EXACT=1 all its arithmetic is float32, as on the CPU, without tensor cores; with BANYAN_CUDA_GRAPH=0 nothing is replayed: every kernel is
// started for itself.
std::unique_ptr<Device> make_cuda_device(int index);

// Why there is none ("this build has no CUDA", "no CUDA driver is installed", ...); empty if there is.
std::string cuda_obstacle(int index);

}  // namespace banyan
