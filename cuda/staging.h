// staging: pinned host memory through which small copies go, so that the caller's memory is free again at once and nobody waits for the device.
#pragma once

#include <cstddef>

#include "cuda/runtime.h"

namespace banyan::cuda {

class Staging {
 public:
  // Beyond this a copy costs more than the driver's own staging. Token indices, queries and logits of a vocabulary of 128 K are below.
  static constexpr size_t kLargest = size_t{1} << 20;

  explicit Staging(cudaStream_t stream);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // At most kLargest bytes. Returns when `from` has been read; the copy follows in the stream's order.
  void to_device(void* to, const void* from, size_t n_bytes);
  // At most kLargest bytes. Waits for the stream.
  void to_host(void* to, const void* from, size_t n_bytes);

 private:
  // Two halves of kLargest, filled in turn; before a half is filled again the stream must have passed its event.
  char* halves_[2] = {};
  cudaEvent_t passed_[2] = {};
  char* back_ = nullptr;
  size_t used_ = 0;
  int half_ = 0;
  cudaStream_t stream_;
};

}  // namespace banyan::cuda
