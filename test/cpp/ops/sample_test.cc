// sample against float64: the sets that are kept, ties at their borders, and draws as far from a border as float32 can tell; wherever a draw falls, all
// variants and devices choose the same.
#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <optional>

#include "check.h"
#include "data.h"

namespace banyan::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

enum class Logits { kUniform, kPeaked, kEqual, kTies, kHuge, kTiny, kSpecial, kInfinite, kBanned };
constexpr const char* kLogitsNames[] = {"uniform", "peaked", "equal", "ties", "huge", "tiny", "special", "infinite", "banned"};

struct SampleCase {
  int vocab;
  Logits logits;
  int n_draws;  // of each way to choose
};

std::vector<SampleCase> sample_cases() {
  std::vector<SampleCase> cases;
  for (const int vocab : {1, 7, 513}) {
    for (int kind = 0; kind <= static_cast<int>(Logits::kBanned); ++kind) cases.push_back({vocab, static_cast<Logits>(kind), 4});
  }
  cases.push_back({32003, Logits::kUniform, 1});
  cases.push_back({32003, Logits::kTies, 1});
  cases.push_back({32004, Logits::kSpecial, 1});
  cases.push_back({128256, Logits::kPeaked, 1});
  cases.push_back({128256, Logits::kEqual, 1});
  cases.push_back({262148, Logits::kTies, 1});  // more than a tile a thread
  return cases;
}

struct Way {
  float temperature;
  int top_k;
  float top_p, min_p;
};

constexpr Way kWays[] = {{0, 40, 0.9f, 0.1f}, {1, 0, 1, 0}, {0.7f, 0, 0.9f, 0}, {0.8f, 40, 0.95f, 0}, {1.3f, 0, 0.31f, 0}, {1, 1, 1, 0},
    {1, 3, 0.75f, 0}, {2, 700, 1, 0}, {0.5f, 5000, 0.6f, 0}, {1, 0, 1, 0.05f}, {1.1f, 6, 0.8f, 0.2f}, {1, 0, 0, 0}, {1, 1 << 30, 1, 1},
    {1e30f, 5, 0.5f, 0}, {kInfinity, -1, 1, 0}, {1e-30f, 0, 0.5f, 0}};

SampleRow row_of(const Way& way, double draw) {
  const float scale = way.temperature > 0 ? 1 / way.temperature : kInfinity;
  const float reach = way.min_p > 0 ? way.temperature * std::log(way.min_p) : -kInfinity;
  return {scale, reach, way.top_p, way.top_k, draw, 0, 0};
}

std::vector<float> logits_of(Random& random, Logits kind, int vocab) {
  std::vector<float> x = random.floats(static_cast<size_t>(vocab), 8.0f);
  for (float& logit : x) {
    switch (kind) {
      case Logits::kUniform: break;
      case Logits::kPeaked: logit = logit * 0.2f + random.uniform() * random.uniform() * 12.0f; break;
      case Logits::kEqual: logit = 1.25f; break;
      case Logits::kTies: logit = std::round(logit / 3); break;
      case Logits::kHuge: logit *= 2e37f; break;  // differences stay finite
      case Logits::kTiny: logit *= 0x1p-130f; break;
      case Logits::kSpecial: {
        constexpr float kSome[] = {NAN, -kInfinity, 0.0f, -0.0f, -NAN, 0x1p-149f, -0x1p-149f, -3.4e38f};
        if (random.below(2) == 0) logit = kSome[random.below(8)];
        else logit = -std::fabs(logit);
        break;
      }
      case Logits::kInfinite: logit = random.below(3) == 0 ? kInfinity : logit; break;
      case Logits::kBanned: logit = random.below(2) == 0 ? -kInfinity : NAN; break;
    }
  }
  return x;
}

// Some tokens, no one twice; in a large vocabulary hundreds.
std::vector<LogitEdit> edits_of(Random& random, int vocab, int n) {
  std::vector<LogitEdit> edits;
  for (int i = 0; i < std::min(n, vocab); ++i) {
    LogitEdit edit{static_cast<int32_t>(int64_t{i} * vocab / std::min(n, vocab)), random.uniform(), 1, 0};
    if (random.below(3) == 0) edit.bias = random.below(2) == 0 ? -kInfinity : 0;
    if (random.below(2) == 0) edit.repetition = 1.3f, edit.subtracted = random.uniform();
    edits.push_back(edit);
  }
  return edits;
}

