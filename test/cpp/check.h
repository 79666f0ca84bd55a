// check: the test harness of the C++ programs. TEST(name) { CHECK(...); } registers a case; run_tests runs all whose names contain the arguments.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"

namespace banyan::test {

struct Case {
  const char* name;
  void (*run)();
};

struct Skipped {
  std::string reason;
};

inline std::vector<Case>& all_cases() {
  static std::vector<Case> cases;
  return cases;
}

inline int& failed_checks() {
  static int n_failed = 0;
  return n_failed;
}

struct Registration {
  Registration(const char* name, void (*run)()) { all_cases().push_back({name, run}); }
};

inline void fail(const char* file, int line, const std::string& what) {
  const char* slash = std::strrchr(file, '/');
  std::printf("    %s:%d: %s\n", slash != nullptr ? slash + 1 : file, line, what.c_str());
  ++failed_checks();
}

// Ends a case that cannot run here.
[[noreturn]] inline void skip(const std::string& reason) { throw Skipped{reason}; }

template <class T> std::string text_of(const T& value) {
  std::ostringstream stream;
  stream.precision(17);
  if constexpr (requires { stream << value; }) stream << value;
  else stream << "(no text)";
  return stream.str();
}

template <class A, class B> void check_equal(const A& a, const B& b, const char* text, const char* file, int line) {
  if (!(a == b)) fail(file, line, std::string(text) + ": " + text_of(a) + " is not " + text_of(b));
}

inline void check_near(double a, double b, double tolerance, const char* text, const char* file, int line) {
  if (!(std::abs(a - b) <= tolerance))
    fail(file, line, std::string(text) + ": " + text_of(a) + " is not within " + text_of(tolerance) + " of " + text_of(b));
}

// `body` must throw Error with this code and a message that contains `part`.
template <class Body> void check_throws(Code code, const std::string& part, Body&& body, const char* text, const char* file, int line) {
  try {
    body();
  } catch (const Error& error) {
    if (error.code != code) {
      fail(file, line, std::string(text) + ": threw " + code_name(error.code) + ", not " + code_name(code) + ": " + error.what());
    } else if (std::string(error.what()).find(part) == std::string::npos) {
      fail(file, line, std::string(text) + ": the message lacks \"" + part + "\": " + error.what());
    }
    return;
  } catch (const std::exception& error) { return fail(file, line, std::string(text) + ": threw something else: " + error.what()); }
  fail(file, line, std::string(text) + ": did not throw " + code_name(code));
}

inline int run_tests(int n_args, char** args) {
  int n_passed = 0, n_failed = 0, n_skipped = 0;
  for (const Case& test : all_cases()) {
    bool is_wanted = n_args <= 1;
    for (int i = 1; i < n_args; ++i) is_wanted = is_wanted || std::strstr(test.name, args[i]) != nullptr;
    if (!is_wanted) continue;
    const int n_before = failed_checks();
    try {
      test.run();
    } catch (const Skipped& skipped) {
      std::printf("  skipped %s: %s\n", test.name, skipped.reason.c_str());
      ++n_skipped;
      continue;
    } catch (const Error& error) {
      fail(test.name, 0, std::string("threw ") + code_name(error.code) + ": " + error.what());
    } catch (const std::exception& error) { fail(test.name, 0, std::string("threw ") + error.what()); }
    const bool is_good = failed_checks() == n_before;
    if (!is_good) std::printf("  FAILED %s\n", test.name);
    ++(is_good ? n_passed : n_failed);
  }
  if (n_skipped > 0) std::printf("%d skipped\n", n_skipped);
  std::printf("%d passed, %d failed\n", n_passed, n_failed);
  return n_failed == 0 ? 0 : 1;
}

}  // namespace banyan::test

#define TEST(name)                                                             \
  static void test_##name();                                                   \
  static const banyan::test::Registration register_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(...) ((__VA_ARGS__) ? void() : banyan::test::fail(__FILE__, __LINE__, #__VA_ARGS__))
#define CHECK_EQUAL(a, b) banyan::test::check_equal(a, b, #a, __FILE__, __LINE__)
#define CHECK_NEAR(a, b, tolerance) banyan::test::check_near(a, b, tolerance, #a, __FILE__, __LINE__)
#define CHECK_THROWS(code, part, ...) \
  banyan::test::check_throws(         \
      banyan::Code::code, part, [&] { static_cast<void>(__VA_ARGS__); }, #__VA_ARGS__, __FILE__, __LINE__)
