// upper: the whole decoder. Runs passes, and what selection asks of the lowest layers.
#pragma once

#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/memory.h"
#include "engine/pass.h"
#include "engine/sample_table.h"

namespace banyan {

class Upper {
 public:
  explicit Upper(Engine& engine)
      : e_(engine),
        indices_(*engine.device),
        picked_(*engine.device),
        logits_(*engine.device),
        step_freq_(*engine.device),
        samples_(*engine.device) {}

  // Runs a pass; what it was to read remains in the activations until the next one. Throws kAborted, kOutOfMemory. If something is read, a failure of the
  // device may be told by logits() instead, which waits for both.
  void run(Stream& s, const Pass& pass);

  // Logits [n, V] of the rows the last run() left, on the host; n is 1 for kLast.
  std::vector<float> logits(Stream& s, int n);

  // The token behind each of those rows; -1 where none is left. Only ids come back. Valid until the next call.
  std::span<const int32_t> sample(Stream& s, std::span<const SampleRequest> requests);

  // Block 0 without injection over ids[0..index], final norm of its output at `index` (sharedllm-semantics 5). [D]
  std::vector<float> query_vector(Stream& s, std::span<const int32_t> ids, int64_t index);

  // The cross query of an injected layer at `index`, from a pass without memory, unrotated. [H, C]
  std::vector<float> cross_query(Stream& s, std::span<const int32_t> ids, int64_t index, int layer);

 private:
  struct Plan;
  void reserve_logits(int n);
  void compute_logits(Stream& s, int n);
  void attend_to(Stream& s, const Layer& layer, const Pass& pass, const Plan& plan, int index, bool is_last_row_only, bool are_asked);
  const float* cross_frequencies(const Pass& pass);
  void read_question(Stream& s, std::span<const int32_t> ids, int64_t index, int layer);
  std::vector<float> to_host(Stream& s, const Buffer& buffer, int64_t n) const;
  Engine& e_;
  IndexTable indices_;
  Buffer picked_, logits_, step_freq_;
  SampleTable samples_;
};

}  // namespace banyan
