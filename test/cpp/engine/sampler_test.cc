// One token out of logits: exact sets, exact distributions, and the same numbers everywhere.
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <set>

#include "engine/sample_table.h"
#include "run.h"

namespace banyan::test {

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Chooses with the op, on one thread of the processor. `logits` are changed by bias and penalties.
int32_t sample(Sampler& sampler, std::vector<float>& logits, const std::vector<int32_t>& recent = {}) {
  static const std::unique_ptr<Device> device = make_cpu_device(1, "");
  static SampleTable table(*device);
  Stream stream = device->stream();
  table.upload(std::vector{sampler.next(recent)});
  table.sample(stream, logits.data(), static_cast<int>(logits.size()));
  return sampler.chosen(table.ids()[0]);
}

int32_t pick(const SamplerOptions& options, std::vector<float> logits, const std::vector<int32_t>& recent = {}) {
  Sampler sampler(options);
  return sample(sampler, logits, recent);
}

// What the logits are after bias and penalties.
std::vector<float> changed(const SamplerOptions& options, std::vector<float> logits, const std::vector<int32_t>& recent) {
  Sampler sampler(options);
  sample(sampler, logits, recent);
  return logits;
}

std::map<int32_t, int> draw(const SamplerOptions& options, const std::vector<float>& logits, int n) {
  Sampler sampler(options);
  std::map<int32_t, int> counts;
  for (int i = 0; i < n; ++i) {
    std::vector<float> copy = logits;
    ++counts[sample(sampler, copy)];
  }
  return counts;
}

std::set<int32_t> seen(const SamplerOptions& options, const std::vector<float>& logits, int n = 4000) {
  std::set<int32_t> ids;
  for (const auto& [id, count] : draw(options, logits, n)) ids.insert(id);
  return ids;
}

// softmax(logits / temperature) over the kept ids against n draws.
double chi_square(const SamplerOptions& options, const std::vector<float>& logits, const std::set<int32_t>& kept, int n) {
  double total = 0;
  for (const int32_t id : kept) total += std::exp(static_cast<double>(logits[static_cast<size_t>(id)]) / options.temperature);
  std::map<int32_t, int> counts = draw(options, logits, n);
  double sum = 0;
  for (const int32_t id : kept) {
    const double expected = n * std::exp(static_cast<double>(logits[static_cast<size_t>(id)]) / options.temperature) / total;
    sum += (counts[id] - expected) * (counts[id] - expected) / expected;
    counts.erase(id);
  }
  return counts.empty() ? sum : 1e9;
}

SamplerOptions warm(float temperature, uint64_t seed = 7) {
  SamplerOptions options;
  options.temperature = temperature;
  options.seed = seed;
  return options;
}

}  // namespace

// xoshiro256** after splitmix64, computed from the published definitions (Blackman and Vigna) by another program.
TEST(sampler_random) {
  Run run;
  const std::vector<std::pair<uint64_t, std::vector<uint64_t>>> known = {
      {0, {0x99ec5f36cb75f2b4u, 0xbf6e1f784956452au, 0x1a5f849d4933e6e0u, 0x6aa594f1262d2d2cu}},
      {1, {0xb3f2af6d0fc710c5u, 0x853b559647364ceau, 0x92f89756082a4514u, 0x642e1c7bc266a3a7u}},
      {42, {0x15780b2e0c2ec716u, 0x6104d9866d113a7eu, 0xae17533239e499a1u, 0xecb8ad4703b360a1u}},
      {~uint64_t{0}, {0x8f5520d52a7ead08u, 0xc476a018caa1802du, 0x81de31c0d260469eu, 0xbf658d7e065f3c2fu}},
  };
  for (const auto& [seed, numbers] : known) {
    Random random(seed);
    for (const uint64_t number : numbers) run.equal(random.next(), number, "number of seed " + std::to_string(seed));
  }
  Random random(0);
  run.equal(random.uniform(), static_cast<double>(0x99ec5f36cb75f2b4u >> 11) / 9007199254740992.0, "uniform");
  for (int i = 0; i < 10000; ++i) {
    const double u = random.uniform();
    run.check(u >= 0 && u < 1, "uniform is in [0, 1)");
  }
}

