// upper: the whole decoder over local tokens, with the memory injected into its lowest layers.
#pragma once

#include <span>
#include <vector>

#include "engine/cache.h"
#include "engine/engine.h"
#include "engine/memory.h"

namespace banyan {

class Upper {
 public:
  explicit Upper(Engine& engine)
      : e_(engine), indices_(*engine.device), picked_(*engine.device), logits_(*engine.device), step_freq_(*engine.device) {}

  enum class Read : uint8_t { kNothing, kLast, kAll };  // whose hidden states are wanted; the last layer computes only those

  // Runs `ids` at positions n_past.. and appends their keys and values to the cache (which has room). memory may be null. `is_released_step`: the
  // released code's one-token call, whose cross queries turn by one common angle (sharedllm-semantics 9). Throws kAborted.
  void forward(Stream& s, Cache& cache, const Memory* memory, std::span<const int32_t> ids, int n_past, Read read, bool is_released_step);

  // Logits [n, V] of the rows the last forward() left, on the host; n is 1 for kLast.
  std::vector<float> logits(Stream& s, int n);

  // Block 0 without injection over ids[0..index], final norm of its output at `index` (sharedllm-semantics 5). [D]
  std::vector<float> query_vector(Stream& s, std::span<const int32_t> ids, int64_t index);

  // The cross query of an injected layer at `index`, from a pass without memory, unrotated. [H, C]
  std::vector<float> cross_query(Stream& s, std::span<const int32_t> ids, int64_t index, int layer);

 private:
  void read_question(Stream& s, std::span<const int32_t> ids, int64_t index, int layer);
  std::vector<float> to_host(Stream& s, const Buffer& buffer, int64_t n) const;
  Engine& e_;
  IndexTable indices_;
  Buffer picked_, logits_, step_freq_;
};

}  // namespace banyan
