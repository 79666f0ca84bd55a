#include "cuda/staging.h"

#include <cstring>

#include "cuda/failure.h"

namespace banyan::cuda {
namespace {

constexpr size_t kAlignment = 256;

char* pinned(size_t n_bytes) {
  void* memory = nullptr;
  require(cudaMallocHost(&memory, n_bytes), "reserving memory for copies");
  return static_cast<char*>(memory);
}

}  // namespace

Staging::Staging(cudaStream_t stream) : stream_(stream) {
  for (int i = 0; i < 2; ++i) {
    halves_[i] = pinned(kLargest);
    require(cudaEventCreateWithFlags(&passed_[i], cudaEventDisableTiming), "making an event");
  }
  back_ = pinned(kLargest);
}

Staging::~Staging() {
  for (int i = 0; i < 2; ++i) {
    if (halves_[i] != nullptr) cudaFreeHost(halves_[i]);
    if (passed_[i] != nullptr) cudaEventDestroy(passed_[i]);
  }
  if (back_ != nullptr) cudaFreeHost(back_);
}

void Staging::to_device(void* to, const void* from, size_t n_bytes) {
  if (used_ + n_bytes > kLargest) {
    require(cudaEventRecord(passed_[half_], stream_), "copying to it");
    half_ ^= 1;
    used_ = 0;
    require(cudaEventSynchronize(passed_[half_]), "copying to it");  // an event never recorded has passed
  }
  char* at = halves_[half_] + used_;
  std::memcpy(at, from, n_bytes);
  used_ += (n_bytes + kAlignment - 1) / kAlignment * kAlignment;
  require(cudaMemcpyAsync(to, at, n_bytes, cudaMemcpyHostToDevice, stream_), "copying to it");
}

void Staging::to_host(void* to, const void* from, size_t n_bytes) {
  require(cudaMemcpyAsync(back_, from, n_bytes, cudaMemcpyDeviceToHost, stream_), "copying from it");
  require(cudaStreamSynchronize(stream_), "computing");
  std::memcpy(to, back_, n_bytes);
}

}  // namespace banyan::cuda
