// buffer: owner of device memory; move-only. Growing forgets the content (activations) unless `keep` says otherwise.
#pragma once

#include <cstddef>
#include <utility>

#include "device/device.h"

namespace banyan {

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(Device& device) : device_(&device) {}
  Buffer(Device& device, size_t n_bytes) : device_(&device) { reserve(n_bytes); }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() {
    if (memory_ != nullptr) device_->release(memory_);
  }

  // At least n_bytes afterwards; the content is lost if it had to grow.
  void reserve(size_t n_bytes) {
    if (n_bytes <= n_bytes_) return;
    void* fresh = device_->allocate(n_bytes);
    if (memory_ != nullptr) device_->release(memory_);
    memory_ = fresh;
    n_bytes_ = n_bytes;
  }

  void swap(Buffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(memory_, other.memory_);
    std::swap(n_bytes_, other.n_bytes_);
  }

  template <class T> T* as() const { return static_cast<T*>(memory_); }
  size_t n_bytes() const { return n_bytes_; }

 private:
  Device* device_ = nullptr;
  void* memory_ = nullptr;
  size_t n_bytes_ = 0;
};

}  // namespace banyan
