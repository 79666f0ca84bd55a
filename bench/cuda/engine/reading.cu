#include "bench/cuda/engine/reading.h"

#include "bench/cuda/harness.cuh"

namespace banyan::bench {

double cuda_read_rate() {
  const std::unique_ptr<Device> device = make_cuda_device(0);
  if (device == nullptr) return 0;
  return 1000 * cuda::Bench(*device).read_rate();
}

}  // namespace banyan::bench