// In float64, rounded to float32 at each step: the same as float32 that is never fused.
void apply(std::vector<float>& logits, const std::vector<LogitEdit>& edits) {
  const auto rounded = [](double x) { return static_cast<double>(static_cast<float>(x)); };
  for (const LogitEdit& edit : edits) {
    float& logit = logits[static_cast<size_t>(edit.id)];
    const double x = rounded(static_cast<double>(logit) + static_cast<double>(edit.bias)), by = static_cast<double>(edit.repetition);
    logit = static_cast<float>(rounded(x > 0 ? x / by : x * by) - static_cast<double>(edit.subtracted));
  }
}

// What a row keeps, and the cumulative weights of that in the order of ids.
struct Distribution {
  std::vector<int32_t> ids;
  std::vector<double> sums;
  double error = 0;     // of a sum, at most
  bool is_sure = true;  // which tokens top_p keeps is not within that
  int32_t greedy = -1;

  double total() const { return sums.back(); }
  // The token of a draw; nothing if it falls on a border.
  std::optional<int32_t> at(double draw) const {
    if (greedy >= 0) return greedy;
    if (ids.empty()) return -1;
    const double target = draw * total();
    const size_t i = static_cast<size_t>(std::upper_bound(sums.begin(), sums.end(), target) - sums.begin());
    if (i == ids.size() || (i > 0 && target - sums[i - 1] < 2 * error) || sums[i] - target <= 2 * error) return std::nullopt;
    return ids[i];
  }
};

// A weight is off by the roundings of its exponent and of the exponential, and by what is cut off at 2^-40; that of the highest logit is exactly 1.
Distribution distribution_of(const std::vector<float>& logits, const SampleRow& how) {
  Distribution result;
  std::vector<int32_t> order;
  float highest = -kInfinity;
  for (const float x : logits) highest = std::max(highest, x == x ? x : -kInfinity);
  if (highest == -kInfinity) return result;
  if (highest == kInfinity || how.scale == kInfinity) {
    result.greedy = static_cast<int32_t>(std::find(logits.begin(), logits.end(), highest) - logits.begin());
    return result;
  }
  const float floor = highest + how.reach;
  for (int32_t i = 0; i < static_cast<int32_t>(logits.size()); ++i) {
    const float x = logits[static_cast<size_t>(i)];
    if (x >= floor && x > -kInfinity) order.push_back(i);
  }
  const auto logit = [&](int32_t i) { return static_cast<double>(logits[static_cast<size_t>(i)]); };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logit(a) > logit(b); });
  if (how.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(how.top_k)));
  const auto exponent = [&](int32_t i) { return (logit(i) - static_cast<double>(highest)) * static_cast<double>(how.scale); };
  const auto weight = [&](int32_t i) { return exponent(i) < -27.8 ? 0.0 : std::exp(exponent(i)); };  // 2^-40 is e^-27.7
  const auto error = [&](int32_t i) { return exponent(i) == 0 ? 0 : weight(i) * (3 - exponent(i)) * 0x1p-23 + 0x1p-39; };
  double total = 0;
  for (const int32_t i : order) {
    total += weight(i);
    result.error += error(i);
  }
  if (how.top_p < 1) {
    const double need = static_cast<double>(how.top_p) * total;
    double sum = 0;
    size_t n = 0;
    do {
      result.is_sure = result.is_sure && (std::fabs(sum - need) > 2 * result.error || result.error == 0);
      sum += weight(order[n++]);
    } while (n < order.size() && sum < need);
    result.is_sure = result.is_sure && (std::fabs(sum - need) > 2 * result.error || result.error == 0 || n == 1);
    order.resize(n);
  }
  std::sort(order.begin(), order.end());
  for (const int32_t i : order) {
    result.ids.push_back(i);
    result.sums.push_back((result.sums.empty() ? 0 : result.sums.back()) + weight(i));
  }
  return result;
}

// The rows of a case: each way to choose with draws anywhere and, where possible, with draws off the borders, whose token is then known.
struct Expected {
  std::vector<float> logits, edited;
  std::vector<SampleRow> rows;
  std::vector<LogitEdit> edits;
  std::vector<std::optional<int32_t>> ids;
  std::vector<int32_t> first;  // what the first variant chose
  int n_known = 0;
};

