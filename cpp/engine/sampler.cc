#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>

namespace banyan {

Random::Random(uint64_t seed) {
  for (uint64_t& word : state_) {
    seed += 0x9e3779b97f4a7c15u;
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    word = z ^ (z >> 31);
  }
}

uint64_t Random::next() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9, t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

void Sampler::penalize(std::span<float> logits, std::span<const int32_t> recent) const {
  if (options_.repetition_penalty == 1.0f && options_.frequency_penalty == 0.0f && options_.presence_penalty == 0.0f) return;
  const size_t window = std::min(recent.size(), static_cast<size_t>(std::max(options_.penalty_window, 0)));
  std::map<int32_t, int> counts;
  for (const int32_t id : recent.last(window)) ++counts[id];
  for (const auto& [id, count] : counts) {
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    logit -= options_.frequency_penalty * static_cast<float>(count) + options_.presence_penalty;
  }
}

int32_t Sampler::sample(std::span<float> logits, std::span<const int32_t> recent) {
  constexpr float kBanned = -std::numeric_limits<float>::infinity();
  for (const auto& [id, bias] : options_.logit_bias) logits[static_cast<size_t>(id)] += bias;
  penalize(logits, recent);
  for (float& logit : logits) {
    if (std::isnan(logit)) logit = kBanned;
  }
  const auto best = std::max_element(logits.begin(), logits.end());
  if (best == logits.end() || *best == kBanned)
    throw Error(Code::kInternal, "no token is left to choose from: every logit is banned or not a number");
  if (options_.temperature <= 0.0f || *best == std::numeric_limits<float>::infinity()) return static_cast<int32_t>(best - logits.begin());

  candidates_.clear();
  // min-p in the logit domain: p >= min_p * p_max  <=>  logit >= max + T ln(min_p)
  const float floor = options_.min_p > 0.0f ? *best + options_.temperature * std::log(options_.min_p) : kBanned;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] != kBanned && logits[i] >= floor) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  }
  const auto before = [](const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; };
  if (options_.top_k > 0 && static_cast<size_t>(options_.top_k) < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + options_.top_k, candidates_.end(), before);
    candidates_.resize(static_cast<size_t>(options_.top_k));
  }
  const float top = *best;
  double total = 0;
  const auto weight = [&](const Candidate& c) { return std::exp(static_cast<double>(c.logit - top) / options_.temperature); };
  for (const Candidate& c : candidates_) total += weight(c);
  if (options_.top_p < 1.0f) {  // the smallest set of the likeliest tokens whose probability reaches top_p
    std::sort(candidates_.begin(), candidates_.end(), before);
    double kept = 0;
    size_t n = 0;
    while (n < candidates_.size() && (n == 0 || kept < options_.top_p * total)) kept += weight(candidates_[n++]);
    candidates_.resize(n);
    total = kept;
  }
  double draw = random_.uniform() * total;
  for (const Candidate& c : candidates_) {
    draw -= weight(c);
    if (draw < 0) return c.id;
  }
  return candidates_.back().id;  // rounding left a sliver
}

}  // namespace banyan
