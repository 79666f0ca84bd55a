#include "cpu/features.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(_WIN32)
#define NOMINMAX
#include <windows.h>
#endif

#if defined(_M_X64)
#include <intrin.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

namespace banyan {

#if defined(__x86_64__) || defined(_M_X64)
namespace {

struct Registers {
  uint32_t a, b, c, d;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r{};
#if defined(_M_X64)
  int values[4];
  __cpuidex(values, static_cast<int>(leaf), static_cast<int>(subleaf));
  r = {static_cast<uint32_t>(values[0]), static_cast<uint32_t>(values[1]), static_cast<uint32_t>(values[2]), static_cast<uint32_t>(values[3])};
#else
  __cpuid_count(leaf, subleaf, r.a, r.b, r.c, r.d);
#endif
  return r;
}

// Which register sets the operating system saves on a task switch.
uint64_t saved_state() {
#if defined(_M_X64)
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
#endif
}

constexpr bool bit(uint64_t word, int i) { return ((word >> i) & 1) != 0; }

// Whether the system saves tile registers for this process. Linux wants to be asked, once, for all its threads; it refuses where a thread's stack for signals
// is too small for them.
bool may_use_tiles(uint64_t state) {
#if defined(__linux__) && defined(__x86_64__)
  constexpr uint64_t kTileState = uint64_t{3} << 17;
  constexpr int kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  if ((state & kTileState) != kTileState) return false;
  static const bool is_allowed = syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  return is_allowed;
#else
  (void)state;
  return false;
#endif
}

}  // namespace

uint32_t cpu_features() {
  const uint32_t max_leaf = cpuid(0, 0).a;
  if (max_leaf < 7) return 0;
  const Registers one = cpuid(1, 0);
  if (!bit(one.c, 27)) return 0;  // OSXSAVE
  const uint64_t state = saved_state();
  const Registers seven = cpuid(7, 0);
  const Registers seven_one = seven.a >= 1 ? cpuid(7, 1) : Registers{};
  const bool ymm = (state & 0x06) == 0x06;  // XMM, YMM
  const bool zmm = (state & 0xe6) == 0xe6;  // and opmask, both halves of ZMM
  uint32_t features = 0;
  if (ymm && bit(seven.b, 5) && bit(one.c, 12) && bit(one.c, 29)) features |= kAvx2;  // AVX2, FMA, F16C
  if ((features & kAvx2) != 0 && bit(seven_one.a, 4)) features |= kAvxVnni;
  if (zmm && (features & kAvx2) != 0 && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 30) && bit(seven.b, 31)) {
    features |= kAvx512;  // F, DQ, BW, VL
    if (bit(seven_one.a, 5)) features |= kAvx512Bf16;
    if (bit(seven.c, 11)) features |= kAvx512Vnni;
    if (bit(seven.d, 24) && bit(seven.d, 22) && may_use_tiles(state)) features |= kAmx;  // TILE, BF16
  }
  return features;
}
#elif defined(__aarch64__) || defined(_M_ARM64)
namespace {

#if defined(__linux__)
// Numbers of the kernel's interface, which older headers do not name.
constexpr unsigned long kHwcapAsimdDp = 1ul << 20, kHwcap2I8mm = 1ul << 13;
bool has_dot() { return (getauxval(AT_HWCAP) & kHwcapAsimdDp) != 0; }
bool has_i8mm() { return (getauxval(AT_HWCAP2) & kHwcap2I8mm) != 0; }
#elif defined(__APPLE__)
bool has_feature(const char* name) {
  int value = 0;
  size_t n_bytes = sizeof value;
  return sysctlbyname(name, &value, &n_bytes, nullptr, 0) == 0 && value != 0;
}
bool has_dot() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has_feature("hw.optional.arm.FEAT_I8MM"); }
#elif defined(_WIN32)
// Numbers of winnt.h, which older headers do not name; a system that does not know one says no.
constexpr DWORD kArmV82DpInstructionsAvailable = 43, kArmV82I8mmInstructionsAvailable = 66;
bool has_dot() { return IsProcessorFeaturePresent(kArmV82DpInstructionsAvailable) != 0; }
bool has_i8mm() { return IsProcessorFeaturePresent(kArmV82I8mmInstructionsAvailable) != 0; }
#else
bool has_dot() { return false; }
bool has_i8mm() { return false; }
#endif

}  // namespace

uint32_t cpu_features() { return kNeon | (has_dot() ? kNeonDot : 0u) | (has_i8mm() ? kNeonI8mm : 0u); }
#else
uint32_t cpu_features() { return 0; }
#endif

#if defined(__linux__)
namespace {

// The cores of the affinity mask, told apart by the list of hyperthreads the kernel gives for each.
int allowed_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 0;
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    std::string siblings;
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    if (!std::getline(file, siblings)) siblings = "cpu" + std::to_string(cpu);
    cores.insert(siblings);
  }
  return static_cast<int>(cores.size());
}

// A container's quota, rounded up; 0 if there is none.
int quota_cores() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period) || period <= 0) return 0;  // "max 100000" fails to parse: no quota
  return std::max(1, static_cast<int>((quota + period - 1) / period));
}

}  // namespace

int physical_cores() {
  const int allowed = allowed_cores(), quota = quota_cores();
  const int n_cores = quota > 0 ? std::min(allowed, quota) : allowed;
  return n_cores > 0 ? n_cores : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}
#elif defined(__APPLE__)
int physical_cores() {
  int n_cores = 0;
  size_t n_bytes = sizeof n_cores;
  // Efficiency cores would make every op wait for the slowest: only the fast ones count where the system tells them apart.
  if (sysctlbyname("hw.perflevel0.physicalcpu", &n_cores, &n_bytes, nullptr, 0) == 0 && n_cores > 0) return n_cores;
  n_bytes = sizeof n_cores;
  if (sysctlbyname("hw.physicalcpu", &n_cores, &n_bytes, nullptr, 0) == 0 && n_cores > 0) return n_cores;
  return 1;
}
#elif defined(_WIN32)
int physical_cores() {
  DWORD n_bytes = 0;
  GetLogicalProcessorInformationEx(RelationProcessorCore, nullptr, &n_bytes);
  std::vector<char> records(n_bytes);
  auto* first = reinterpret_cast<SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX*>(records.data());
  if (n_bytes == 0 || !GetLogicalProcessorInformationEx(RelationProcessorCore, first, &n_bytes)) {
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  int n_cores = 0;
  for (DWORD at = 0; at < n_bytes; ++n_cores) at += reinterpret_cast<SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX*>(records.data() + at)->Size;
  return std::max(1, n_cores);
}
#else
int physical_cores() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }
#endif

}  // namespace banyan