TEST(sampler_greedy) {
  Run run;
  const SamplerOptions greedy;
  run.equal(pick(greedy, {1, 3, 2}), 1, "the largest");
  run.equal(pick(greedy, {3, 1, 3, 3}), 0, "the lowest id among equals");
  run.equal(pick(greedy, {-5, -2, -2}), 1, "negative");
  run.equal(pick(greedy, {kNaN, -7, kNaN}), 1, "not-a-number is banned");
  run.equal(pick(greedy, {kNaN, kInf, kInf}), 1, "infinity wins");
  run.equal(pick(greedy, {0, -0.0f}), 0, "zeros tie");
  run.equal(pick(warm(-1), {1, 3, 2}), 1, "a negative temperature is greedy");
  for (const float temperature : {0.0f, 1.0f}) {
    run.throws(
        Code::kInternal,
        [&] {
          pick(warm(temperature), {kNaN, -kInf});
        },
        "nothing left");
    run.throws(
        Code::kInternal, [&] { pick(warm(temperature), {}); }, "an empty vocabulary");
    SamplerOptions banned = warm(temperature);
    banned.logit_bias = {{0, -kInf}, {1, -kInf}};
    run.throws(
        Code::kInternal,
        [&] {
          pick(banned, {1, 2});
        },
        "all banned");
    run.equal(pick(banned, {9, 8, -100}), 2, "the one that is left");
    banned.logit_bias = {{1, -kInf}};
    run.equal(pick(banned, {kNaN, kInf, 0}), 2, "banning infinity leaves not-a-number, which is banned");
    SamplerOptions forced = warm(temperature);
    forced.logit_bias = {{2, 1000}};
    run.equal(pick(forced, {5, 6, 1}), 2, "a large bias");
    run.equal(pick(warm(temperature), {1, kInf, 0}), 1, "infinity at any temperature");
  }
  SamplerOptions biased;
  biased.logit_bias = {{0, 0.5f}, {0, 0.75f}};
  run.equal(changed(biased, {1, 2}, {})[0], 2.25f, "biases of one id add up");
}

TEST(sampler_distribution) {
  Run run;
  const std::vector<float> logits = {0.3f, -1.0f, 1.5f, 0.0f, 2.0f, -0.4f, 0.9f, 1.1f};
  const std::set<int32_t> all = {0, 1, 2, 3, 4, 5, 6, 7};
  constexpr double kLimit = 29.9;  // chi-square, 7 degrees of freedom: one in 10000 is larger; the seeds are fixed
  for (const float temperature : {0.5f, 1.0f, 1.7f, 10.0f}) {
    for (const uint64_t seed : {1u, 2u, 3u}) {
      const double x = chi_square(warm(temperature, seed), logits, all, 20000);
      run.check(x < kLimit, "temperature " + std::to_string(temperature) + ": chi-square " + std::to_string(x));
      SamplerOptions both = warm(temperature, seed);
      both.top_k = 4;
      run.check(chi_square(both, logits, {2, 4, 6, 7}, 20000) < kLimit, "top-k renormalizes");
    }
  }
  // the whole range of floats
  run.equal(pick(warm(1e-38f), {1, 2, 1.9999f}), 1, "a tiny temperature is greedy");
  run.check(
      chi_square(warm(1.0f), {3e38f, 3e38f, -3e38f}, {0, 1}, 4000) < kLimit || seen(warm(1.0f), {3e38f, 3e38f, -3e38f}) == std::set<int32_t>{0, 1},
      "huge logits");
  run.equal(seen(warm(1.0f), {-kInf, 0, kNaN, 0}), std::set<int32_t>{1, 3}, "banned ids are never drawn");
}

