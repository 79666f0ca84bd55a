// pass: one ragged run of rows through all layers of the upper model, told as data: who the rows are, where their keys and values go, what they see.
// The local context of every method, whole chunks, and FocusLLM's chunk steps are passes; Upper runs them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/layer.h"

namespace banyan {

class Memory;

using LayerKv = std::function<KvView(int layer)>;

// Some of the keys that rows see, the same places in every layer. Ranges are in the order in which the rows attend.
struct SeenKeys {
  LayerKv kv;
  int first = 0;                    // of the rows, in that order
  std::vector<int32_t> begin, end;  // visible rows of kv, one entry for each of the rows from `first` on
  std::vector<int32_t> positions;   // the queries' rotation towards these keys; empty: the rows' own positions
  float temperature = 1;            // divides the scores
  float power = 1, bias = 0;        // of the groups before this one, when it joins (MergeArgs)

  // Rows that all see the same keys.
  static SeenKeys same(LayerKv kv, int n_rows, int first_key, int last_key) {
    SeenKeys seen;
    seen.kv = std::move(kv);
    seen.begin.assign(static_cast<size_t>(n_rows), first_key);
    seen.end.assign(static_cast<size_t>(n_rows), last_key);
    return seen;
  }
};

// n tokens in rows n_past, n_past + 1, ... of a cache: each sees what comes before it and itself, or the last `sliding_window` of these (0: all).
SeenKeys seen_locally(LayerKv kv, int n, int n_past, int64_t sliding_window);

struct Pass {
  enum class Read : uint8_t { kNothing, kLast, kAll };  // whose hidden states are wanted; the last layer computes only those

  // Keys (rotated) and values of rows [first, first + n) go to kv.
  struct Target {
    LayerKv kv;
    int first, n;
  };
  // SharedLLM: rows [first, first + n) attend to the memory. Rows without one have none injected.
  struct Injected {
    const Memory* memory;
    int first, n;
  };

  std::vector<int32_t> ids, positions;  // [T]
  std::vector<Target> targets;          // of all rows
  std::vector<int32_t> rows;            // [T] where in its target
  std::vector<SeenKeys> seen;           // several groups of one row: their softmax is one. A group's rows all have one before it, or none
  std::vector<int32_t> order;           // [T] the row that attends i-th; empty: as they come. Not with kLast.
  Read read = Read::kNothing;
  const Rotation* rotation = nullptr;  // null: the model's own

  std::vector<Injected> injected;  // SharedLLM
  bool is_released_step = false;   // the released code's one-token call, whose cross queries turn by one common angle (sharedllm-semantics 9)

  // FocusLLM: the last n_candidates rows are candidates. Their keys, before rotation, and values also go to rows candidate_rows of candidate_kv.
  int n_candidates = 0;
  LayerKv candidate_kv;
  std::vector<int32_t> candidate_rows;

  // Receives [L, H, C]: the last row's rotated query of every layer. Null: not wanted.
  float* asked = nullptr;
};

// Whether a pass can be one with others of its kind: a step of one token, as every reader of a cache makes them while generating.
bool can_join(const Pass& pass);

// One pass for all of them; row i is that of passes[i], and all are read. Weights are read once for all.
Pass join(std::span<Pass> passes);

}  // namespace banyan
