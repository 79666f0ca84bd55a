// sampler: how the next token of a run is chosen: its options, its random numbers, and which logits the penalties change. The op `sample` chooses.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "banyan.h"
#include "device/ops.h"

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

// A row of the op with the edits of its own.
struct SampleRequest {
  SampleRow row;
  std::span<const LogitEdit> edits;
};

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);

  // How to choose the token behind `recent`, all tokens so far (prompt and answer); the penalties look at the last penalty_window of them. The edits
  // are valid until the next call. Asking again gives the same until chosen() was called: a choice takes one random number, a greedy one none.
  SampleRequest next(std::span<const int32_t> recent);

  // The id that the op gave. Throws kInternal for -1: nothing was left.
  int32_t chosen(int32_t id);

 private:
  void add_edits(std::span<const int32_t> recent);
  const SamplerOptions options_;
  const bool is_greedy_, has_penalties_;
  Random random_;
  double draw_;
  std::vector<LogitEdit> biases_, edits_;  // by id; what biases alone change
  std::vector<int32_t> window_;            // sorted
};

}  // namespace banyan
