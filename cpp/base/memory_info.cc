#include "base/memory_info.h"

#include <algorithm>
#include <fstream>
#include <limits>

#include "base/error.h"

#if defined(_WIN32)
#ifndef NOMINMAX
#define NOMINMAX
#endif
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace banyan {
namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

#if defined(__linux__)

// The number a file holds; no limit if it says something else ("max") or is not there.
uint64_t read_number(const char* path) {
  std::ifstream file(path);
  uint64_t value = 0;
  return file >> value ? value : kUnlimited;
}

uint64_t system_available() {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  uint64_t kilobytes = 0;
  while (file >> name >> kilobytes) {
    std::getline(file, unit);
    if (name == "MemAvailable:") return kilobytes * 1024;
  }
  return kUnlimited;
}

// Version 2 and version 1 of control groups, as a container sees its own.
uint64_t group_available() {
  const uint64_t limit = std::min(read_number("/sys/fs/cgroup/memory.max"), read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
  const uint64_t used = std::min(read_number("/sys/fs/cgroup/memory.current"), read_number("/sys/fs/cgroup/memory/memory.usage_in_bytes"));
  if (limit == kUnlimited || used == kUnlimited) return kUnlimited;
  return limit > used ? limit - used : 0;
}

uint64_t available() { return std::min(system_available(), group_available()); }

#elif defined(__APPLE__)

uint64_t available() {
  uint64_t n_bytes = 0;
  size_t size = sizeof n_bytes;
  return sysctlbyname("hw.memsize", &n_bytes, &size, nullptr, 0) == 0 ? n_bytes : kUnlimited;
}

#elif defined(_WIN32)

uint64_t available() {
  MEMORYSTATUSEX status{};
  status.dwLength = sizeof status;
  return GlobalMemoryStatusEx(&status) ? status.ullAvailPhys : kUnlimited;
}

#else

uint64_t available() { return kUnlimited; }

#endif

}  // namespace

uint64_t available_memory() { return available(); }

void require_memory(uint64_t n_bytes, uint64_t n_available, const std::string& what, const std::string& advice) {
  if (n_bytes <= n_available) return;
  throw Error(Code::kOutOfMemory, what + " needs " + std::to_string(n_bytes) + " bytes of memory, " + std::to_string(n_available) + " are available" +
                                      (advice.empty() ? "" : "; " + advice));
}

}  // namespace banyan
