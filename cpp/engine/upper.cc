#include "engine/upper.h"

#include <algorithm>
#include <numeric>

namespace banyan {

namespace {

// Which rows of the cache each token of a piece sees: all up to itself, or the last `sliding_window` of them.
struct LocalRanges {
  std::vector<int32_t> positions, begin, end;
  uint64_t n_pairs = 0;

  LocalRanges(int n, int n_past, int64_t sliding_window) {
    for (int t = 0; t < n; ++t) {
      const int position = n_past + t;
      positions.push_back(position);
      begin.push_back(sliding_window > 0 ? static_cast<int32_t>(std::max<int64_t>(0, position + 1 - sliding_window)) : 0);
      end.push_back(position + 1);
      n_pairs += static_cast<uint64_t>(end.back() - begin.back());
    }
  }
};

}  // namespace

void Upper::forward(Stream& s, Cache& cache, const Memory* memory, std::span<const int32_t> ids, int n_past, Read read, bool is_released_step) {
  const ModelConfig& c = e_.upper.config;
  Activations& a = e_.activations;
  const int n = static_cast<int>(ids.size());
  a.reserve(n);
  const LocalRanges ranges(n, n_past, c.sliding_window);
  const bool is_injected = memory != nullptr && memory->n_slots() > 0;
  const int query_position = is_injected ? memory->query_position() : 0;
  const std::vector<int32_t> last{n - 1}, last_position{n_past + n - 1}, last_begin{ranges.begin.back()}, last_end{ranges.end.back()};
  indices_.clear();
  const size_t ids_at = indices_.add({ids.begin(), ids.end()}), positions_at = indices_.add(ranges.positions), begin_at = indices_.add(ranges.begin),
               end_at = indices_.add(ranges.end), cross_at = indices_.add(std::vector<int32_t>(static_cast<size_t>(n), query_position)),
               last_at = indices_.add(last), last_position_at = indices_.add(last_position), last_begin_at = indices_.add(last_begin),
               last_end_at = indices_.add(last_end);
  indices_.upload();

  const float* cross_freq = e_.lower.inv_freq.as<float>();
  if (is_injected && is_released_step) {  // entry R + 1 of the angle vector, for every pair
    const int half = c.head_dim / 2;
    std::vector<float> table(static_cast<size_t>(half));
    e_.device->to_host(table.data(), cross_freq, table.size() * sizeof(float));
    std::fill(table.begin(), table.end(), table[static_cast<size_t>(query_position % half)]);
    step_freq_.reserve(table.size() * sizeof(float));
    e_.device->to_device(step_freq_.as<float>(), table.data(), table.size() * sizeof(float));
    cross_freq = step_freq_.as<float>();
  }

  embed(s, {a.x.as<float>(), e_.upper.weights.embedding, indices_.at(ids_at), n});
  for (int i = 0; i < c.n_layers; ++i) {
    const Layer layer(e_.upper, i);
    const bool is_last = i == c.n_layers - 1;
    layer.keys_values(s, a, n);
    layer.rotate_keys(s, a.k.as<float>(), indices_.at(positions_at), n);
    const KvView kv = cache.layer(i);
    store(s, {kv.k, kv.dtype, kv.row_stride, kv.head_stride, a.k.as<float>(), indices_.at(positions_at), n, c.n_kv_heads, c.head_dim});
    store(s, {kv.v, kv.dtype, kv.row_stride, kv.head_stride, a.v.as<float>(), indices_.at(positions_at), n, c.n_kv_heads, c.head_dim});
    if (is_last && read == Read::kNothing) break;
    int n_rows = n;
    if (is_last && read == Read::kLast && n > 1) {
      n_rows = 1;
      layer.attention(s, a, kv,
          {1, indices_.at(last_at), indices_.at(last_position_at), indices_.at(last_begin_at), indices_.at(last_end_at),
              static_cast<uint64_t>(last_end[0] - last_begin[0])});
    } else {
      layer.attention(s, a, kv, {n, nullptr, indices_.at(positions_at), indices_.at(begin_at), indices_.at(end_at), ranges.n_pairs});
    }
    if (is_injected && i < e_.tree.n_injected_layers) {
      const ModelConfig& lower = e_.lower.config;
      layer.injection(s, a,
          {&e_.files->cross[static_cast<size_t>(i)], memory->layer(i), memory->n_slots(), indices_.at(cross_at), cross_freq, e_.lower.rope_magnitude,
              lower.rope.is_interleaved, lower.n_kv_heads},
          n_rows);
    }
    layer.mlp(s, a, n_rows);
    check_cancelled(s);
  }
  e_.device->sync();
  check_cancelled(s);
}

std::vector<float> Upper::logits(Stream& s, int n) {
  const ModelConfig& c = e_.upper.config;
  Activations& a = e_.activations;
  const int64_t count = int64_t{n} * c.vocab_size;
  logits_.reserve(static_cast<size_t>(count) * sizeof(float));
  norm(s, {a.normed.as<float>(), a.x.as<float>(), e_.upper.weights.final_norm, n, c.dim, c.norm_eps});
  gemm(s, {logits_.as<float>(), a.normed.as<float>(), e_.upper.weights.head, nullptr, n, false});
  return to_host(s, logits_, count);
}

// Layers below `layer` over ids[0..index] without injection, and that layer's self-attention for the last of them, which alone remains in a.x.
void Upper::read_question(Stream& s, std::span<const int32_t> ids, int64_t index, int layer) {
  const ModelConfig& c = e_.upper.config;
  Activations& a = e_.activations;
  const int n = static_cast<int>(index) + 1;
  a.reserve(n);
  const LocalRanges ranges(n, 0, c.sliding_window);
  indices_.clear();
  const size_t ids_at = indices_.add({ids.begin(), ids.begin() + n}), positions_at = indices_.add(ranges.positions),
               begin_at = indices_.add(ranges.begin), end_at = indices_.add(ranges.end), last_at = indices_.add({n - 1});
  indices_.upload();
  embed(s, {a.x.as<float>(), e_.upper.weights.embedding, indices_.at(ids_at), n});
  for (int i = 0; i <= layer; ++i) {
    const Layer block(e_.upper, i);
    block.keys_values(s, a, n);
    block.rotate_keys(s, a.k.as<float>(), indices_.at(positions_at), n);
    const KvView kv{a.k.as<float>(), a.v.as<float>(), DType::kF32, e_.upper.kv_dim(), c.head_dim};
    if (i == layer) {
      block.attention(s, a, kv,
          {1, indices_.at(last_at), indices_.at(last_at), indices_.at(begin_at) + (n - 1), indices_.at(end_at) + (n - 1),
              static_cast<uint64_t>(n - ranges.begin.back())});
    } else {
      block.attention(s, a, kv, {n, nullptr, indices_.at(positions_at), indices_.at(begin_at), indices_.at(end_at), ranges.n_pairs});
      block.mlp(s, a, n);
    }
    check_cancelled(s);
  }
}

std::vector<float> Upper::to_host(Stream& s, const Buffer& buffer, int64_t n) const {
  e_.device->sync();
  check_cancelled(s);
  std::vector<float> out(static_cast<size_t>(n));
  e_.device->to_host(out.data(), buffer.as<float>(), out.size() * sizeof(float));
  return out;
}

std::vector<float> Upper::query_vector(Stream& s, std::span<const int32_t> ids, int64_t index) {
  const ModelConfig& c = e_.upper.config;
  Activations& a = e_.activations;
  read_question(s, ids, index, 0);
  Layer(e_.upper, 0).mlp(s, a, 1);
  norm(s, {a.normed.as<float>(), a.x.as<float>(), e_.upper.weights.final_norm, 1, c.dim, c.norm_eps});
  return to_host(s, a.normed, c.dim);
}

std::vector<float> Upper::cross_query(Stream& s, std::span<const int32_t> ids, int64_t index, int layer) {
  read_question(s, ids, index, layer);
  Layer(e_.upper, layer).cross_queries(s, e_.activations, e_.files->cross[static_cast<size_t>(layer)], 1);
  return to_host(s, e_.activations.q, e_.upper.q_dim());
}

}  // namespace banyan
