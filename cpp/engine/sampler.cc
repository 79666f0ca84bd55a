#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

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

namespace {

// The biases of one id add up.
std::vector<LogitEdit> edits_of(std::vector<std::pair<int32_t, float>> biases) {
  std::stable_sort(biases.begin(), biases.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<LogitEdit> edits;
  for (const auto& [id, bias] : biases) {
    if (edits.empty() || edits.back().id != id) edits.push_back({id, bias, 1, 0});
    else edits.back().bias += bias;
  }
  return edits;
}

}  // namespace

Sampler::Sampler(const SamplerOptions& options)
    : options_(options),
      is_greedy_(!(options.temperature > 0.0f)),
      has_penalties_(options.repetition_penalty != 1.0f || options.frequency_penalty != 0.0f || options.presence_penalty != 0.0f),
      random_(options.seed),
      draw_(is_greedy_ ? 0.0 : random_.uniform()),
      biases_(edits_of(options.logit_bias)) {}

// The biases, and a penalty for each token of the window.
void Sampler::add_edits(std::span<const int32_t> recent) {
  const auto window = recent.last(std::min(recent.size(), static_cast<size_t>(std::max(options_.penalty_window, 0))));
  window_.assign(window.begin(), window.end());
  std::sort(window_.begin(), window_.end());
  edits_.clear();
  auto bias = biases_.begin();
  for (auto at = window_.begin(); at != window_.end();) {
    const int32_t id = *at;
    const auto end = std::upper_bound(at, window_.end(), id);
    const auto count = static_cast<float>(end - at);
    at = end;
    while (bias != biases_.end() && bias->id < id) edits_.push_back(*bias++);
    edits_.push_back({id, 0, options_.repetition_penalty, options_.frequency_penalty * count + options_.presence_penalty});
    if (bias != biases_.end() && bias->id == id) edits_.back().bias = (bias++)->bias;
  }
  edits_.insert(edits_.end(), bias, biases_.end());
}

SampleRequest Sampler::next(std::span<const int32_t> recent) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  SampleRow row{kInfinity, -kInfinity, options_.top_p, options_.top_k, draw_, 0, 0};
  if (!is_greedy_) row.scale = 1.0f / options_.temperature;
  // min-p in the domain of logits: p >= min_p * p_max  <=>  logit >= max + T ln(min_p)
  if (options_.min_p > 0.0f) row.reach = options_.temperature * std::log(options_.min_p);
  if (!has_penalties_) return {row, biases_};
  add_edits(recent);
  return {row, edits_};
}

int32_t Sampler::chosen(int32_t id) {
  if (id < 0) throw Error(Code::kInternal, "no token is left to choose from: every logit is banned or not a number");
  if (!is_greedy_) draw_ = random_.uniform();
  return id;
}

}  // namespace banyan
