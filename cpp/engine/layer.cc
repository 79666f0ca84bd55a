#include "engine/layer.h"

#include <algorithm>
#include <cmath>

namespace banyan {

Activations::Activations(Device& device, const Decoder& upper, const Decoder& lower)
    : x(device),
      y(device),
      normed(device),
      picked(device),
      k(device),
      v(device),
      moved(device),
      q(device),
      mixed(device),
      gate(device),
      up(device),
      turned(device),
      other(device),
      lse(device),
      other_lse(device),
      mlp_rows(device.batch_rows().mlp) {
  const auto larger = [](int a, int b) { return static_cast<size_t>(std::max(a, b)); };
  dim_ = larger(upper.config.dim, lower.config.dim);
  kv_dim_ = larger(upper.kv_dim(), lower.kv_dim());
  q_dim_ = larger(upper.q_dim(), lower.q_dim());
  ffn_dim_ = larger(upper.config.ffn_dim, lower.config.ffn_dim);
  n_heads_ = static_cast<size_t>(upper.config.n_heads);
}

void Activations::reserve(int n_rows) {
  if (n_rows <= n_rows_) return;
  const size_t row = static_cast<size_t>(n_rows) * sizeof(float);
  for (Buffer* b : {&x, &y, &normed, &picked}) b->reserve(row * dim_);
  for (Buffer* b : {&k, &v, &moved}) b->reserve(row * kv_dim_);
  for (Buffer* b : {&q, &mixed}) b->reserve(row * q_dim_);
  for (Buffer* b : {&gate, &up}) b->reserve(static_cast<size_t>(std::min(n_rows, mlp_rows)) * sizeof(float) * ffn_dim_);
  n_rows_ = n_rows;
}

void Activations::reserve_groups() {
  const size_t row = static_cast<size_t>(n_rows_) * sizeof(float);
  for (Buffer* b : {&turned, &other}) b->reserve(row * q_dim_);
  for (Buffer* b : {&lse, &other_lse}) b->reserve(row * n_heads_);
}

void Layer::norm_heads(Stream& s, float* x, const float* weight, int n, int n_heads) const {
  if (weight != nullptr) norm(s, {x, x, weight, n * n_heads, d_.config.head_dim, d_.config.norm_eps});
}

// Projections of the same x. Rows of candidates come last and have projections of their own.
void Layer::project(Stream& s, const float* x, std::initializer_list<Projection> all, int n, bool accumulate) const {
  const int n_plain = n - n_candidates_;
  GemmArgs plain[kMostTogether], candidates[kMostTogether];
  size_t i = 0;
  for (const Projection& p : all) {
    const int64_t out_at = static_cast<int64_t>(n_plain) * p.w.rows, x_at = static_cast<int64_t>(n_plain) * p.w.cols;
    plain[i] = {p.out, x, p.w, p.bias, n_plain, accumulate};
    candidates[i++] = {p.out + out_at, x + x_at, p.candidate, p.candidate_bias, n_candidates_, accumulate};
  }
  if (n_plain > 0) gemm_together(s, {plain, i});
  if (n_candidates_ > 0) gemm_together(s, {candidates, i});
}

float Layer::scale() const { return 1.0f / std::sqrt(static_cast<float>(d_.config.head_dim)); }

Layer::Projection Layer::to_queries(float* out) const { return {out, w_.q, w_.q_bias, candidate_.q, candidate_.q_bias}; }
Layer::Projection Layer::to_keys(float* out) const { return {out, w_.k, w_.k_bias, candidate_.k, candidate_.k_bias}; }
Layer::Projection Layer::to_values(float* out) const { return {out, w_.v, w_.v_bias, candidate_.v, candidate_.v_bias}; }

void Layer::norm_input(Stream& s, Activations& a, int n) const {
  norm(s, {a.normed.as<float>(), a.x.as<float>(), w_.attn_norm, n, d_.config.dim, d_.config.norm_eps});
}

void Layer::keys(Stream& s, Activations& a, int n, int first) const {
  float* k = a.k.as<float>() + int64_t{first} * d_.kv_dim();
  norm_input(s, a, n);
  project(s, a.normed.as<float>(), {to_keys(k)}, n, false);
  norm_heads(s, k, w_.k_norm, n, d_.config.n_kv_heads);
}

void Layer::keys_values(Stream& s, Activations& a, int n, int first) const {
  float* k = a.k.as<float>() + int64_t{first} * d_.kv_dim();
  norm_input(s, a, n);
  project(s, a.normed.as<float>(), {to_keys(k), to_values(a.v.as<float>() + int64_t{first} * d_.kv_dim())}, n, false);
  norm_heads(s, k, w_.k_norm, n, d_.config.n_kv_heads);
}

void Layer::keys_values_queries(Stream& s, Activations& a, int n) const {
  norm_input(s, a, n);
  project(s, a.normed.as<float>(), {to_keys(a.k.as<float>()), to_values(a.v.as<float>()), to_queries(a.q.as<float>())}, n, false);
  norm_heads(s, a.k.as<float>(), w_.k_norm, n, d_.config.n_kv_heads);
  norm_heads(s, a.q.as<float>(), w_.q_norm, n, d_.config.n_heads);
}

void Layer::values(Stream& s, Activations& a, int n, int first) const {
  project(s, a.normed.as<float>(), {to_values(a.v.as<float>() + int64_t{first} * d_.kv_dim())}, n, false);
}

void Layer::rotate_keys(Stream& s, float* k, const int32_t* positions, int n) const {
  const ModelConfig& c = d_.config;
  rope(s, {k, positions, rotation_.inv_freq.as<float>(), n, c.n_kv_heads, c.head_dim, rotation_.magnitude, c.rope.is_interleaved});
}

void Layer::rotate_queries(Stream& s, float* q, const int32_t* positions, int n) const {
  const ModelConfig& c = d_.config;
  rope(s, {q, positions, rotation_.inv_freq.as<float>(), n, c.n_heads, c.head_dim, rotation_.magnitude, c.rope.is_interleaved});
}

// a.q = the unrotated queries of the rows that ask, which alone remain in a.x.
void Layer::ask(Stream& s, Activations& a, const int32_t* rows, int n) const {
  const ModelConfig& c = d_.config;
  const float* asking = a.normed.as<float>();
  if (rows != nullptr) {
    gather(s, {a.picked.as<float>(), asking, DType::kF32, rows, n, c.dim});
    gather(s, {a.y.as<float>(), a.x.as<float>(), DType::kF32, rows, n, c.dim});
    asking = a.picked.as<float>();
    a.x.swap(a.y);
  }
  project(s, asking, {to_queries(a.q.as<float>())}, n, false);
  norm_heads(s, a.q.as<float>(), w_.q_norm, n, c.n_heads);
}

// Output projection of a.mixed, added to the residual stream.
void Layer::answer(Stream& s, Activations& a, int n) const {
  project(s, a.mixed.as<float>(), {{a.x.as<float>(), w_.o, w_.o_bias, candidate_.o, candidate_.o_bias}}, n, true);
}

void Layer::attention(Stream& s, Activations& a, const KvView& kv, const Queries& queries) const {
  const ModelConfig& c = d_.config;
  if (!queries.are_asked) ask(s, a, queries.rows, queries.n);
  rotate_queries(s, a.q.as<float>(), queries.positions, queries.n);
  attend(s, {a.mixed.as<float>(), a.q.as<float>(), kv, queries.kv_begin, queries.kv_end, queries.n, c.n_heads, c.n_kv_heads, c.head_dim, scale()},
      queries.n_pairs);
  answer(s, a, queries.n);
}

void Layer::attention(Stream& s, Activations& a, const GroupedQueries& queries) const {
  const ModelConfig& c = d_.config;
  const int n = queries.n, heads = c.n_heads;
  const auto q_dim = static_cast<size_t>(d_.q_dim());
  if (!queries.are_asked) ask(s, a, queries.rows, n);
  const KeyGroup* own_turn = nullptr;  // the one group whose queries turn otherwise
  for (const KeyGroup& group : queries.groups) {
    if (group.positions != nullptr) own_turn = &group;
  }
  if (own_turn != nullptr) {
    gather(s, {a.turned.as<float>(), a.q.as<float>(), DType::kF32, queries.identity, n, static_cast<int64_t>(q_dim)});
    rotate_queries(s, a.turned.as<float>(), own_turn->positions, n);
  }
  rotate_queries(s, a.q.as<float>(), queries.positions, n);
  if (queries.asked != nullptr) gather(s, {queries.asked, a.q.as<float>(), DType::kF32, queries.last, 1, static_cast<int64_t>(q_dim)});
  if (queries.order != nullptr) {
    gather(s, {a.turned.as<float>(), a.q.as<float>(), DType::kF32, queries.order, n, static_cast<int64_t>(q_dim)});
    a.q.swap(a.turned);
  }
  for (const KeyGroup& group : queries.groups) {
    const size_t first = static_cast<size_t>(group.first) * q_dim, first_lse = static_cast<size_t>(group.first) * static_cast<size_t>(heads);
    const float* q = (&group == own_turn ? a.turned : a.q).as<float>() + first;
    float *mixed = a.mixed.as<float>() + first, *mixed_lse = a.lse.as<float>() + first_lse;
    float *out = group.is_first ? mixed : a.other.as<float>(), *lse = group.is_first ? mixed_lse : a.other_lse.as<float>();
    AttendArgs args{out, q, group.kv, group.kv_begin, group.kv_end, group.n, heads, c.n_kv_heads, c.head_dim, scale() / group.temperature};
    args.lse = lse;
    attend(s, args, group.n_pairs);
    if (group.is_first) continue;
    merge(s, {mixed, mixed_lse, mixed, mixed_lse, out, lse, group.n * heads, c.head_dim, group.power, group.bias});
  }
  if (queries.order != nullptr) {
    gather(s, {a.other.as<float>(), a.mixed.as<float>(), DType::kF32, queries.place, n, static_cast<int64_t>(q_dim)});
    a.mixed.swap(a.other);
  }
  answer(s, a, n);
}

void Layer::cross_queries(Stream& s, Activations& a, const CrossWeights& cross, int n) const {
  norm(s, {a.normed.as<float>(), a.x.as<float>(), cross.norm, n, d_.config.dim, d_.config.norm_eps});
  gemm(s, {a.q.as<float>(), a.normed.as<float>(), cross.q, nullptr, n, false});
}

void Layer::injection(Stream& s, Activations& a, const CrossWeights& cross, std::span<const InjectionView> memories, int n) const {
  const ModelConfig& c = d_.config;
  cross_queries(s, a, cross, n);
  for (const InjectionView& memory : memories) {
    const int64_t first = int64_t{memory.first} * d_.q_dim();
    float *q = a.q.as<float>() + first, *mixed = a.mixed.as<float>() + first;
    rope(s, {q, memory.positions, memory.inv_freq, memory.n, c.n_heads, c.head_dim, memory.rope_magnitude, memory.is_interleaved});
    if (memory.fast_positions != nullptr)
      rope(s, {q, memory.fast_positions, memory.fast_freq, memory.n, c.n_heads, c.head_dim, 1.0f, memory.is_interleaved});
    inject(s, {mixed, q, memory.kv, memory.n_slots, memory.n, c.n_heads, memory.n_kv_heads, c.head_dim, scale()});
  }
  gemm(s, {a.x.as<float>(), a.mixed.as<float>(), cross.o, nullptr, n, true});
}

void Layer::mlp(Stream& s, Activations& a, int n) const {
  const ModelConfig& c = d_.config;
  norm(s, {a.normed.as<float>(), a.x.as<float>(), w_.mlp_norm, n, c.dim, c.norm_eps});
  for (int begin = 0; begin < n; begin += a.mlp_rows) {
    const int n_rows = std::min(a.mlp_rows, n - begin);
    const int64_t at = int64_t{begin} * c.dim;
    const GemmArgs halves[] = {{a.gate.as<float>(), a.normed.as<float>() + at, w_.gate, w_.gate_bias, n_rows, false},
        {a.up.as<float>(), a.normed.as<float>() + at, w_.up, w_.up_bias, n_rows, false}};
    gemm_together(s, halves);
    swiglu(s, {a.gate.as<float>(), a.gate.as<float>(), a.up.as<float>(), static_cast<int64_t>(n_rows) * c.ffn_dim});
    gemm(s, {a.x.as<float>() + at, a.gate.as<float>(), w_.down, w_.down_bias, n_rows, true});
  }
}

}  // namespace banyan
