#include "cuda/backend.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "cuda/failure.h"
#include "cuda/prim/launch.cuh"

namespace banyan::cuda {
namespace {

std::mutex launch_mutex;
std::string launch_error;
thread_local LaunchErrors* told = nullptr;  // who is told of this thread's failures

}  // namespace

#ifndef BANYAN_EMULATE
void keep_launch_error(cudaError_t error, const std::source_location& where) {
  if (told != nullptr) return told->tell();
  const std::lock_guard lock(launch_mutex);
  if (launch_error.empty()) launch_error = text_of(error) + " at " + where.file_name() + ":" + std::to_string(where.line());
}
#endif

std::string take_launch_error() {
  const std::lock_guard lock(launch_mutex);
  return std::exchange(launch_error, {});
}

LaunchErrors::LaunchErrors() : before_(std::exchange(told, this)) {}
LaunchErrors::~LaunchErrors() { told = before_; }

void use_device(int index) {
  thread_local int used = -1;
  if (used != index && cudaSetDevice(index) == cudaSuccess) used = index;
}

Scratch::~Scratch() {
  if (memory_ != nullptr) cudaFreeAsync(memory_, stream_);
  if (counters_ != nullptr) cudaFreeAsync(counters_, stream_);
}

// The old memory goes when the ops before are done: the stream's order keeps it until then.
void* Scratch::grow(void* memory, size_t& n_bytes, size_t wanted) {
  ++generation_;
  wanted = std::max(wanted, n_bytes + n_bytes / 2);  // few growths on the way up
  if (memory != nullptr) cudaFreeAsync(memory, stream_);
  n_bytes = 0;
  void* fresh = nullptr;
  if (cudaMallocAsync(&fresh, wanted, stream_) != cudaSuccess) {
    cudaGetLastError();  // told by missing_bytes()
    missing_ = wanted;
    return nullptr;
  }
  n_bytes = wanted;
  return fresh;
}

bool Scratch::can_grow() {
  was_short_ = was_short_ || is_held_;
  return !is_held_;
}

void* Scratch::take(size_t n_bytes) {
  if (n_bytes > n_bytes_) {
    if (!can_grow()) return nullptr;
    memory_ = grow(memory_, n_bytes_, n_bytes);
  }
  return memory_;
}

unsigned* Scratch::counters(size_t n) {
  if (n * sizeof(unsigned) > counter_bytes_) {
    if (!can_grow()) return nullptr;
    counters_ = grow(counters_, counter_bytes_, n * sizeof(unsigned));
    if (counters_ != nullptr) cudaMemsetAsync(counters_, 0, counter_bytes_, stream_);
  }
  return static_cast<unsigned*>(counters_);
}

size_t Scratch::missing_bytes() { return std::exchange(missing_, 0); }

}  // namespace banyan::cuda
