// sampler: one token out of logits. Order: bias, penalties, temperature, top-k, min-p, top-p, draw.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "banyan.h"

namespace banyan {

// xoshiro256**, seeded by splitmix64: the same numbers on every platform.
class Random {
 public:
  explicit Random(uint64_t seed);
  uint64_t next();
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }  // [0, 1)

 private:
  std::array<uint64_t, 4> state_;
};

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {}

  // logits [V] are changed. `recent` are all tokens so far (prompt and answer); the penalties look at the last penalty_window of them.
  // Greedy (temperature 0) takes the lowest id among equals. Not-a-number counts as banned; throws kInternal if nothing is left.
  int32_t sample(std::span<float> logits, std::span<const int32_t> recent);

 private:
  void penalize(std::span<float> logits, std::span<const int32_t> recent) const;
  const SamplerOptions options_;
  Random random_;
  struct Candidate {
    float logit;
    int32_t id;
  };
  std::vector<Candidate> candidates_;
};

}  // namespace banyan
