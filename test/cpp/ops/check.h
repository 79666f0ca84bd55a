// check: the harness. A suite is a function; it runs once for every variant this machine has and for 1, 2 and 3 threads, and counts its checks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/threads.h"
#include "device/ops.h"

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

// One run of a suite: where it runs and what it has found.
struct Run {
  Stream stream;
  std::string place;  // "avx2, 3 threads"
  Tally tally;
  double worst = 0;  // largest error / tolerance seen

  void check(bool is_right, const std::string& what) {
    ++(is_right ? tally.passed : tally.failed);
    if (!is_right && tally.failed <= 5) std::printf("  FAILED (%s): %s\n", place.c_str(), what.c_str());
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
  void check_logarithms(std::vector<float> out, std::vector<double> oracle, std::vector<float> naive, const std::string& what) {
    bool is_right = true;
    for (size_t i = 0; i < oracle.size(); ++i) {
      is_right = is_right && (out[i] == -INFINITY) == (oracle[i] == -INFINITY);
      if (oracle[i] != -INFINITY) continue;
      out[i] = naive[i] = 0;
      oracle[i] = 0;
    }
    check(is_right, what + ": -infinity where something counts, or the reverse");
    check_near(out, oracle, naive, what);
  }
};

using Suite = void (*)(Run&);

// All variants x 1, 2, 3 threads; a line per variant.
inline Tally run_suite(const char* name, Suite suite) {
  Tally total;
  for (const Ops* ops : variants_here()) {
    Tally variant;
    double worst = 0;
    for (int n_threads = 1; n_threads <= 3; ++n_threads) {
      Threads threads(n_threads);
      Run run;
      run.stream.ops = ops;
      run.stream.backend = &threads;
      run.place = std::string(ops->name) + ", " + std::to_string(n_threads) + " threads";
      suite(run);
      variant.passed += run.tally.passed;
      variant.failed += run.tally.failed;
      worst = std::max(worst, run.worst);
    }
    std::printf("%-10s %-10s %6d passed %4d failed   worst error / tolerance %.2f\n", name, ops->name, variant.passed, variant.failed, worst);
    std::fflush(stdout);
    total.passed += variant.passed;
    total.failed += variant.failed;
  }
  return total;
}

void embed_suite(Run&);
void norm_suite(Run&);
void gemm_suite(Run&);
void rope_suite(Run&);
void store_suite(Run&);
void place_suite(Run&);
void attend_suite(Run&);
void inject_suite(Run&);
void merge_suite(Run&);
void gather_suite(Run&);
void pool_suite(Run&);
void swiglu_suite(Run&);
void cancel_suite(Run&);
Tally decode_suite();
Tally threads_suite();
Tally device_suite();

}  // namespace banyan::test