TEST(sampler_sets) {
  Run run;
  // probabilities 0.4 0.3 0.2 0.1 at ids 2 0 3 1
  const std::vector<float> logits = {std::log(0.3f), std::log(0.1f), std::log(0.4f), std::log(0.2f)};
  using Ids = std::set<int32_t>;
  const auto with = [](int top_k, float top_p, float min_p, float temperature = 1) {
    SamplerOptions options = warm(temperature);
    options.top_k = top_k;
    options.top_p = top_p;
    options.min_p = min_p;
    return options;
  };
  run.equal(seen(with(0, 1, 0), logits), Ids{0, 1, 2, 3}, "no limit");
  run.equal(seen(with(1, 1, 0), logits), Ids{2}, "top-k 1");
  run.equal(seen(with(2, 1, 0), logits), Ids{0, 2}, "top-k 2");
  run.equal(seen(with(4, 1, 0), logits), Ids{0, 1, 2, 3}, "top-k 4 of 4");
  run.equal(seen(with(1000000, 1, 0), logits), Ids{0, 1, 2, 3}, "top-k beyond the vocabulary");
  run.equal(seen(with(-5, 1, 0), logits), Ids{0, 1, 2, 3}, "a negative top-k is off");
  run.equal(seen(with(2, 1, 0), {1, 1, 1, 1}), Ids{0, 1}, "top-k: the lowest ids among equals");
  run.equal(seen(with(0, 0, 0), logits), Ids{2}, "top-p 0 keeps one");
  run.equal(seen(with(0, 0.39f, 0), logits), Ids{2}, "top-p 0.39");
  run.equal(seen(with(0, 0.41f, 0), logits), Ids{0, 2}, "top-p 0.41");
  run.equal(seen(with(0, 0.69f, 0), logits), Ids{0, 2}, "top-p 0.69");
  run.equal(seen(with(0, 0.71f, 0), logits), Ids{0, 2, 3}, "top-p 0.71");
  run.equal(seen(with(0, 0.91f, 0), logits), Ids{0, 1, 2, 3}, "top-p 0.91");
  run.equal(seen(with(0, 0.5f, 0), {0, 0, 0, 0}), Ids{0, 1}, "top-p: the lowest ids among equals");
  run.equal(seen(with(0, 1, 1), logits), Ids{2}, "min-p 1");
  run.equal(seen(with(0, 1, 0.74f), logits), Ids{0, 2}, "min-p 0.74");
  run.equal(seen(with(0, 1, 0.76f), logits), Ids{2}, "min-p 0.76");
  run.equal(seen(with(0, 1, 0.26f), logits), Ids{0, 2, 3}, "min-p 0.26");
  run.equal(seen(with(0, 1, 0.24f), logits), Ids{0, 1, 2, 3}, "min-p 0.24");
  run.equal(seen(with(3, 0.75f, 0), logits), Ids{0, 2}, "top-k, then top-p of what is left: 4/9, 7/9");
  run.equal(seen(with(0, 0.6f, 0.4f), logits), Ids{0, 2}, "min-p, then top-p of what is left");
  // temperature first: at 0.5 the weights are 16 9 4 1 of 30, at 2 their square roots
  run.equal(seen(with(0, 0.52f, 0, 0.5f), logits), Ids{2}, "top-p sees the temperature");
  run.equal(seen(with(0, 0.54f, 0, 0.5f), logits), Ids{0, 2}, "top-p sees the temperature");
  run.equal(seen(with(0, 1, 0.55f, 0.5f), logits), Ids{0, 2}, "min-p sees the temperature: 9/16");
  run.equal(seen(with(0, 1, 0.57f, 0.5f), logits), Ids{2}, "min-p sees the temperature");
  run.equal(seen(with(0, 1, 0.49f, 2.0f), logits), Ids{0, 1, 2, 3}, "min-p sees the temperature: 1/2");
}

TEST(sampler_penalties) {
  Run run;
  SamplerOptions options;
  options.repetition_penalty = 2;
  std::vector<float> out = changed(options, {4, -4, 4, 0}, {0, 1, 0});
  run.equal(out, std::vector<float>{2, -8, 4, 0}, "repetition: divides positive, multiplies negative, once");
  options = {};
  options.frequency_penalty = 0.5f;
  run.equal(changed(options, {4, 4, 4}, {0, 1, 0}), std::vector<float>{3, 3.5f, 4}, "frequency: per occurrence");
  options = {};
  options.presence_penalty = 0.5f;
  run.equal(changed(options, {4, 4, 4}, {0, 1, 0}), std::vector<float>{3.5f, 3.5f, 4}, "presence: once");
  options.penalty_window = 2;
  run.equal(changed(options, {4, 4, 4}, {2, 1, 0}), std::vector<float>{3.5f, 3.5f, 4}, "the last two only");
  options.penalty_window = 0;
  run.equal(changed(options, {4, 4, 4}, {0, 1, 0}), std::vector<float>{4, 4, 4}, "no window");
  options.penalty_window = -3;
  run.equal(changed(options, {4, 4, 4}, {0, 1, 0}), std::vector<float>{4, 4, 4}, "a negative window");
  options.penalty_window = 1000;
  run.equal(changed(options, {4, 4, 4}, {0}), std::vector<float>{3.5f, 4, 4}, "a window longer than the text");
  options.repetition_penalty = 2;
  options.frequency_penalty = 0.25f;
  options.logit_bias = {{0, 4}};
  run.equal(
      changed(options, {4, 4, 4}, {0, 0}), std::vector<float>{8.0f / 2 - 0.5f - 0.5f, 4, 4}, "bias, then repetition, then frequency and presence");
  SamplerOptions banned;
  banned.repetition_penalty = 2;
  banned.logit_bias = {{0, -kInf}};
  run.equal(pick(banned, {9, 1, 0}, {0}), 1, "a banned id stays banned under penalties");
}

