#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "meter.h"

namespace banyan::bench {

namespace {

// Bytes of one line of /proc/self/status; 0 where there is none.
uint64_t status_bytes(const char* field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.compare(0, std::strlen(field), field) == 0) return 1024 * std::strtoull(line.c_str() + std::strlen(field) + 1, nullptr, 10);
  }
  return 0;
}

class HostMeter final : public Meter {
 public:
  Memory now() override { return without_files(status_bytes("VmRSS")); }
  void restart() override { std::ofstream("/proc/self/clear_refs") << 5; }  // VmHWM becomes VmRSS
  // Mapped pages stay, so at the peak there were no more of them than now.
  Memory peak() override { return without_files(status_bytes("VmHWM")); }
  double read_rate() override { return 0; }  // npm run bench does that

 private:
  static Memory without_files(uint64_t n_bytes) {
    n_bytes -= std::min(n_bytes, status_bytes("RssFile"));
    return {n_bytes, n_bytes};
  }
};

}  // namespace

std::unique_ptr<Meter> make_host_meter() { return std::make_unique<HostMeter>(); }

}  // namespace banyan::bench
