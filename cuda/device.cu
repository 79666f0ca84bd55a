// The CUDA device: one stream, and memory of the driver's stream-ordered pool, which keeps what is released, so that a steady state allocates
// nothing. Work and copies are queued; what releases memory need not wait for the ops that still use it.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "cuda/backend.h"
#include "cuda/failure.h"
#include "cuda/ops.h"
#include "cuda/replay.h"
#include "cuda/staging.h"
#include "device/device.h"

namespace banyan {
namespace cuda {
namespace {

// Products of 2048 rows and more fill a large device (gemm_wgmma); 4096 rows of an 8B model take 1 GiB, and a prefill of 2048 some 50 ms.
constexpr BatchRows kBatchRows{4096, 2048, 4096};
constexpr int kLeastCapability = 80;  // cp.async, mma of m16n8k16 and bf16 came with 8.0 (Ampere)

const Ops kOps{"cuda", embed, norm, gemm, rope, store, place, attend, inject, merge, gather, compress, cosine, standardize, highest, swiglu, sample};
const Ops kExactOps{
    "cuda-exact", embed, norm, gemm, rope, store, place, attend, inject, merge, gather, compress, cosine, standardize, highest, swiglu, sample};

int attribute(cudaDeviceAttr which, int index) {
  int value = 0;
  require(cudaDeviceGetAttribute(&value, which, index), "being asked what it can");
  return value;
}

int capability_of(int index) {
  return 10 * attribute(cudaDevAttrComputeCapabilityMajor, index) + attribute(cudaDevAttrComputeCapabilityMinor, index);
}

std::string title_of(int index) {
  cudaDeviceProp properties;
  require(cudaGetDeviceProperties(&properties, index), "being asked its name");
  return std::string(properties.name) + ", sm_" + std::to_string(capability_of(index));
}

bool is_set(const char* variable, bool otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr && *text != '\0' ? std::strcmp(text, "0") != 0 : otherwise;
}

#ifdef BANYAN_EMULATE
void keep_released_memory(int) {}
void trim_pool(int) {}
size_t idle_bytes(int) { return 0; }
#else
cudaMemPool_t pool_of(int index) {
  cudaMemPool_t pool{};
  require(cudaDeviceGetDefaultMemPool(&pool, index), "being asked for its memory pool");
  return pool;
}

// Released memory stays with the pool, however much it is; by default it would go back at every synchronization.
void keep_released_memory(int index) {
  uint64_t everything = UINT64_MAX;
  require(cudaMemPoolSetAttribute(pool_of(index), cudaMemPoolAttrReleaseThreshold, &everything), "setting up its memory pool");
}

void trim_pool(int index) { require(cudaMemPoolTrimTo(pool_of(index), 0), "giving back memory"); }

// What the pool holds and nobody uses.
size_t idle_bytes(int index) {
  uint64_t reserved = 0, used = 0;
  require(cudaMemPoolGetAttribute(pool_of(index), cudaMemPoolAttrReservedMemCurrent, &reserved), "being asked for its memory");
  require(cudaMemPoolGetAttribute(pool_of(index), cudaMemPoolAttrUsedMemCurrent, &used), "being asked for its memory");
  return reserved > used ? static_cast<size_t>(reserved - used) : 0;
}
#endif

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int index) : index_(index), name_("cuda (" + title_of(index) + ")") {
    use_device(index);
    keep_released_memory(index);
    require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
    scratch_ = std::make_unique<Scratch>(stream_);
    staging_ = std::make_unique<Staging>(stream_);
    backend_ = std::make_unique<Backend>(Backend{stream_, index, attribute(cudaDevAttrMultiProcessorCount, index), capability_of(index),
        static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, index)), is_set("BANYAN_CUDA_EXACT", false), *scratch_});
    if (is_set("BANYAN_CUDA_GRAPH", true)) replays_ = std::make_unique<Replays>(*ops(), *backend_);
  }
  ~CudaDevice() override {
    use_device(index_);
    cudaStreamSynchronize(stream_);
    replays_.reset();
    staging_.reset();
    scratch_.reset();
    cudaStreamDestroy(stream_);
  }

  std::string name() const override { return name_; }
  bool is_host() const override { return false; }
  BatchRows batch_rows() const override { return kBatchRows; }
  uint64_t available_bytes() const override {
    use_device(index_);
    size_t n_free = 0, total = 0;
    require(cudaMemGetInfo(&n_free, &total), "being asked for its memory");
    return n_free + idle_bytes(index_);
  }
  Stream stream() override {
    Stream stream;
    stream.ops = ops();
    stream.backend = backend_.get();
    return stream;
  }
  void* allocate(size_t n_bytes) override {
    if (replays_) replays_->refuse_between("allocates memory");
    use_device(index_);
    void* memory = nullptr;
    const size_t wanted = std::max<size_t>(n_bytes, 1);
    cudaError_t error = cudaMallocAsync(&memory, wanted, stream_);
    if (error == cudaErrorMemoryAllocation) {  // what the pool keeps may be in the wrong pieces
      cudaGetLastError();
      require(cudaStreamSynchronize(stream_), "computing");
      trim_pool(index_);
      error = cudaMallocAsync(&memory, wanted, stream_);
    }
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw Error(Code::kOutOfMemory, "Cannot allocate " + std::to_string(n_bytes) + " bytes of memory on " + name_ + ", " +
                                          std::to_string(available_bytes()) + " are available");
    }
    require(error, "allocating memory");
    return memory;
  }
  void release(void* memory) noexcept override {
    if (replays_) replays_->note_between("releases memory");
    use_device(index_);
    cudaFreeAsync(memory, stream_);
  }
  void to_device(void* to, const void* from, size_t n_bytes) override {
    if (replays_) replays_->refuse_between("copies");
    if (n_bytes == 0) return;
    use_device(index_);
    if (n_bytes <= Staging::kLargest) return staging_->to_device(to, from, n_bytes);
    require(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyHostToDevice, stream_), "copying to it");
    require(cudaStreamSynchronize(stream_), "copying to it");  // `from` may be pinned by somebody, and then would be read later
  }
  void to_host(void* to, const void* from, size_t n_bytes) override {
    if (replays_) replays_->refuse_between("copies");
    if (n_bytes == 0) return;
    use_device(index_);
    if (n_bytes <= Staging::kLargest) staging_->to_host(to, from, n_bytes);
    else require(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToHost, stream_), "copying from it");
    sync();
  }
  void sync() override {
    if (replays_) replays_->refuse_between("waits");
    use_device(index_);
    const std::string refused = take_launch_error();
    if (!refused.empty()) throw Error(Code::kDeviceFailed, "The CUDA device refused a kernel (" + refused + ")");
    require(cudaStreamSynchronize(stream_), "computing");
    if (const size_t missing = scratch_->missing_bytes(); missing != 0) {
      throw Error(Code::kOutOfMemory, "Cannot allocate " + std::to_string(missing) + " bytes of working memory on " + name_ + ", " +
                                          std::to_string(available_bytes()) + " are available");
    }
  }
  void begin_replay(Stream& stream) override {
    if (replays_) replays_->begin(stream);
  }
  void end_replay(Stream& stream) override {
    if (replays_) replays_->end(stream);
  }
  void drop_replay(Stream& stream) noexcept override {
    if (replays_) replays_->drop(stream);
  }
  uint64_t n_replayed() const override { return replays_ ? replays_->n_started() : 0; }

 private:
  const Ops* ops() const { return backend_->is_exact ? &kExactOps : &kOps; }

  const int index_;
  const std::string name_;
  cudaStream_t stream_{};
  std::unique_ptr<Scratch> scratch_;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Replays> replays_;  // null: every kernel is started for itself
};

