// check: the harness. A suite is a function; it runs once for every variant this machine has and for 1, 2 and 3 threads, then on the CUDA device
// (a real one or the emulated one) if the build has one, and counts its checks. Suites call ops through Run, with arguments in host memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/features.h"
#include "cpu/threads.h"
#include "device/device.h"
#include "device/ops.h"
#include "on_device.h"

namespace banyan {
const Ops* kernels_amx_emulated();
}

namespace banyan::test {

struct Tally {
  int passed = 0, failed = 0;
};

// 2 naive_error + 4 roundings of the largest value. The last term covers short sums, where naive code may be exact.
inline double tolerance_of(const std::vector<double>& oracle, double naive_error) {
  double largest = 0;
  for (const double value : oracle) largest = std::max(largest, std::fabs(value));
  return 2 * naive_error + 4 * 0x1p-24 * largest + 1e-37;
}

inline double largest_difference(const std::vector<float>& a, const std::vector<double>& b) {
  double largest = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (std::isnan(difference)) return INFINITY;
    largest = std::max(largest, difference);
  }
  return largest;
}

// The same over those that are not -infinity.
inline double largest_finite_difference(std::vector<float> a, std::vector<double> b) {
  for (size_t i = 0; i < b.size(); ++i) {
    if (b[i] != -INFINITY) continue;
    a[i] = 0;
    b[i] = 0;
  }
  return largest_difference(a, b);
}

// One run of a suite: where it runs and what it has found.
struct Run {
  Stream stream;
  Device* device = nullptr;  // null: memory is host memory
  std::string where;         // "avx2, 3 threads"
  Tally tally;
  double worst = 0;  // largest error / tolerance seen

  void check(bool is_right, const std::string& what) {
    ++(is_right ? tally.passed : tally.failed);
    if (!is_right && tally.failed <= 5) std::printf("  FAILED (%s): %s\n", where.c_str(), what.c_str());
  }

  void check_near(const std::vector<float>& out, const std::vector<double>& oracle, double naive_error, const std::string& what) {
    const double error = largest_difference(out, oracle), tolerance = tolerance_of(oracle, naive_error);
    worst = std::max(worst, error / tolerance);
    char text[120];
    std::snprintf(text, sizeof text, ": error %.3g, tolerance %.3g, naive %.3g", error, tolerance, naive_error);
    check(error <= tolerance, what + text);
  }
  void check_near(const std::vector<float>& out, const std::vector<double>& oracle, const std::vector<float>& naive, const std::string& what) {
    check_near(out, oracle, largest_difference(naive, oracle), what);
  }
  // The same for logarithms, of which some are -infinity: exactly those must be.
  void check_logarithms(std::vector<float> out, std::vector<double> oracle, double naive_error, const std::string& what) {
    bool is_right = true;
    for (size_t i = 0; i < oracle.size(); ++i) {
      is_right = is_right && (out[i] == -INFINITY) == (oracle[i] == -INFINITY);
      if (oracle[i] != -INFINITY) continue;
      out[i] = 0;
      oracle[i] = 0;
    }
    check(is_right, what + ": -infinity where something counts, or the reverse");
    check_near(out, oracle, naive_error, what);
  }
  void check_logarithms(const std::vector<float>& out, const std::vector<double>& oracle, const std::vector<float>& naive, const std::string& what) {
    check_logarithms(out, oracle, largest_finite_difference(naive, oracle), what);
  }

  // The ops.
  void embed(const EmbedArgs& args) { call(args, banyan::embed, &OnDevice::embed); }
  void norm(const NormArgs& args) { call(args, banyan::norm, &OnDevice::norm); }
  void gemm(const GemmArgs& args) { call(args, banyan::gemm, &OnDevice::gemm); }
  void rope(const RopeArgs& args) { call(args, banyan::rope, &OnDevice::rope); }
  void store(const StoreArgs& args) { call(args, banyan::store, &OnDevice::store); }
  void place(const PlaceArgs& args) { call(args, banyan::place, &OnDevice::place); }
  void attend(const AttendArgs& args, uint64_t n_pairs) {
    if (device != nullptr) OnDevice(*device, stream).attend(args, n_pairs);
    else banyan::attend(stream, args, n_pairs);
  }
  void inject(const InjectArgs& args) { call(args, banyan::inject, &OnDevice::inject); }
  void merge(const MergeArgs& args) { call(args, banyan::merge, &OnDevice::merge); }
  void gather(const GatherArgs& args) { call(args, banyan::gather, &OnDevice::gather); }
  void compress(const CompressArgs& args) { call(args, banyan::compress, &OnDevice::compress); }
  void cosine(const CosineArgs& args) { call(args, banyan::cosine, &OnDevice::cosine); }
  void standardize(const StandardizeArgs& args) { call(args, banyan::standardize, &OnDevice::standardize); }
  void highest(const HighestArgs& args) { call(args, banyan::highest, static_cast<void (OnDevice::*)(HighestArgs)>(&OnDevice::highest)); }
  void sample(const SampleArgs& args) { call(args, banyan::sample, &OnDevice::sample); }
  void swiglu(const SwigluArgs& args) { call(args, banyan::swiglu, &OnDevice::swiglu); }

