// The pool, the device, the choice of a variant, and how fast a cancelled op ends.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "base/error.h"
#include "check.h"
#include "cpu/features.h"
#include "data.h"
#include "device/buffer.h"
#include "device/device.h"

// Sanitizers end the process on an impossible allocation unless told that it may fail; one of the tests wants to see it fail.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
extern "C" const char* __tsan_default_options() { return "allocator_may_return_null=1"; }

namespace banyan::test {
namespace {

struct Counters {
  std::vector<std::atomic<int>> hits;
};

void hit(const void* context, int index, std::byte* scratch) noexcept {
  scratch[0] = scratch[Threads::kScratchBytes - 1] = std::byte{1};  // scratch is private: a race detector would see otherwise
  const_cast<Counters*>(static_cast<const Counters*>(context))->hits[static_cast<size_t>(index)].fetch_add(1, std::memory_order_relaxed);
}

// The first task does not end before all others have: somebody must take over the share it began. Gives up after 10 seconds.
struct Waiting {
  int n_tasks;
  std::atomic<int> n_done{0};
  std::atomic<bool> is_helped{false};
};

void wait_for_others(const void* context, int index, std::byte*) noexcept {
  Waiting& all = *const_cast<Waiting*>(static_cast<const Waiting*>(context));
  if (index != 0) {
    all.n_done.fetch_add(1);
    return;
  }
  const auto began = std::chrono::steady_clock::now();
  while (all.n_done.load() < all.n_tasks - 1 && std::chrono::steady_clock::now() - began < std::chrono::seconds(10)) std::this_thread::yield();
  all.is_helped = all.n_done.load() == all.n_tasks - 1;
}

void expect(Tally& tally, bool is_right, const char* what) {
  ++(is_right ? tally.passed : tally.failed);
  if (!is_right) std::printf("  FAILED: %s\n", what);
}

template <class F> bool throws(Code code, F&& body) {
  try {
    body();
  } catch (const Error& error) { return error.code == code; }
  return false;
}

// Copies of all sizes one after another, from memory that is overwritten at once: small ones are staged, large ones are not.
void check_copies(Tally& tally, Device& device) {
  constexpr size_t kSizes[] = {1, 255, 4096, 700000, 1 << 20, (1 << 20) + 1, 5000000, 3};
  constexpr int kRounds = 4;  // several fillings of what small copies are staged in
  std::vector<Buffer> buffers;
  std::vector<uint8_t> host;
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < std::size(kSizes); ++i) {
      host.assign(kSizes[i], static_cast<uint8_t>(16 * round + static_cast<int>(i)));
      host.back() = 99;
      buffers.emplace_back(device, kSizes[i]);
      device.to_device(buffers.back().as<uint8_t>(), host.data(), kSizes[i]);
      std::fill(host.begin(), host.end(), uint8_t{255});
    }
  }
  bool is_right = true;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const size_t n = kSizes[i % std::size(kSizes)];
    host.assign(n, 0);
    device.to_host(host.data(), buffers[i].as<uint8_t>(), n);
    const auto expected = static_cast<uint8_t>(16 * (i / std::size(kSizes)) + i % std::size(kSizes));
    for (size_t at = 0; at + 1 < n; ++at) is_right = is_right && host[at] == expected;
    is_right = is_right && host[n - 1] == 99;
  }
  expect(tally, is_right, "copies of all sizes");
}

// A CUDA device, real or emulated; where there is none, why.
void check_cuda_device(Tally& tally) {
  const auto device = make_cuda_device(0);
  expect(tally, (device == nullptr) == !cuda_obstacle(0).empty(), "no device, and a reason, or neither");
  expect(tally, make_cuda_device(1000) == nullptr && !cuda_obstacle(1000).empty(), "no thousandth device");
  if (device == nullptr) return;
  expect(tally, device->name().starts_with("cuda (") && device->name().find(", sm_") != std::string::npos, "name of the CUDA device");
  expect(tally, !device->is_host(), "its memory is its own");
  expect(tally, throws(Code::kOutOfMemory, [&device] { device->allocate(size_t{1} << 50); }), "an impossible allocation throws there too");
  constexpr size_t kBytes = size_t{64} << 20;
  const uint64_t before = device->available_bytes();
  const Buffer buffer(*device, kBytes);
  device->sync();
  const uint64_t after = device->available_bytes();
  expect(tally, before > kBytes && after < before, "memory that is taken is not available");
  check_copies(tally, *device);
}

}  // namespace

