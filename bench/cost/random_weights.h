// random_weights: weights of any shape that mean nothing, always the same ones.
#pragma once

#include <cmath>
#include <cstdint>
#include <deque>
#include <vector>

#include "base/half.h"
#include "model/weights.h"

namespace banyan::bench {

class RandomWeights {
 public:
  // F16, as small as a trained matrix of this width.
  WeightView matrix(int64_t n_rows, int64_t n_cols) {
    std::vector<uint16_t>& memory = matrices_.emplace_back(static_cast<size_t>(n_rows * n_cols));
    const float scale = 1.0f / std::sqrt(static_cast<float>(n_cols));
    for (uint16_t& value : memory) value = f32_to_f16((static_cast<float>(state_ >> 8) * 0x1p-23f - 1) * scale), next();
    return {memory.data(), DType::kF16, n_rows, n_cols};
  }
  const float* ones(int n) { return vectors_.emplace_back(static_cast<size_t>(n), 1.0f).data(); }
  std::vector<int32_t> ids(int n, int n_vocabulary) {
    std::vector<int32_t> ids(static_cast<size_t>(n));
    for (int32_t& id : ids) id = static_cast<int32_t>((state_ >> 8) % static_cast<uint32_t>(n_vocabulary)), next();
    return ids;
  }

 private:
  void next() { state_ = state_ * 1664525 + 1013904223; }
  uint32_t state_ = 1;
  std::deque<std::vector<uint16_t>> matrices_;
  std::deque<std::vector<float>> vectors_;
};

inline DecoderWeights random_decoder(RandomWeights& random, const ModelConfig& c) {
  const int64_t q_dim = int64_t{c.n_heads} * c.head_dim, kv_dim = int64_t{c.n_kv_heads} * c.head_dim;
  DecoderWeights weights;
  weights.embedding = random.matrix(c.vocab_size, c.dim);
  for (int i = 0; i < c.n_layers; ++i) {
    LayerWeights layer;
    layer.attn_norm = random.ones(c.dim);
    layer.q = random.matrix(q_dim, c.dim);
    layer.k = random.matrix(kv_dim, c.dim);
    layer.v = random.matrix(kv_dim, c.dim);
    layer.o = random.matrix(c.dim, q_dim);
    layer.mlp_norm = random.ones(c.dim);
    layer.gate = random.matrix(c.ffn_dim, c.dim);
    layer.up = random.matrix(c.ffn_dim, c.dim);
    layer.down = random.matrix(c.dim, c.ffn_dim);
    weights.layers.push_back(layer);
  }
  weights.final_norm = random.ones(c.dim);
  return weights;
}

}  // namespace banyan::bench