 private:
  template <class Args> void call(const Args& args, void (*op)(Stream&, const Args&), void (OnDevice::*on_device)(Args)) {
    if (device != nullptr) (OnDevice(*device, stream).*on_device)(args);
    else op(stream, args);
  }
};

using Suite = void (*)(Run&);
void gemm_suite(Run&);
void attend_suite(Run&);
void inject_suite(Run&);

inline void report(const char* suite, const char* variant, const Tally& tally, double worst) {
  std::printf("%-10s %-10s %6d passed %4d failed   worst error / tolerance %.2f\n", suite, variant, tally.passed, tally.failed, worst);
  std::fflush(stdout);
}

inline void add(Tally& total, const Tally& tally) {
  total.passed += tally.passed;
  total.failed += tally.failed;
}

// The variant amx without tile registers (kernels_amx_emulated.cc); null where the machine lacks its other instructions.
inline const Ops* emulated_amx() {
  constexpr uint32_t kNeeds = kAvx512Bf16 | kAvx512Vnni | kAvx512 | kAvx2;
  if ((kNeeds & ~cpu_features()) != 0 || kernels_amx_emulated() == nullptr) return nullptr;
  static const Ops ops = [] {
    Ops all = *kernels_amx_emulated();
    all.name = "amx (emulated)";
    return all;
  }();
  return &ops;
}

// All CPU variants x 1, 2, 3 threads; a line per variant.
inline Tally run_suite(const char* name, Suite suite) {
  Tally total;
  std::vector<const Ops*> variants = variants_here();
  const bool has_tiles = suite == gemm_suite || suite == attend_suite || suite == inject_suite;
  if (has_tiles && emulated_amx() != nullptr) variants.push_back(emulated_amx());
  for (const Ops* ops : variants) {
    Tally variant;
    double worst = 0;
    for (int n_threads = 1; n_threads <= 3; ++n_threads) {
      Threads threads(n_threads);
      Run run;
      run.stream.ops = ops;
      run.stream.backend = &threads;
      run.where = std::string(ops->name) + ", " + std::to_string(n_threads) + " threads";
      suite(run);
      add(variant, run.tally);
      worst = std::max(worst, run.worst);
    }
    report(name, ops->name, variant, worst);
    add(total, variant);
  }
  return total;
}

inline void set_environment(const char* name, const char* value) {
#ifdef _WIN32
  _putenv_s(name, value);
#else
  setenv(name, value, 1);
#endif
}

// On the CUDA device, if there is one, in its default mode and in its exact one.
inline Tally run_suite_on_cuda(const char* name, Suite suite) {
  Tally total;
  for (const char* exact : {"0", "1"}) {
    set_environment("BANYAN_CUDA_EXACT", exact);
    const std::unique_ptr<Device> device = make_cuda_device(0);
    if (device == nullptr) return total;
    Run run;
    run.device = device.get();
    run.stream = device->stream();
    run.where = device->name() + ", " + run.stream.ops->name;
    suite(run);
    report(name, run.stream.ops->name, run.tally, run.worst);
    add(total, run.tally);
  }
  return total;
}

void embed_suite(Run&);
void norm_suite(Run&);
void rope_suite(Run&);
void store_suite(Run&);
void place_suite(Run&);
void merge_suite(Run&);
void gather_suite(Run&);
void compress_suite(Run&);
void cosine_suite(Run&);
void standardize_suite(Run&);
void highest_suite(Run&);
void swiglu_suite(Run&);
void sample_suite(Run&);
void cancel_suite(Run&);
Tally decode_suite();
Tally threads_suite();
Tally device_suite();
Tally emulate_suite();  // where the device is emulated
Tally replay_suite();   // where there is a CUDA backend

}  // namespace banyan::test