Tally threads_suite() {
  Tally tally;
  for (const int n_threads : {1, 2, 3, 8}) {
    Threads threads(n_threads);
    for (int round = 0; round < 300; ++round) {
      Counters first{std::vector<std::atomic<int>>(static_cast<size_t>(round % 40))},
          second{std::vector<std::atomic<int>>(static_cast<size_t>(round % 7))};
      const Threads::Phase phases[] = {{round % 40, hit, &first}, {round % 7, hit, &second}};
      threads.run(phases, 2);
      bool is_once = true;
      for (const auto& n : first.hits) is_once = is_once && n == 1;
      for (const auto& n : second.hits) is_once = is_once && n == 1;
      expect(tally, is_once, "every task runs exactly once");
      if (round % 100 == 50) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // let the workers fall asleep
    }
  }
  for (const int n_threads : {2, 3}) {
    Threads threads(n_threads);
    Waiting all{20};
    const Threads::Phase only{all.n_tasks, wait_for_others, &all};
    threads.run(&only, 1);
    expect(tally, all.is_helped, "a thread that is done helps the others");
  }
  Threads threads(3);  // several callers at once take turns
  std::vector<std::thread> callers;
  std::atomic<int> n_wrong{0};
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&threads, &n_wrong] {
      for (int round = 0; round < 100; ++round) {
        Counters counters{std::vector<std::atomic<int>>(9)};
        const Threads::Phase only{9, hit, &counters};
        threads.run(&only, 1);
        for (const auto& n : counters.hits) n_wrong += n != 1;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  expect(tally, n_wrong == 0, "calls from several threads take turns");
  return tally;
}

Tally device_suite() {
  Tally tally;
  const auto device = make_cpu_device(2, "");
  expect(tally, device->name() == std::string("cpu (") + choose_variant("").name + ", 2 threads)", "name of the device");
  expect(tally, make_cpu_device(1, "scalar")->name() == "cpu (scalar, 1 thread)", "name with one thread");
  expect(tally, make_cpu_device(0, "")->stream().ops != nullptr, "default number of threads");
  expect(tally, physical_cores() >= 1, "physical cores");
  expect(tally, throws(Code::kInvalidArgument, [] { make_cpu_device(1, "sse9"); }), "an unknown variant throws");
  expect(tally, throws(Code::kOutOfMemory, [&device] { device->allocate(size_t{1} << 60); }), "an impossible allocation throws");
  Buffer buffer(*device, 1000);
  expect(tally, reinterpret_cast<uintptr_t>(buffer.as<float>()) % 64 == 0, "memory is aligned");
  const float from[3] = {1, 2, 3};
  float to[3] = {};
  device->to_device(buffer.as<float>(), from, sizeof from);
  device->to_host(to, buffer.as<float>(), sizeof to);
  device->to_host(nullptr, nullptr, 0);
  device->sync();
  expect(tally, to[0] == 1 && to[2] == 3, "copies");
  expect(tally, device->is_host() && device->available_bytes() > 0, "memory of the process");
  check_copies(tally, *device);
  check_cuda_device(tally);
  return tally;
}

// A product that would take seconds, cancelled from outside: it must end soon. The limit is generous because the machine may be busy; unbusy
// machines end within 20 ms.
void cancel_suite(Run& run) {
  constexpr int kTokens = 4096;
  constexpr int64_t kRows = 8192, kCols = 8192;
  static const std::vector<uint8_t> weights(row_bytes(DType::kQ8_0, kRows * kCols));
  static const std::vector<float> x(static_cast<size_t>(kTokens * kCols));
  static std::vector<float> out(static_cast<size_t>(kTokens * kRows));
  std::atomic<bool> is_cancelled{false};
  std::chrono::steady_clock::time_point asked;
  run.stream.cancel = &is_cancelled;
  std::thread canceller([&is_cancelled, &asked] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    asked = std::chrono::steady_clock::now();
    is_cancelled = true;
  });
  gemm(run.stream, {out.data(), x.data(), {weights.data(), DType::kQ8_0, kRows, kCols}, nullptr, kTokens, false});
  const auto ended = std::chrono::steady_clock::now();
  canceller.join();
  const double milliseconds = std::chrono::duration<double, std::milli>(ended - asked).count();
  run.check(milliseconds < 200, "gemm ends " + std::to_string(milliseconds) + " ms after it was cancelled");
  run.stream.cancel = nullptr;
}

}  // namespace banyan::test
