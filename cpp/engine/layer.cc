#include "engine/layer.h"

#include <algorithm>
#include <cmath>

namespace banyan {

Activations::Activations(Device& device, const Decoder& upper, const Decoder& lower)
    : x(device), y(device), normed(device), picked(device), k(device), v(device), moved(device), q(device), mixed(device), gate(device), up(device) {
  const auto larger = [](int a, int b) { return static_cast<size_t>(std::max(a, b)); };
  dim_ = larger(upper.config.dim, lower.config.dim);
  kv_dim_ = larger(upper.kv_dim(), lower.kv_dim());
  q_dim_ = larger(upper.q_dim(), lower.q_dim());
  ffn_dim_ = larger(upper.config.ffn_dim, lower.config.ffn_dim);
}

void Activations::reserve(int n_rows) {
  if (n_rows <= n_rows_) return;
  const size_t row = static_cast<size_t>(n_rows) * sizeof(float);
  for (Buffer* b : {&x, &y, &normed, &picked}) b->reserve(row * dim_);
  for (Buffer* b : {&k, &v, &moved}) b->reserve(row * kv_dim_);
  for (Buffer* b : {&q, &mixed}) b->reserve(row * q_dim_);
  for (Buffer* b : {&gate, &up}) b->reserve(row * ffn_dim_);
  n_rows_ = n_rows;
}

void Layer::norm_heads(Stream& s, float* x, const float* weight, int n, int n_heads) const {
  if (weight != nullptr) norm(s, {x, x, weight, n * n_heads, d_.config.head_dim, d_.config.norm_eps});
}

void Layer::keys(Stream& s, Activations& a, int n) const {
  const ModelConfig& c = d_.config;
  norm(s, {a.normed.as<float>(), a.x.as<float>(), w_.attn_norm, n, c.dim, c.norm_eps});
  gemm(s, {a.k.as<float>(), a.normed.as<float>(), w_.k, w_.k_bias, n, false});
  norm_heads(s, a.k.as<float>(), w_.k_norm, n, c.n_kv_heads);
}

void Layer::keys_values(Stream& s, Activations& a, int n) const {
  keys(s, a, n);
  gemm(s, {a.v.as<float>(), a.normed.as<float>(), w_.v, w_.v_bias, n, false});
}

void Layer::rotate_keys(Stream& s, float* k, const int32_t* positions, int n) const {
  const ModelConfig& c = d_.config;
  rope(s, {k, positions, d_.inv_freq.as<float>(), n, c.n_kv_heads, c.head_dim, d_.rope_magnitude, c.rope.is_interleaved});
}

void Layer::attention(Stream& s, Activations& a, const KvView& kv, const Queries& queries) const {
  const ModelConfig& c = d_.config;
  const float* asking = a.normed.as<float>();
  if (queries.rows != nullptr) {
    gather(s, {a.picked.as<float>(), asking, DType::kF32, queries.rows, queries.n, c.dim});
    gather(s, {a.y.as<float>(), a.x.as<float>(), DType::kF32, queries.rows, queries.n, c.dim});
    asking = a.picked.as<float>();
    a.x.swap(a.y);
  }
  gemm(s, {a.q.as<float>(), asking, w_.q, w_.q_bias, queries.n, false});
  norm_heads(s, a.q.as<float>(), w_.q_norm, queries.n, c.n_heads);
  rope(s, {a.q.as<float>(), queries.positions, d_.inv_freq.as<float>(), queries.n, c.n_heads, c.head_dim, d_.rope_magnitude, c.rope.is_interleaved});
  const float scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
  attend(s, {a.mixed.as<float>(), a.q.as<float>(), kv, queries.kv_begin, queries.kv_end, queries.n, c.n_heads, c.n_kv_heads, c.head_dim, scale},
      queries.n_pairs);
  gemm(s, {a.x.as<float>(), a.mixed.as<float>(), w_.o, w_.o_bias, queries.n, true});
}

void Layer::cross_queries(Stream& s, Activations& a, const CrossWeights& cross, int n) const {
  norm(s, {a.normed.as<float>(), a.x.as<float>(), cross.norm, n, d_.config.dim, d_.config.norm_eps});
  gemm(s, {a.q.as<float>(), a.normed.as<float>(), cross.q, nullptr, n, false});
}

void Layer::injection(Stream& s, Activations& a, const InjectionView& memory, int n) const {
  const ModelConfig& c = d_.config;
  const CrossWeights& cross = *memory.weights;
  cross_queries(s, a, cross, n);
  rope(s, {a.q.as<float>(), memory.positions, memory.inv_freq, n, c.n_heads, c.head_dim, memory.rope_magnitude, memory.is_interleaved});
  const float scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
  inject(s, {a.mixed.as<float>(), a.q.as<float>(), memory.kv, memory.n_slots, n, c.n_heads, memory.n_kv_heads, c.head_dim, scale});
  gemm(s, {a.x.as<float>(), a.mixed.as<float>(), cross.o, nullptr, n, true});
}

void Layer::mlp(Stream& s, Activations& a, int n) const {
  const ModelConfig& c = d_.config;
  norm(s, {a.normed.as<float>(), a.x.as<float>(), w_.mlp_norm, n, c.dim, c.norm_eps});
  gemm(s, {a.gate.as<float>(), a.normed.as<float>(), w_.gate, w_.gate_bias, n, false});
  gemm(s, {a.up.as<float>(), a.normed.as<float>(), w_.up, w_.up_bias, n, false});
  swiglu(s, {a.gate.as<float>(), a.gate.as<float>(), a.up.as<float>(), static_cast<int64_t>(n) * c.ffn_dim});
  gemm(s, {a.x.as<float>(), a.gate.as<float>(), w_.down, w_.down_bias, n, true});
}

}  // namespace banyan
