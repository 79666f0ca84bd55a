// replay: a stretch of ops that will come again, so that a device may start them as one: a step of decoding is some hundreds of small ones, and what
// changes from token to token (ids, positions, rows, ranges) lies in device memory. What is allocated and uploaded for them comes before.
#pragma once

#include <utility>

#include "device/device.h"

namespace banyan {

class Replay {
 public:
  // Null: the ops run as they come.
  Replay(Device* device, Stream& stream) : device_(device), stream_(stream) {
    if (device_ != nullptr) device_->begin_replay(stream_);
  }
  // Without an end (an exception passes) what was put off is not run.
  ~Replay() {
    if (device_ != nullptr) device_->drop_replay(stream_);
  }
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;

  // The ops are issued, as if they had run as they came.
  void end() {
    if (device_ != nullptr) std::exchange(device_, nullptr)->end_replay(stream_);
  }

 private:
  Device* device_;
  Stream& stream_;
};

}  // namespace banyan