TEST(sampler_requests) {
  Run run;
  Random random(3);
  Sampler sampler(warm(0.5f, 3));
  for (int i = 0; i < 3; ++i) {
    const double uniform = random.uniform();
    run.equal(sampler.next({}).row.draw, uniform, "one random number a token");
    run.equal(sampler.next({}).row.draw, uniform, "asking again changes nothing");
    run.equal(sampler.chosen(i), i, "the id that was chosen");
  }
  run.equal(sampler.next({}).row.scale, 2.0f, "one over the temperature");
  run.throws(
      Code::kInternal, [&] { sampler.chosen(-1); }, "nothing left");
  SamplerOptions options;
  options.min_p = 0.5f;
  Sampler greedy(options);
  run.equal(greedy.next({}).row.scale, kInf, "greedy");
  run.equal(greedy.next({}).row.reach, 0.0f, "min-p without temperature");

  // Rows with edits of their own: as many as a table never had, and one again.
  const std::unique_ptr<Device> device = make_cpu_device(2, "");
  Stream stream = device->stream();
  SampleTable table(*device);
  for (const int n : {3, 1, 700, 2}) {
    std::vector<Sampler> samplers;
    std::vector<SampleRequest> requests;
    for (int i = 0; i < n; ++i) {
      SamplerOptions biased;
      for (int32_t id = 0; id < i % 4; ++id) biased.logit_bias.emplace_back(id, -kInf);
      samplers.emplace_back(biased);
    }
    for (Sampler& each : samplers) requests.push_back(each.next({}));
    std::vector<float> logits;
    for (int i = 0; i < n; ++i) logits.insert(logits.end(), {4, 3, 2, 1});
    table.upload(requests);
    table.sample(stream, logits.data(), 4);
    std::vector<int32_t> expected;
    for (int i = 0; i < n; ++i) expected.push_back(i % 4);
    const std::span<const int32_t> ids = table.ids();
    run.equal(std::vector<int32_t>(ids.begin(), ids.end()), expected, "each row has its own edits");
  }
}

TEST(sampler_seeds) {
  Run run;
  const std::vector<float> logits = {0.3f, -1.0f, 1.5f, 0.0f, 2.0f, -0.4f, 0.9f, 1.1f};
  const auto tokens = [&](uint64_t seed) {
    Sampler sampler(warm(1.0f, seed));
    std::vector<int32_t> ids;
    for (int i = 0; i < 64; ++i) {
      std::vector<float> copy = logits;
      ids.push_back(sample(sampler, copy, ids));
    }
    return ids;
  };
  for (uint64_t seed = 0; seed < 20; ++seed) {
    run.equal(tokens(seed), tokens(seed), "the same seed, the same tokens");
    run.check(tokens(seed) != tokens(seed + 1), "another seed, other tokens");
  }
  // by hand: the first uniform of seed 0 is 0.6013; of the cumulative weights in id order the first above it is drawn
  double total = 0, below = 0;
  for (const float logit : logits) total += std::exp(static_cast<double>(logit));
  const double target = static_cast<double>(0x99ec5f36cb75f2b4u >> 11) / 9007199254740992.0 * total;
  int32_t expected = 0;
  for (; expected < 8; ++expected) {
    below += std::exp(static_cast<double>(logits[static_cast<size_t>(expected)]));
    if (below > target) break;
  }
  run.equal(pick(warm(1.0f, 0), logits), expected, "the first token of seed 0");
}

}  // namespace banyan::test
