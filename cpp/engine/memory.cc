#include "engine/memory.h"

#include <algorithm>
#include <numeric>

namespace banyan {

namespace {

struct PlacedNode {
  const SelectedNode* node;
  int row;
};

// Rows of released and corrected semantics: row r holds leaves r and r + R of the leaf list, then the rejected nodes of chunk r,
// deepest level first; at depth 1 every leaf is a row of its own.
std::vector<PlacedNode> place_in_rows(const Selection& selection, int depth, int* n_rows) {
  std::vector<const SelectedNode*> leaves;
  for (const auto& nodes : selection) {
    for (const SelectedNode& node : nodes) {
      if (node.is_leaf) leaves.push_back(&node);
    }
  }
  std::vector<PlacedNode> placed;
  if (depth == 1) {
    *n_rows = static_cast<int>(leaves.size());
    for (size_t r = 0; r < leaves.size(); ++r) placed.push_back({leaves[r], static_cast<int>(r)});
    return placed;
  }
  const size_t n = selection.size();
  *n_rows = static_cast<int>(n);
  for (size_t r = 0; r < n; ++r) {
    for (size_t leaf = r; leaf < leaves.size(); leaf += n) placed.push_back({leaves[leaf], static_cast<int>(r)});
    for (auto node = selection[r].rbegin(); node != selection[r].rend(); ++node) {
      if (!node->is_leaf) placed.push_back({&*node, static_cast<int>(r)});
    }
  }
  return placed;
}

// Document order: each chunk's nodes by their first token.
std::vector<PlacedNode> place_in_order(const std::vector<ChunkRef>& chunks, const Selection& selection, int* n_rows) {
  std::vector<PlacedNode> placed;
  *n_rows = static_cast<int>(chunks.size());
  for (size_t c = 0; c < chunks.size(); ++c) {
    const size_t first = placed.size();
    for (const SelectedNode& node : selection[c]) placed.push_back({&node, static_cast<int>(c)});
    const ChunkTree& tree = chunks[c].chunk->tree;
    std::sort(placed.begin() + static_cast<std::ptrdiff_t>(first), placed.end(),
        [&](const PlacedNode& a, const PlacedNode& b) { return tree.span(a.node->node).begin < tree.span(b.node->node).begin; });
  }
  return placed;
}

}  // namespace

MemoryPlan::MemoryPlan(const std::vector<ChunkRef>& chunks, const Selection& selection, const TreeConfig& config) {
  int n_rows = 0;
  const bool is_paper = config.semantics == Semantics::kPaper;
  const std::vector<PlacedNode> placed = is_paper ? place_in_order(chunks, selection, &n_rows) : place_in_rows(selection, config.depth, &n_rows);
  std::vector<int32_t> row_of_slot;
  for (const PlacedNode& p : placed) {
    const Chunk& chunk = *chunks[static_cast<size_t>(p.node->chunk)].chunk;
    const int count = slot_plan(chunk.tree.span(p.node->node).size(), config.keep).n_slots;
    entries.push_back({&chunk, p.node->node, count, p.row});
    row_of_slot.insert(row_of_slot.end(), static_cast<size_t>(count), p.row);
    n_slots += count;
  }
  if (!is_paper) {  // the table of rotations has one entry per slot and is looked up by row
    for (Entry& entry : entries) entry.position = row_of_slot[std::min(static_cast<size_t>(entry.position), row_of_slot.size() - 1)];
  }
  query_position = n_rows + 1;
}

std::vector<uint64_t> MemoryPlan::key() const {
  std::vector<uint64_t> key{static_cast<uint64_t>(query_position)};
  for (const Entry& entry : entries) {
    key.push_back(entry.chunk->uid);
    key.push_back(static_cast<uint64_t>(entry.node) << 32 | static_cast<uint32_t>(entry.position));
  }
  return key;
}

KvView Memory::layer(int index) const {
  const int kv_dim = lower_.kv_dim();
  const size_t side = static_cast<size_t>(n_slots_) * row_bytes(kv_dtype_, kv_dim);
  std::byte* k = storage_.as<std::byte>() + 2 * static_cast<size_t>(index) * side;
  return {k, k + side, kv_dtype_, kv_dim, lower_.config.head_dim};
}

void Memory::build(Stream& s, const MemoryPlan& plan) {
  const ModelConfig& c = lower_.config;
  const int kv_dim = lower_.kv_dim();
  const size_t row = row_bytes(kv_dtype_, kv_dim);
  n_slots_ = plan.n_slots;
  query_position_ = plan.query_position;
  storage_.reserve(2 * static_cast<size_t>(n_layers_) * static_cast<size_t>(n_slots_) * row);
  staged_.reserve(static_cast<size_t>(n_slots_) * static_cast<size_t>(kv_dim) * sizeof(float));
  std::vector<int32_t> numbers(static_cast<size_t>(n_slots_)), positions;
  std::iota(numbers.begin(), numbers.end(), 0);
  for (const MemoryPlan::Entry& entry : plan.entries) positions.insert(positions.end(), static_cast<size_t>(entry.n_slots), entry.position);
  indices_.clear();
  const size_t numbers_at = indices_.add(numbers), positions_at = indices_.add(positions);
  indices_.upload();

  for (int i = 0; i < n_layers_; ++i) {
    const KvView to = layer(i);
    for (const bool is_key : {true, false}) {
      size_t slot = 0;
      for (const MemoryPlan::Entry& entry : plan.entries) {
        const NodeSlots& slots = entry.chunk->slots[static_cast<size_t>(entry.node)];
        const std::byte* from = slots.data + (static_cast<size_t>(i) * 2 + (is_key ? 0 : 1)) * static_cast<size_t>(entry.n_slots) * row;
        gather(s, {staged_.as<float>() + slot * static_cast<size_t>(kv_dim), from, kv_dtype_, indices_.at(numbers_at), entry.n_slots, kv_dim});
        slot += static_cast<size_t>(entry.n_slots);
      }
      // The second rotation adds to the first; the magnitude of YaRN is in the keys already.
      if (is_key)
        rope(s, {staged_.as<float>(), indices_.at(positions_at), lower_.rotation.inv_freq.as<float>(), n_slots_, c.n_kv_heads, c.head_dim, 1.0f,
                    c.rope.is_interleaved});
      store(s, {is_key ? to.k : to.v, kv_dtype_, to.row_stride, to.head_stride, staged_.as<float>(), indices_.at(numbers_at), n_slots_, c.n_kv_heads,
                   c.head_dim});
    }
    check_cancelled(s);
  }
  device_.sync();
}

}  // namespace banyan
