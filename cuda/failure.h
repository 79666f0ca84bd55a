// failure: what the runtime reports becomes the engine's errors.
#pragma once

#include <string>

#include "base/error.h"
#include "cuda/runtime.h"

namespace banyan::cuda {

inline std::string text_of(cudaError_t error) {
  const std::string name = cudaGetErrorName(error), text = cudaGetErrorString(error);
  return name == text ? name : name + ": " + text;
}

// Throws kDeviceFailed: "The CUDA device failed while `what` (...)".
inline void require(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw Error(Code::kDeviceFailed, std::string("The CUDA device failed while ") + what + " (" + text_of(error) + ")");
}

// The first failure that a launch itself reported since the last call, with its place; empty: none.
std::string take_launch_error();

// While one lives, it is told of the failures of this thread's launches, and nobody else: for launches whose failure has another way out.
class LaunchErrors {
 public:
  LaunchErrors();
  ~LaunchErrors();
  LaunchErrors(const LaunchErrors&) = delete;
  LaunchErrors& operator=(const LaunchErrors&) = delete;
  void tell() { has_any_ = true; }
  bool has_any() const { return has_any_; }

 private:
  LaunchErrors* before_;
  bool has_any_ = false;
};

}  // namespace banyan::cuda