Expected expect(const SampleCase& c) {
  Expected e;
  Random random(static_cast<uint64_t>(c.vocab) * 16 + static_cast<uint64_t>(c.logits));
  const auto uniform = [&random] { return static_cast<double>(random.next() >> 11) * 0x1p-53; };
  for (size_t way = 0; way < std::size(kWays); ++way) {
    std::vector<float> logits = logits_of(random, c.logits, c.vocab), edited = logits;
    const std::vector<LogitEdit> edits = edits_of(random, c.vocab, way % 4 == 1 ? 700 : static_cast<int>(way % 4));
    SampleRow row = row_of(kWays[way], 0);
    row.first_edit = static_cast<int32_t>(e.edits.size());
    row.n_edits = static_cast<int32_t>(edits.size());
    e.edits.insert(e.edits.end(), edits.begin(), edits.end());
    apply(edited, edits);
    Distribution distribution = distribution_of(edited, row);
    for (int i = 0; i < 100 && !distribution.is_sure; ++i) {
      row.top_p *= 0.999f;
      distribution = distribution_of(edited, row);
    }
    for (int i = 0; i < c.n_draws; ++i) {
      row.draw = i == 1 ? 0 : i == 2 ? 1 - 0x1p-53 : uniform();
      for (int n = 0; i != 1 && i != 2 && n < 1000 && !distribution.at(row.draw); ++n) row.draw = uniform();
      e.rows.push_back(row);
      e.ids.push_back(distribution.is_sure ? distribution.at(row.draw) : std::nullopt);
      e.n_known += e.ids.back() ? 1 : 0;
      e.logits.insert(e.logits.end(), logits.begin(), logits.end());
      e.edited.insert(e.edited.end(), edited.begin(), edited.end());
    }
  }
  return e;
}

bool is_same(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) { return x == y || (std::isnan(x) && std::isnan(y)); });
}

void check_case(Run& run, const SampleCase& c, Expected& e) {
  const std::string what = std::string("sample ") + std::to_string(c.vocab) + " " + kLogitsNames[static_cast<int>(c.logits)];
  std::vector<float> logits = e.logits;
  std::vector<int32_t> ids(e.rows.size(), -7);
  run.sample({ids.data(), logits.data(), e.rows.data(), e.edits.data(), static_cast<int>(e.rows.size()), c.vocab});
  run.check(is_same(logits, e.edited), what + ": edits");
  for (size_t i = 0; i < ids.size(); ++i) {
    const SampleRow& row = e.rows[i];
    char text[160];
    std::snprintf(text, sizeof text, ", scale %g reach %g top_p %g top_k %d draw %.17g: %d", static_cast<double>(row.scale),
        static_cast<double>(row.reach), static_cast<double>(row.top_p), row.top_k, row.draw, ids[i]);
    if (e.ids[i]) run.check(ids[i] == *e.ids[i], what + text + ", expected " + std::to_string(*e.ids[i]));
  }
  if (e.first.empty()) e.first = ids;
  run.check(ids == e.first, what + ": every variant chooses the same");
}

// As often as its probability says.
void check_frequencies(Run& run) {
  constexpr int kVocab = 5, kDraws = 400;
  const std::vector<float> logits = {0, std::log(2.0f), -kInfinity, std::log(4.0f), std::log(3.0f)};
  std::vector<SampleRow> rows;
  std::vector<float> all;
  for (int i = 0; i < kDraws; ++i) {
    rows.push_back(row_of({1, 0, 1, 0}, (i + 0.5) / kDraws));
    all.insert(all.end(), logits.begin(), logits.end());
  }
  std::vector<int32_t> ids(kDraws), counts(kVocab);
  run.sample({ids.data(), all.data(), rows.data(), nullptr, kDraws, kVocab});
  for (const int32_t id : ids) ++counts[static_cast<size_t>(id)];
  run.check(counts == std::vector<int32_t>{40, 80, 0, 160, 120}, "sample: evenly spaced draws");
  run.check(std::is_sorted(ids.begin(), ids.end()), "sample: a larger draw is a larger id");
}

}  // namespace

void sample_suite(Run& run) {
  static std::map<size_t, Expected> known;
  check_frequencies(run);
  run.sample({nullptr, nullptr, nullptr, nullptr, 0, 100});
  const std::vector<SampleCase> cases = sample_cases();
  for (size_t i = 0; i < cases.size(); ++i) {
    auto found = known.find(i);
    if (found == known.end()) found = known.emplace(i, expect(cases[i])).first;
    const Expected& e = found->second;
    run.check(e.n_known >= static_cast<int>(e.rows.size()) / 2, "sample: most draws fall off the borders");
    check_case(run, cases[i], found->second);
  }
}

}  // namespace banyan::test
