// The CPU device: memory is host memory, ops run on the caller's thread and the pool and are done when they return.
#include <algorithm>
#include <cstring>

#include "base/aligned.h"
#include "base/error.h"
#include "base/memory_info.h"
#include "cpu/dispatch.h"
#include "cpu/features.h"
#include "cpu/threads.h"
#include "device/device.h"

namespace banyan {
namespace {

// A decoded panel of weights is used a dozen times over by 256 rows, two dozen by 512; 1024 and 2048 were no faster (bench/NOTES.md).
constexpr BatchRows kBatchRows{512, 256, 256};

class CpuDevice final : public Device {
 public:
  CpuDevice(int n_threads, const Ops& ops) : ops_(ops), threads_(n_threads) {}

  std::string name() const override {
    const int n = threads_.n_threads();
    return std::string("cpu (") + ops_.name + ", " + std::to_string(n) + (n == 1 ? " thread)" : " threads)");
  }
  bool is_host() const override { return true; }
  BatchRows batch_rows() const override { return kBatchRows; }
  bool has_slot_tiles() const override { return ops_.has_slot_tiles; }
  bool keeps_heads_apart() const override { return true; }  // one stretch of memory, met by one head's state
  uint64_t available_bytes() const override { return available_memory(); }
  Stream stream() override {
    Stream stream;
    stream.ops = &ops_;
    stream.backend = &threads_;
    return stream;
  }
  void* allocate(size_t n_bytes) override {
    void* memory = allocate_aligned(n_bytes);  // the memory of a question over many slots is read a tenth faster in huge pages
    if (memory == nullptr) throw Error(Code::kOutOfMemory, "Cannot allocate " + std::to_string(n_bytes) + " bytes of memory");
    return memory;
  }
  void release(void* memory) noexcept override { release_aligned(memory); }
  void to_device(void* to, const void* from, size_t n_bytes) override { copy(to, from, n_bytes); }
  void to_host(void* to, const void* from, size_t n_bytes) override { copy(to, from, n_bytes); }
  void sync() override {}

 private:
  static void copy(void* to, const void* from, size_t n_bytes) {
    if (n_bytes != 0) std::memcpy(to, from, n_bytes);  // null pointers are fine when there is nothing to copy
  }

  const Ops& ops_;
  Threads threads_;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device(int n_threads, const std::string& variant) {
  const Ops& ops = choose_variant(variant);
  if (n_threads <= 0) n_threads = physical_cores();
  return std::make_unique<CpuDevice>(std::clamp(n_threads, 1, 64), ops);
}

}  // namespace banyan
