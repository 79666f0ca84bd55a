#include "engine/compress.h"

#include <algorithm>
#include <numeric>

namespace banyan {

namespace {

std::vector<int32_t> count_up(int n) {
  std::vector<int32_t> numbers(static_cast<size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

void copy_rows(Stream& s, Buffer& to, const Buffer& from, const int32_t* rows, int n, int width) {
  gather(s, {to.as<float>(), from.as<float>(), DType::kF32, rows, n, width});
}

// One level's compared nodes over a batch of whole chunks.
struct LevelPlan {
  std::vector<int32_t> offsets;                                    // per token: offset in its node (0 where no node covers it)
  std::vector<int32_t> last_rows, last_offsets, kv_begin, kv_end;  // per node
  uint64_t n_pairs = 0;

  LevelPlan(const std::vector<std::shared_ptr<Chunk>>& chunks, int level) {
    int row = 0;
    for (const auto& chunk : chunks) {
      const ChunkTree& tree = chunk->tree;
      offsets.resize(offsets.size() + static_cast<size_t>(tree.n_tokens()), 0);
      for (int node = 1 << level; level < tree.depth() && node < (2 << level); ++node) {
        const Span span = tree.span(node);
        for (int i = span.begin; i < span.end; ++i) offsets[static_cast<size_t>(row + i)] = i - span.begin;
        last_rows.push_back(row + span.end - 1);
        last_offsets.push_back(span.size() - 1);
        kv_begin.push_back(row + span.begin);
        kv_end.push_back(row + span.end);
        n_pairs += static_cast<uint64_t>(span.size());
      }
      row += tree.n_tokens();
    }
  }
};

}  // namespace

size_t Compressor::slot_bytes() const { return 2 * static_cast<size_t>(tree_.n_injected_layers) * row_bytes(kv_dtype_, lower_.kv_dim()); }

size_t Compressor::index_bytes(const ChunkTree& tree) const {
  if (tree_.selection == SelectionRule::kTokenKeys) return static_cast<size_t>(tree.n_tokens()) * row_bytes(kv_dtype_, lower_.kv_dim());
  return static_cast<size_t>(tree.n_compared()) * static_cast<size_t>(lower_.config.dim) * sizeof(float);
}

void Compressor::index(Stream& s, const std::vector<std::shared_ptr<Chunk>>& chunks) {
  std::vector<std::shared_ptr<Chunk>> missing;
  std::copy_if(chunks.begin(), chunks.end(), std::back_inserter(missing), [](const auto& chunk) { return !chunk->is_indexed; });
  if (missing.empty()) return;
  if (tree_.semantics == Semantics::kNested) encode_whole(s, missing);
  else if (tree_.selection == SelectionRule::kTokenKeys) compute_token_keys(s, missing);
  else compute_vectors(s, missing);
  for (const auto& chunk : missing) chunk->is_indexed = true;
}

void Compressor::compute_token_keys(Stream& s, const std::vector<std::shared_ptr<Chunk>>& chunks) {
  std::vector<NodeRef> roots;
  for (const auto& chunk : chunks) roots.push_back({chunk, 1, {}});
  const NodeBatch batch(roots);
  const int n = batch.n_rows, kv_dim = lower_.kv_dim(), head_dim = lower_.config.head_dim, heads = lower_.config.n_kv_heads;
  const size_t row = row_bytes(kv_dtype_, kv_dim);
  a_.reserve(n);
  auto out = std::make_shared<Buffer>(device_, static_cast<size_t>(n) * row);
  indices_.clear();
  const size_t ids_at = indices_.add(batch.ids), offsets_at = indices_.add(batch.offsets), begin_at = indices_.add(batch.kv_begin),
               end_at = indices_.add(batch.kv_end);
  indices_.upload();

  embed(s, {a_.x.as<float>(), lower_.weights.embedding, indices_.at(ids_at), n});
  for (int i = 0; i < tree_.selection_layer; ++i) {
    const Layer layer(lower_, i);
    layer.keys_values(s, a_, n);
    layer.rotate_keys(s, a_.k.as<float>(), indices_.at(offsets_at), n);
    layer.attention(s, a_, {a_.k.as<float>(), a_.v.as<float>(), DType::kF32, kv_dim, head_dim},
        {n, nullptr, indices_.at(offsets_at), indices_.at(begin_at), indices_.at(end_at), batch.n_pairs});
    layer.mlp(s, a_, n);
    check_cancelled(s);
  }
  const Layer matching(lower_, tree_.selection_layer);
  matching.keys(s, a_, n);
  matching.rotate_keys(s, a_.k.as<float>(), indices_.at(offsets_at), n);
  for (size_t c = 0; c < chunks.size(); ++c) {  // head by head, so that a head's keys are one matrix
    const NodeBatch::Node& node = batch.nodes[c];
    store(s, {out->as<std::byte>() + static_cast<size_t>(node.row) * row, kv_dtype_, head_dim, int64_t{node.n_tokens} * head_dim,
                 a_.k.as<float>() + static_cast<size_t>(node.row) * static_cast<size_t>(kv_dim), indices_.at(offsets_at) + node.row, node.n_tokens,
                 heads, head_dim});
  }
  device_.sync();
  check_cancelled(s);
  for (size_t c = 0; c < chunks.size(); ++c) chunks[c]->token_keys = {out->as<std::byte>() + static_cast<size_t>(batch.nodes[c].row) * row, out};
}

void Compressor::compute_vectors(Stream& s, const std::vector<std::shared_ptr<Chunk>>& all_chunks) {
  std::vector<std::shared_ptr<Chunk>> chunks;
  std::vector<int32_t> ids;
  int max_depth = 0;
  for (const auto& chunk : all_chunks) {
    if (chunk->tree.n_compared() == 0) continue;
    chunks.push_back(chunk);
    ids.insert(ids.end(), chunk->tokens.begin(), chunk->tokens.end());
    max_depth = std::max(max_depth, chunk->tree.depth());
  }
  if (chunks.empty()) return;
  const int n = static_cast<int>(ids.size()), dim = lower_.config.dim, kv_dim = lower_.kv_dim();
  a_.reserve(n);
  std::vector<int32_t> first_vector;  // of each chunk
  int32_t n_vectors = 0;
  for (const auto& chunk : chunks) {
    first_vector.push_back(n_vectors);
    n_vectors += chunk->tree.n_compared();
  }
  const auto out = std::make_shared<Buffer>(device_, static_cast<size_t>(n_vectors) * static_cast<size_t>(dim) * sizeof(float));
  const Layer first(lower_, 0);

  // K and V before rotation depend on the token alone: once for all levels, in pieces, so that only they are there for whole chunks.
  indices_.clear();
  indices_.add(ids);
  indices_.upload();
  const int n_most = device_.batch_rows().encode;
  for (int begin = 0; begin < n; begin += n_most) {
    const int n_rows = std::min(n_most, n - begin);
    embed(s, {a_.x.as<float>(), lower_.weights.embedding, indices_.at(static_cast<size_t>(begin)), n_rows});
    first.keys_values(s, a_, n_rows, begin);
  }

  for (int level = 1; level < max_depth; ++level) {
    const LevelPlan plan(chunks, level);
    const int n_nodes = static_cast<int>(plan.last_rows.size());
    indices_.clear();
    std::vector<int32_t> last_ids, to;
    for (const int32_t row : plan.last_rows) last_ids.push_back(ids[static_cast<size_t>(row)]);
    for (size_t c = 0; c < chunks.size(); ++c) {
      for (int node = 1 << level; level < chunks[c]->tree.depth() && node < (2 << level); ++node) to.push_back(first_vector[c] + node - 2);
    }
    const size_t ids_at = indices_.add(last_ids), to_at = indices_.add(to), all_at = indices_.add(count_up(n)),
                 offsets_at = indices_.add(plan.offsets), last_at = indices_.add(plan.last_offsets), begin_at = indices_.add(plan.kv_begin),
                 end_at = indices_.add(plan.kv_end);
    indices_.upload();
    copy_rows(s, a_.moved, a_.k, indices_.at(all_at), n, kv_dim);
    first.rotate_keys(s, a_.moved.as<float>(), indices_.at(offsets_at), n);
    const KvView kv{a_.moved.as<float>(), a_.v.as<float>(), DType::kF32, kv_dim, lower_.config.head_dim};
    embed(s, {a_.x.as<float>(), lower_.weights.embedding, indices_.at(ids_at), n_nodes});
    norm(s, {a_.normed.as<float>(), a_.x.as<float>(), lower_.weights.layers[0].attn_norm, n_nodes, dim, lower_.config.norm_eps});
    first.attention(s, a_, kv, {n_nodes, nullptr, indices_.at(last_at), indices_.at(begin_at), indices_.at(end_at), plan.n_pairs});
    first.mlp(s, a_, n_nodes);
    norm(s, {a_.normed.as<float>(), a_.x.as<float>(), lower_.weights.final_norm, n_nodes, dim, lower_.config.norm_eps});
    store(s, {out->as<float>(), DType::kF32, dim, dim, a_.normed.as<float>(), indices_.at(to_at), n_nodes, 1, dim});
    check_cancelled(s);
  }
  device_.sync();
  check_cancelled(s);
  for (size_t c = 0; c < chunks.size(); ++c) {
    chunks[c]->vectors = {out->as<float>() + static_cast<size_t>(first_vector[c]) * static_cast<size_t>(dim), out};
  }
}

// Writes a layer's slots into the batch's storage, node by node: [M][keys, values][n_slots, G, C].
struct Compressor::SlotWriter {
  Compressor& self;
  Stream& s;
  const NodeBatch& batch;
  std::byte* out;
  const int32_t *to, *strides;  // device: of SlotRows
  const int32_t *slot_rows, *group_end, *slot_offsets, *numbers;

  // k is unrotated, except strided slots taken from all rows, whose keys carry their rotation already.
  void write(const Layer& layer, int index, Rows rows) const {
    const bool is_mean = self.tree_.slot_kind == SlotKind::kMean;
    const int32_t* begin = rows == Rows::kSlots ? numbers : slot_rows;
    const int32_t* end = rows == Rows::kAll && is_mean ? group_end : nullptr;
    side(2 * index, self.a_.k, begin, end, is_mean || rows == Rows::kSlots ? &layer.rotation() : nullptr);
    side(2 * index + 1, self.a_.v, begin, end, nullptr);
  }

 private:
  void side(int side, const Buffer& x, const int32_t* begin, const int32_t* end, const Rotation* rotation) const {
    const ModelConfig& c = self.lower_.config;
    compress(s, {out, self.kv_dtype_, to, strides, side, x.as<float>(), begin, end, slot_offsets,
                    rotation != nullptr ? rotation->inv_freq.as<float>() : nullptr, rotation != nullptr ? rotation->magnitude : 1.0f, batch.n_slots,
                    c.n_kv_heads, c.head_dim, c.rope.is_interleaved});
  }
};

// Rows of the union (each token once) become rows of the batch (each node's tokens in turn).
void Compressor::spread_union(Stream& s, const NodeBatch& batch, const int32_t* union_rows) {
  const int dim = lower_.config.dim, kv_dim = lower_.kv_dim();
  const auto spread = [&](Buffer& rows, Buffer& spare, int width) {
    copy_rows(s, spare, rows, union_rows, batch.n_rows, width);
    rows.swap(spare);
  };
  spread(a_.x, a_.y, dim);
  spread(a_.normed, a_.picked, dim);
  spread(a_.k, a_.moved, kv_dim);
  spread(a_.v, a_.moved, kv_dim);
}

// The batch's keys and values as attention sees them; with masks only the valid tokens, moved to the front of their node.
KvView Compressor::visible_keys(Stream& s, const NodeBatch& batch, const int32_t* valid_rows) {
  const int kv_dim = lower_.kv_dim(), head_dim = lower_.config.head_dim;
  if (!batch.has_mask) return {a_.k.as<float>(), a_.v.as<float>(), DType::kF32, kv_dim, head_dim};
  const size_t n_bytes = static_cast<size_t>(batch.n_rows) * static_cast<size_t>(kv_dim) * sizeof(float);
  packed_k_.reserve(n_bytes);
  packed_v_.reserve(n_bytes);
  copy_rows(s, packed_k_, a_.k, valid_rows, batch.n_rows, kv_dim);
  copy_rows(s, packed_v_, a_.v, valid_rows, batch.n_rows, kv_dim);
  return {packed_k_.as<float>(), packed_v_.as<float>(), DType::kF32, kv_dim, head_dim};
}

void Compressor::encode(Stream& s, const std::vector<NodeRef>& refs) {
  if (refs.empty()) return;
  const NodeBatch batch(refs);
  const int n_layers = tree_.n_injected_layers, n_tokens = static_cast<int>(batch.ids.size());
  const bool is_mean = tree_.slot_kind == SlotKind::kMean;
  a_.reserve(std::max(n_tokens, batch.n_rows));
  auto out = std::make_shared<Buffer>(device_, static_cast<size_t>(batch.n_slots) * slot_bytes());

  indices_.clear();
  const size_t ids_at = indices_.add(batch.ids), union_at = indices_.add(batch.union_rows), offsets_at = indices_.add(batch.offsets),
               begin_at = indices_.add(batch.kv_begin), end_at = indices_.add(batch.kv_end), valid_at = indices_.add(batch.valid_rows),
               slots_at = indices_.add(batch.slot_rows), groups_at = indices_.add(batch.group_end),
               slot_offsets_at = indices_.add(batch.slot_offsets), slot_begin_at = indices_.add(batch.slot_kv_begin),
               slot_end_at = indices_.add(batch.slot_kv_end), numbers_at = indices_.add(count_up(batch.n_slots));
  SlotRows to;
  for (const NodeBatch::Node& node : batch.nodes) to.add(2 * n_layers, node.slot, node.n_slots);
  const size_t to_at = indices_.add(to.first), strides_at = indices_.add(to.strides);
  std::vector<int32_t> slot_union = batch.slot_rows;  // rows of the slots before the union is spread
  if (batch.is_union) {
    for (int32_t& row : slot_union) row = batch.union_rows[static_cast<size_t>(row)];
  }
  const size_t slot_union_at = indices_.add(slot_union);
  indices_.upload();
  const SlotWriter slots{*this, s, batch, out->as<std::byte>(), indices_.at(to_at), indices_.at(strides_at), indices_.at(slots_at),
      indices_.at(groups_at), indices_.at(slot_offsets_at), indices_.at(numbers_at)};

  embed(s, {a_.x.as<float>(), lower_.weights.embedding, indices_.at(ids_at), n_tokens});
  for (int i = 0; i < n_layers; ++i) {
    const Layer layer(lower_, i);
    const bool is_last = i == n_layers - 1;
    if (is_last && !is_mean) {  // K and V at the slots only; the layer below has left just those rows
      if (i == 0) {
        copy_rows(s, a_.y, a_.x, indices_.at(slot_union_at), batch.n_slots, lower_.config.dim);
        a_.x.swap(a_.y);
      }
      layer.keys_values(s, a_, batch.n_slots);
      slots.write(layer, i, Rows::kSlots);
      break;
    }
    layer.keys_values(s, a_, i == 0 ? n_tokens : batch.n_rows);
    if (i == 0 && batch.is_union) spread_union(s, batch, indices_.at(union_at));
    if (is_mean) slots.write(layer, i, Rows::kAll);
    if (is_last) break;
    layer.rotate_keys(s, a_.k.as<float>(), indices_.at(offsets_at), batch.n_rows);
    if (!is_mean) slots.write(layer, i, Rows::kAll);

    const KvView kv = visible_keys(s, batch, indices_.at(valid_at));
    if (i == n_layers - 2 && !is_mean) {  // above, only the slots' rows are read
      layer.attention(s, a_, kv,
          {batch.n_slots, indices_.at(slots_at), indices_.at(slot_offsets_at), indices_.at(slot_begin_at), indices_.at(slot_end_at),
              batch.n_slot_pairs});
      layer.mlp(s, a_, batch.n_slots);
    } else {
      layer.attention(s, a_, kv, {batch.n_rows, nullptr, indices_.at(offsets_at), indices_.at(begin_at), indices_.at(end_at), batch.n_pairs});
      layer.mlp(s, a_, batch.n_rows);
    }
    check_cancelled(s);
  }
  device_.sync();
  check_cancelled(s);

  const std::byte* node_out = out->as<std::byte>();
  for (size_t i = 0; i < refs.size(); ++i) {
    refs[i].chunk->set_slots(refs[i].node, {node_out, batch.nodes[i].n_slots, out});
    node_out += static_cast<size_t>(batch.nodes[i].n_slots) * slot_bytes();
  }
}

}  // namespace banyan
