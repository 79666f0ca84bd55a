// stopwatch: where the milliseconds of a run went.
#pragma once

#include <chrono>

namespace banyan {

// Adds the time of its own life to a total.
class Stopwatch {
 public:
  explicit Stopwatch(double& total_ms) : total_ms_(total_ms), begin_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() { total_ms_ += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin_).count(); }
  Stopwatch(const Stopwatch&) = delete;

 private:
  double& total_ms_;
  const std::chrono::steady_clock::time_point begin_;
};

}  // namespace banyan
