// run: many checks under one case. Counts them, prints the first failures, and judges numbers by a derived tolerance.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "../check.h"

namespace banyan::test {

// Time limits are for plain builds; the sanitizers slow everything down.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kIsSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kIsSanitized = true;
#else
inline constexpr bool kIsSanitized = false;
#endif
#else
inline constexpr bool kIsSanitized = false;
#endif

struct Run {
  using Place = std::source_location;
  int n_checks = 0, n_failed = 0;
  double worst = 0;  // largest error / tolerance seen

  bool check(bool is_right, const std::string& what, Place place = Place::current()) {
    ++n_checks;
    if (is_right) return true;
    if (++n_failed <= 12) fail(place.file_name(), static_cast<int>(place.line()), what);
    else ++failed_checks();
    std::fflush(stdout);
    return false;
  }

  template <class A, class B> bool equal(const A& actual, const B& expected, const std::string& what, Place place = Place::current()) {
    if constexpr (requires {
                    std::to_string(actual);
                    std::to_string(expected);
                  }) {
      return check(actual == expected, what + ": " + std::to_string(actual) + ", expected " + std::to_string(expected), place);
    } else {
      return check(actual == expected, what, place);
    }
  }
  bool equal(const std::string& actual, const std::string& expected, const std::string& what, Place place = Place::current()) {
    return check(actual == expected, what + ": " + actual + ", expected " + expected, place);
  }

  // `body` must throw Error with this code.
  template <class F> void throws(Code code, F&& body, const std::string& what, Place place = Place::current()) {
    try {
      body();
    } catch (const Error& error) {
      check(error.code == code, what + ": " + code_name(error.code) + " (" + error.what() + "), expected " + code_name(code), place);
      return;
    }
    check(false, what + ": nothing was thrown, expected " + code_name(code), place);
  }

  // |actual - exact| <= 2 max|naive - exact| + the rounding of the largest value, and never more than `cap` of it. `naive` is straight code in the
  // arithmetic that the engine uses. The second term covers short sums, where naive code may be exact by luck.
  bool near(const std::vector<float>& actual, const std::vector<double>& exact, const std::vector<double>& naive, double cap, const std::string& what,
      Place place = Place::current()) {
    if (!check(
            actual.size() == exact.size(), what + ": " + std::to_string(actual.size()) + " values, expected " + std::to_string(exact.size()), place))
      return false;
    double naive_error = 0, error = 0, largest = 1;
    for (size_t i = 0; i < exact.size(); ++i) {
      naive_error = std::max(naive_error, std::fabs(naive[i] - exact[i]));
      largest = std::max(largest, std::fabs(exact[i]));
      const double difference = std::fabs(static_cast<double>(actual[i]) - exact[i]);
      if (!(difference <= error)) error = difference;  // also when not a number
      if (std::isnan(difference)) break;
    }
    const double tolerance = std::min(2 * naive_error + 0x1p-20 * largest, cap * largest);
    worst = std::max(worst, error / tolerance);
    char text[120];
    std::snprintf(text, sizeof text, ": error %.3g, tolerance %.3g, naive %.3g", error, tolerance, naive_error);
    return check(error <= tolerance, what + text, place);
  }
};

}  // namespace banyan::test
