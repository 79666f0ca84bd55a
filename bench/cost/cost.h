// cost: closed formulas of what a decoder multiplies, against which the engine's count is checked.
#pragma once

#include <cstdint>

#include "model/config.h"

namespace banyan::bench {

// Multiply-adds of a decoder, by what its rows see.
struct Cost {
  explicit Cost(const ModelConfig& c)
      : layers(static_cast<uint64_t>(c.n_layers)),
        dim(static_cast<uint64_t>(c.dim)),
        q_dim(static_cast<uint64_t>(c.n_heads * c.head_dim)),
        kv_dim(static_cast<uint64_t>(c.n_kv_heads * c.head_dim)),
        ffn(static_cast<uint64_t>(c.ffn_dim)),
        vocabulary(static_cast<uint64_t>(c.vocab_size)) {}
  uint64_t keys() const { return 2 * dim * kv_dim; }                 // keys and values of a row
  uint64_t rest() const { return 2 * dim * q_dim + 3 * dim * ffn; }  // everything else of a row's layer, attention aside
  uint64_t cross(uint64_t slots) const { return 2 * dim * q_dim + 2 * slots * q_dim; }
  uint64_t seen(uint64_t pairs) const { return 2 * pairs * q_dim; }
  // n local tokens behind `past` rows, the last of which gives logits; each layer also attends to `slots` rows if has_cross.
  uint64_t local(uint64_t n, uint64_t past, bool has_cross, uint64_t slots) const {
    const uint64_t more = has_cross ? cross(slots) : 0, pairs = n * past + n * (n + 1) / 2;
    const uint64_t below = (layers - 1) * (n * (keys() + rest() + more) + seen(pairs));
    return below + n * keys() + rest() + seen(past + n) + more + vocabulary * dim;
  }
  uint64_t layers, dim, q_dim, kv_dim, ffn, vocabulary;
};

}  // namespace banyan::bench
