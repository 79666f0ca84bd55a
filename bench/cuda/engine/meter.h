// meter: how much memory of a device this process uses, and how fast the device reads.
#pragma once

#include <cstdint>
#include <memory>

namespace banyan::bench {

// Bytes. `used`: what is allocated. `reserved`: what nobody else could have; a pool keeps more than is used, in whole blocks.
struct Memory {
  uint64_t used = 0, reserved = 0;
};

class Meter {
 public:
  virtual ~Meter() = default;
  virtual Memory now() = 0;        // behind all work given to the device
  virtual void restart() = 0;      // idle memory goes back, and peaks count from now on
  virtual Memory peak() = 0;       // since restart()
  virtual double read_rate() = 0;  // bytes a second of a kernel that only reads; 0: not measured here
};

// The process's own memory, mapped files left out.
std::unique_ptr<Meter> make_host_meter();

// Of the first CUDA device: what its memory pool gave, which is all that the backend allocates; the driver's own few hundred MiB are not in it.
// Throws kNoDevice.
std::unique_ptr<Meter> make_cuda_meter();

}  // namespace banyan::bench
