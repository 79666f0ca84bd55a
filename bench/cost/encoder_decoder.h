// encoder_decoder: in the style of CEPE (arXiv 2402.16617): an encoder of its own reads chunks of 256 tokens, each token seeing its whole chunk;
// its last hidden states become keys and values of every decoder layer, which all local tokens attend to (no positions there).
#pragma once

#include "cost/cost_model.h"

namespace banyan::bench {

constexpr int kEncoderChunk = 256;  // tokens, CEPE's

// Made before the rest of an EncoderDecoder.
struct Encoder {
  Encoder(Device& device, const ModelConfig& upper, int n_layers, int width) {
    config = upper;
    config.n_layers = n_layers;
    config.dim = width;
    config.n_heads = std::max(1, upper.n_heads * width / upper.dim);
    config.n_kv_heads = std::max(1, upper.n_kv_heads * width / upper.dim);
    config.ffn_dim = upper.ffn_dim * width / upper.dim;
    check_config(config, "the encoder", Code::kInvalidArgument);
    weights = random_decoder(random, config);
    decoder = std::make_unique<Decoder>(device, config, weights);
  }
  RandomWeights random;
  ModelConfig config;
  DecoderWeights weights;
  std::unique_ptr<Decoder> decoder;
};

class EncoderDecoder : Encoder, public CostModel {
 public:
  EncoderDecoder(Engine& engine, int n_encoder_layers, int width, int n_local)
      : Encoder(*engine.device, engine.upper.config, n_encoder_layers, width), CostModel(engine, *decoder, n_local), indices_(*engine.device) {
    const ModelConfig& c = e_.upper.config;
    const int64_t q_dim = engine.upper.q_dim(), kv_dim = engine.upper.kv_dim();
    for (int i = 0; i < c.n_layers; ++i) {
      cross_.push_back({random_.ones(c.dim), random_.matrix(q_dim, c.dim), random_.matrix(c.dim, q_dim)});
      k_.push_back(random_.matrix(kv_dim, width));
      v_.push_back(random_.matrix(kv_dim, width));
    }
  }

  void read_document(Stream& s, const std::vector<int32_t>& ids) override {
    const auto n_all = static_cast<int>(ids.size());
    memory_ = std::make_unique<Cache>(*e_.device, e_.upper, e_.kv_dtype);
    memory_->reserve(s, n_all, 0);
    n_slots_ = n_all;
    const int n_batch = e_.batch_rows.encode / kEncoderChunk * kEncoderChunk;
    for (int at = 0; at < n_all; at += n_batch) encode(s, {ids.begin() + at, ids.begin() + std::min(n_all, at + n_batch)}, at);
    n_document_rows_ = 0;
  }

  uint64_t document_cost(uint64_t n) const override {
    const Cost encoder(config), upper(e_.upper.config);
    const uint64_t rest = n % kEncoderChunk, pairs = n / kEncoderChunk * kEncoderChunk * kEncoderChunk + rest * rest;
    return encoder.layers * (n * (encoder.keys() + encoder.rest()) + encoder.seen(pairs)) + upper.layers * n * 2 * encoder.dim * upper.kv_dim;
  }
  uint64_t local_cost(uint64_t n, uint64_t n_before) const override {
    return Cost(e_.upper.config).local(n, n_before, true, static_cast<uint64_t>(n_slots_));
  }

 private:
  void encode(Stream& s, const std::vector<int32_t>& ids, int first) {
    const auto n = static_cast<int>(ids.size());
    a_.reserve(n);
    std::vector<int32_t> positions, begins, ends;
    uint64_t n_pairs = 0;
    for (int t = 0; t < n; ++t) {
      begins.push_back(t / kEncoderChunk * kEncoderChunk);
      ends.push_back(std::min(n, begins.back() + kEncoderChunk));
      positions.push_back(t - begins.back());
      n_pairs += static_cast<uint64_t>(ends.back() - begins.back());
    }
    indices_.clear();
    const size_t ids_at = indices_.add(ids), positions_at = indices_.add(positions), begin_at = indices_.add(begins), end_at = indices_.add(ends),
                 rows_at = indices_.add(count_from(first, n));
    indices_.upload();
    embed(s, {a_.x.as<float>(), weights.embedding, indices_.at(ids_at), n});
    for (int i = 0; i < config.n_layers; ++i) {
      const Layer layer(*decoder, i);
      layer.keys_values(s, a_, n);
      layer.rotate_keys(s, a_.k.as<float>(), indices_.at(positions_at), n);
      const KvView kv{a_.k.as<float>(), a_.v.as<float>(), DType::kF32, decoder->kv_dim(), config.head_dim};
      layer.attention(s, a_, kv, {n, nullptr, indices_.at(positions_at), indices_.at(begin_at), indices_.at(end_at), n_pairs});
      layer.mlp(s, a_, n);
    }
    norm(s, {a_.normed.as<float>(), a_.x.as<float>(), weights.final_norm, n, config.dim, config.norm_eps});
    for (int i = 0; i < e_.upper.config.n_layers; ++i) {
      gemm(s, {a_.k.as<float>(), a_.normed.as<float>(), k_[static_cast<size_t>(i)], nullptr, n, false});
      gemm(s, {a_.v.as<float>(), a_.normed.as<float>(), v_[static_cast<size_t>(i)], nullptr, n, false});
      put(s, memory_->layer(i), indices_.at(rows_at), a_.k.as<float>(), a_.v.as<float>(), n);
    }
    e_.device->sync();
  }

  void cross(Stream& s, const Layer& layer, int index, const int32_t* zeros, int n) override {
    if (n_slots_ == 0) return;
    const ModelConfig& c = e_.upper.config;
    const InjectionView view{.n = n,
        .kv = memory_->layer(index),
        .n_slots = n_slots_,
        .positions = zeros,
        .inv_freq = e_.upper.rotation.inv_freq.as<float>(),
        .is_interleaved = c.rope.is_interleaved,
        .n_kv_heads = c.n_kv_heads};
    layer.injection(s, a_, cross_[static_cast<size_t>(index)], {&view, 1}, n);
  }

  std::vector<CrossWeights> cross_;
  std::vector<WeightView> k_, v_;  // [G*C, width] of each layer
  std::unique_ptr<Cache> memory_;  // keys and values of all document tokens for every layer
  int n_slots_ = 0;
  IndexTable indices_;
};

}  // namespace banyan::bench
