// cost_model: a way of reading long documents that is measured for its cost only.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "cost/cost.h"
#include "cost/random_weights.h"
#include "engine/cache.h"
#include "engine/engine.h"

namespace banyan::bench {

constexpr int kPieceTokens = 256;  // of one slice of prefill, as in the engine's readers

inline std::vector<int32_t> count_from(int first, int n) {
  std::vector<int32_t> numbers(static_cast<size_t>(n));
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

// A decoder with a cache, which both read their local tokens with.
class CostModel {
 public:
  CostModel(Engine& engine, const Decoder& other, int n_local)
      : e_(engine),
        a_(*engine.device, engine.upper, other),
        cache_(*engine.device, engine.upper, engine.kv_dtype),
        n_local_(n_local),
        indices_(*engine.device),
        logits_(*engine.device) {}
  virtual ~CostModel() = default;
  virtual void read_document(Stream& s, const std::vector<int32_t>& ids) = 0;
  virtual uint64_t document_cost(uint64_t n) const = 0;
  virtual uint64_t local_cost(uint64_t n, uint64_t n_before) const = 0;  // behind n_before local tokens

  // Logits' best token; begins anew behind the document unless `goes_on`.
  int32_t answer(Stream& s, const std::vector<int32_t>& ids, bool goes_on) {
    if (!goes_on) n_past_ = n_document_rows_;
    for (size_t at = 0; at < ids.size(); at += kPieceTokens) {
      const auto n = static_cast<int>(std::min<size_t>(kPieceTokens, ids.size() - at));
      run(s, {ids.begin() + static_cast<std::ptrdiff_t>(at), ids.begin() + static_cast<std::ptrdiff_t>(at) + n}, 0,
          at + static_cast<size_t>(n) == ids.size());
      n_past_ += n;
    }
    const ModelConfig& c = e_.upper.config;
    logits_.reserve(static_cast<size_t>(c.vocab_size) * sizeof(float));
    norm(s, {a_.normed.as<float>(), a_.x.as<float>(), e_.upper.weights.final_norm, 1, c.dim, c.norm_eps});
    gemm(s, {logits_.as<float>(), a_.normed.as<float>(), e_.upper.weights.head, nullptr, 1, false});
    e_.device->sync();
    const float* logits = logits_.as<float>();
    return static_cast<int32_t>(std::max_element(logits, logits + c.vocab_size) - logits);
  }

 protected:
  void put(Stream& s, const KvView& to, const int32_t* rows, const float* k, const float* v, int n) const {
    const ModelConfig& c = e_.upper.config;
    store(s, {to.k, to.dtype, to.row_stride, to.head_stride, k, rows, n, c.n_kv_heads, c.head_dim});
    store(s, {to.v, to.dtype, to.row_stride, to.head_stride, v, rows, n, c.n_kv_heads, c.head_dim});
  }

  // Rows n_past_, n_past_ + 1, ... of the cache. The last n_condensed have the beacons' projections and are kept in row n_document_rows_ and behind,
  // where they go once nobody looks at what lies there. `is_last`: the last row's hidden state is wanted, else nothing of the last layer.
  void run(Stream& s, const std::vector<int32_t>& ids, int n_condensed, bool is_last) {
    const ModelConfig& c = e_.upper.config;
    const auto n = static_cast<int>(ids.size());
    a_.reserve(n);
    cache_.reserve(s, std::max(n_past_ + n, n_document_rows_ + n_local_), n_past_);
    indices_.clear();
    std::vector<int32_t> ends = count_from(n_past_ + 1, n);
    const size_t ids_at = indices_.add(ids), rows_at = indices_.add(count_from(n_past_, n)), numbers_at = indices_.add(count_from(0, n)),
                 kept_at = indices_.add(count_from(n_document_rows_, n_condensed)), end_at = indices_.add(ends),
                 zeros_at = indices_.add(std::vector<int32_t>(static_cast<size_t>(n)));
    indices_.upload();
    const int32_t *rows = indices_.at(rows_at), *end = indices_.at(end_at), *zeros = indices_.at(zeros_at);
    const auto n_pairs = static_cast<uint64_t>(std::accumulate(ends.begin(), ends.end(), int64_t{0}));
    const int first_condensed = n - n_condensed;
    const size_t skipped = static_cast<size_t>(first_condensed) * static_cast<size_t>(e_.upper.kv_dim());

    embed(s, {a_.x.as<float>(), e_.upper.weights.embedding, indices_.at(ids_at), n});
    for (int i = 0; i < c.n_layers; ++i) {
      const Layer layer(e_.upper, i, {nullptr, n_condensed > 0 ? &beacons_[static_cast<size_t>(i)] : nullptr, n_condensed});
      const KvView kv = cache_.layer(i);
      layer.keys_values(s, a_, n);
      if (n_condensed > 0) {  // their keys will turn to where they are kept
        gather(s, {a_.moved.as<float>(), a_.k.as<float>() + skipped, DType::kF32, indices_.at(numbers_at), n_condensed, e_.upper.kv_dim()});
        layer.rotate_keys(s, a_.moved.as<float>(), indices_.at(kept_at), n_condensed);
      }
      layer.rotate_keys(s, a_.k.as<float>(), rows, n);
      put(s, kv, rows, a_.k.as<float>(), a_.v.as<float>(), n);
      const bool is_top = i == c.n_layers - 1;
      if (!is_top) {
        layer.attention(s, a_, kv, {n, nullptr, rows, zeros, end, n_pairs});
        cross(s, layer, i, zeros, n);
        layer.mlp(s, a_, n);
      } else if (is_last) {
        layer.attention(s, a_, kv, {1, indices_.at(numbers_at) + n - 1, rows + n - 1, zeros, end + n - 1, static_cast<uint64_t>(ends.back())});
        cross(s, layer, i, zeros, 1);
        layer.mlp(s, a_, 1);
      }
      if (n_condensed > 0) put(s, kv, indices_.at(kept_at), a_.moved.as<float>(), a_.v.as<float>() + skipped, n_condensed);
    }
    e_.device->sync();
  }

  virtual void cross(Stream&, const Layer&, int /*index*/, const int32_t* /*zeros*/, int /*n*/) {}

  Engine& e_;
  Activations a_;
  Cache cache_;
  const int n_local_;
  int n_document_rows_ = 0, n_past_ = 0;
  std::vector<CandidateWeights> beacons_;
  RandomWeights random_;

 private:
  IndexTable indices_;
  Buffer logits_;
};

}  // namespace banyan::bench
