// replay: ops between a beginning and an end (Device::begin_replay), noted and compared with what was noted before. The first time they are run as they
// are; the second time they are captured as a CUDA graph, which is started then and every time they come again. So hundreds of kernels cost the host
// one call, and the device starts each as soon as the one before is done.
//
// A graph has the addresses of its kernels' arguments in it. It is started only where the very same ops were issued with the very same arguments just now,
// so it touches what they would touch: memory that was released and belongs to somebody else by now is in no live op's arguments, and its graph rests
// until it is forgotten. What an op takes of the scratch memory is in no argument; therefore its generation is part of the comparison. That memory comes from the
// stream's pool changes nothing: to a kernel in a graph it is a plain address, and the graph is started in that stream, behind allocations and copies.
// Whatever goes wrong with a graph, the ops are run as they are.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/backend.h"
#include "cuda/op_log.h"

namespace banyan::cuda {

class Replays {
 public:
  // Of the streams whose ops these are. Both outlive it.
  Replays(const Ops& ops, Backend& backend);
  ~Replays();
  Replays(const Replays&) = delete;
  Replays& operator=(const Replays&) = delete;

  // Device::begin_replay and the others. One at a time.
  void begin(Stream& stream);
  void end(Stream& stream);
  void drop(Stream& stream) noexcept;

  // Throws kInternal if this thread is between a beginning and its end. `what` it does there: "copies".
  void refuse_between(const char* what) const;
  // The same for what cannot throw: the end throws.
  void note_between(const char* what) noexcept;

  uint64_t n_started() const { return n_started_; }  // graphs

 private:
  // What was noted once. A graph that could not be made is not tried again.
  struct Known {
    OpLog log;
    cudaGraphExec_t graph = nullptr;
    uint64_t generation = 0;  // of the scratch memory that the graph uses
    bool is_refused = false;
  };
  Known* find();
  void keep(Stream& stream);
  void capture(Known& known);
  bool start(Known& known);

  const Ops& ops_;
  const Ops noting_;
  Backend& backend_;
  cudaStream_t capturing_{};       // where kernels are captured: nothing else is ever there
  OpLog log_;                      // of the beginning that has no end yet
  const char* between_ = nullptr;  // what must not be there and was
  std::vector<Known> known_;       // the latest first
  uint64_t n_started_ = 0;
};

}  // namespace banyan::cuda