// Why device `index` cannot be used; empty if it can.
std::string obstacle(int index) {
  int driver = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return "no CUDA driver is installed";
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    int runtime = 0;
    cudaRuntimeGetVersion(&runtime);
    return "the CUDA driver is too old (it supports " + std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10) + ", " +
           std::to_string(runtime / 1000) + "." + std::to_string(runtime % 1000 / 10) + " is needed)";
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) return "the CUDA driver finds no device";
  if (error != cudaSuccess) return "the CUDA driver does not work (" + text_of(error) + ")";
  if (index < 0 || index >= count) return "there is no CUDA device " + std::to_string(index) + ", only " + std::to_string(count);
  if (capability_of(index) < kLeastCapability) return "the CUDA device (" + title_of(index) + ") is too old: sm_80 or newer is needed";
  if (attribute(cudaDevAttrMemoryPoolsSupported, index) == 0) return "the CUDA device (" + title_of(index) + ") has no memory pools";
  return "";
}

}  // namespace
}  // namespace cuda

std::string cuda_obstacle(int index) {
  try {
    return cuda::obstacle(index);
  } catch (const Error& error) { return error.what(); }
}

std::unique_ptr<Device> make_cuda_device(int index) {
  if (!cuda_obstacle(index).empty()) return nullptr;
  return std::make_unique<cuda::CudaDevice>(index);
}

}  // namespace banyan
