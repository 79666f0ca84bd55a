#include <algorithm>
#include <string>

#include "base/error.h"
#include "cuda/runtime.h"
#include "device/device.h"
#include "meter.h"
#include "reading.h"

namespace banyan::bench {

namespace {

void require(cudaError_t error) {
  if (error != cudaSuccess)
    throw Error(Code::kDeviceFailed, std::string("the CUDA device's memory cannot be asked for: ") + cudaGetErrorString(error));
}

#ifdef BANYAN_EMULATE
// No pool, hence nothing but what is used, and no peak.
class CudaMeter final : public Meter {
 public:
  Memory now() override {
    size_t n_free = 0, total = 0;
    require(cudaMemGetInfo(&n_free, &total));
    return {total - n_free, total - n_free};
  }
  void restart() override {}
  Memory peak() override { return now(); }
  double read_rate() override { return 0; }  // what it takes there means nothing
};
#else
class CudaMeter final : public Meter {
 public:
  CudaMeter() {
    require(cudaSetDevice(0));
    require(cudaDeviceGetDefaultMemPool(&pool_, 0));
  }
  Memory now() override {
    require(cudaDeviceSynchronize());
    return {asked(cudaMemPoolAttrUsedMemCurrent), asked(cudaMemPoolAttrReservedMemCurrent)};
  }
  void restart() override {
    require(cudaDeviceSynchronize());
    require(cudaMemPoolTrimTo(pool_, 0));
    for (const cudaMemPoolAttr which : {cudaMemPoolAttrUsedMemHigh, cudaMemPoolAttrReservedMemHigh}) {
      uint64_t zero = 0;
      require(cudaMemPoolSetAttribute(pool_, which, &zero));
    }
  }
  Memory peak() override {
    const Memory current = now();  // a mark that was set back may stay 0 until something is allocated
    return {std::max(current.used, asked(cudaMemPoolAttrUsedMemHigh)), std::max(current.reserved, asked(cudaMemPoolAttrReservedMemHigh))};
  }
  double read_rate() override { return cuda_read_rate(); }

 private:
  uint64_t asked(cudaMemPoolAttr which) const {
    uint64_t value = 0;
    require(cudaMemPoolGetAttribute(pool_, which, &value));
    return value;
  }
  cudaMemPool_t pool_{};
};
#endif

}  // namespace

std::unique_ptr<Meter> make_cuda_meter() {
  if (const std::string obstacle = cuda_obstacle(0); !obstacle.empty()) throw Error(Code::kNoDevice, obstacle);
  return std::make_unique<CudaMeter>();
}

}  // namespace banyan::bench
