// report: measured values as JSON lines, each as it is known, and the time that is left.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "base/json.h"

namespace banyan::bench {

class Report {
 public:
  explicit Report(double limit_seconds) : limit_(limit_seconds) {}

  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }
  bool is_over() const { return seconds() > limit_; }
  bool has_time_for(double more_seconds) const { return seconds() + more_seconds <= limit_; }

  // All samples of one quantity, as `Measured` of bench/result_file.ts. Less of a cost is better.
  void cost(const std::string& name, const std::string& unit, const std::vector<double>& values) { add(name, unit, true, values); }
  void gain(const std::string& name, const std::string& unit, const std::vector<double>& values) { add(name, unit, false, values); }
  // A part, or a repetition of it, that found no time.
  void skipped(const std::string& what) { print(JsonWriter().begin_object().key("skipped").string(what).end_object()); }
  void print(const JsonWriter& line) {
    std::printf("%s\n", line.text().c_str());
    std::fflush(stdout);
  }

 private:
  void add(const std::string& name, const std::string& unit, bool is_cost, const std::vector<double>& values) {
    JsonWriter line;
    line.begin_object().key("name").string(name).key("unit").string(unit).key("isCost").boolean(is_cost).key("values").begin_array();
    for (const double value : values) line.number(value);
    print(line.end_array().end_object());
  }

  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  const double limit_;
};

// As the tables of other benchmarks say it: "128K", "700".
inline std::string short_length(int n) { return n >= 1024 && n % 1024 == 0 ? std::to_string(n / 1024) + 'K' : std::to_string(n); }

}  // namespace banyan::bench
