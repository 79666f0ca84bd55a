#include "engine/memory.h"

#include <algorithm>
#include <cstring>

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
        [&](const PlacedNode& a, const PlacedNode& b) { return extent_of(tree, *a.node).tokens.begin < extent_of(tree, *b.node).tokens.begin; });
  }
  return placed;
}

}  // namespace

MemoryPlan::MemoryPlan(const std::vector<ChunkRef>& chunks, const Selection& selection, const TreeConfig& config) {
  int n_rows = 0;
  const bool has_rows = is_authors(config.semantics);
  const std::vector<PlacedNode> placed = has_rows ? place_in_rows(selection, config.depth, &n_rows) : place_in_order(chunks, selection, &n_rows);
  std::vector<Extent> extents;
  std::vector<int32_t> row_of_slot;
  for (const PlacedNode& p : placed) {
    extents.push_back(extent_of(chunks[static_cast<size_t>(p.node->chunk)].chunk->tree, *p.node));
    row_of_slot.insert(row_of_slot.end(), static_cast<size_t>(extents.back().slots.n_slots), p.row);
  }
  for (size_t i = 0; i < placed.size(); ++i) {
    const auto& [node, row] = placed[i];
    if (!node->is_taken) continue;
    // the authors' table of rotations has one entry per slot and is looked up by row
    const int32_t position = has_rows ? row_of_slot[std::min(static_cast<size_t>(row), row_of_slot.size() - 1)] : row;
    entries.push_back({chunks[static_cast<size_t>(node->chunk)].chunk.get(), node->node, position, extents[i]});
    n_slots += entries.back().n_slots();
  }
  query_position = n_rows + 1;
  if (config.positions == Positions::kBanded) fast_query_position = config.chunk_size;
}

std::vector<uint64_t> MemoryPlan::key() const {
  std::vector<uint64_t> key{static_cast<uint64_t>(query_position), static_cast<uint64_t>(fast_query_position)};
  for (const Entry& entry : entries) {
    key.push_back(entry.chunk->uid);
    key.push_back(static_cast<uint64_t>(entry.node) << 32 | static_cast<uint32_t>(entry.position));
    if (entry.node == 0) key.push_back(static_cast<uint64_t>(entry.extent.rows.begin) << 32 | static_cast<uint32_t>(entry.extent.rows.end));
  }
  return key;
}

int64_t Memory::head_rows() const { return is_tiled_ ? tiled_slots(n_slots_) : n_slots_; }

size_t Memory::side_bytes() const { return static_cast<size_t>(head_rows()) * row_bytes(kv_dtype_, lower_.kv_dim()); }

KvView Memory::layer(int index) const {
  const size_t side = side_bytes();
  std::byte* k = storage_.as<std::byte>() + 2 * static_cast<size_t>(index) * side;
  const int head_dim = lower_.config.head_dim;
  if (are_heads_apart_) return {k, k + side, kv_dtype_, head_dim, head_rows() * head_dim, is_tiled_};
  return {k, k + side, kv_dtype_, lower_.kv_dim(), head_dim};
}

const void* Memory::rows_of(const KvView& kv, SlotOrder side, Buffer& rows) const {
  const void* from = side == SlotOrder::kKeyTiles ? kv.k : kv.v;
  if (!are_heads_apart_) return from;
  std::vector<uint8_t> apart(side_bytes()), copy(static_cast<size_t>(n_slots_) * row_bytes(kv.dtype, lower_.kv_dim()));
  device_.to_host(apart.data(), from, apart.size());
  const ModelConfig& c = lower_.config;
  if (is_tiled_) {
    copy_rows_of_tiles(side, apart.data(), n_slots_, c.n_kv_heads, c.head_dim, copy.data());
  } else {
    const size_t n_bytes = row_bytes(kv.dtype, c.head_dim);
    for (size_t i = 0, heads = static_cast<size_t>(c.n_kv_heads), n = static_cast<size_t>(n_slots_); i < n * heads; ++i) {
      std::memcpy(copy.data() + i * n_bytes, apart.data() + (i % heads * n + i / heads) * n_bytes, n_bytes);
    }
  }
  rows.reserve(copy.size());
  device_.to_device(rows.as<uint8_t>(), copy.data(), copy.size());
  return rows.as<uint8_t>();
}

// What `now` is to hold, and which entries of the plan do not lie there yet.
std::vector<Memory::Missing> Memory::find_missing(const MemoryPlan& plan, std::vector<Placed>& now) {
  std::vector<Placed> before;
  before.swap(placed_);                          // while building it holds neither
  if (plan.n_slots != n_slots_) before.clear();  // where a layer begins depends on it
  std::vector<Missing> missing;
  auto old = before.begin();
  int slot = 0;
  for (const MemoryPlan::Entry& entry : plan.entries) {
    now.push_back({entry.chunk->uid, entry.node, entry.node == 0 ? entry.extent.rows : Span{}, entry.position, slot, entry.n_slots()});
    old = std::find_if(old, before.end(), [&](const Placed& placed) { return placed.first >= slot; });
    if (old == before.end() || *old != now.back()) missing.push_back({&entry, slot});
    slot += entry.n_slots();
  }
  return missing;
}

void Memory::build(Stream& s, const MemoryPlan& plan) {
  std::vector<Placed> now;
  const std::vector<Missing> missing = find_missing(plan, now);
  n_slots_ = plan.n_slots;
  query_position_ = plan.query_position;
  fast_query_position_ = plan.fast_query_position;
  storage_.reserve(2 * static_cast<size_t>(tree_.n_injected_layers) * side_bytes());
  if (!missing.empty()) place_nodes(s, missing);
  device_.sync();
  placed_ = std::move(now);
}

// Slots that were rotated in their node are turned on: a second rotation adds to the first, and the magnitude of YaRN is in the keys already. Nested: slots
// are made of stored ones, which are not rotated yet: slot i by the offset of its first token in the chunk, and by the chunk's index; both together
// (sum), or one for the fast pairs and one for the slow ones (banded).
void Memory::place_nodes(Stream& s, const std::vector<Missing>& missing) {
  const ModelConfig& c = lower_.config;
  const Rotation& rotation = lower_.rotation;
  const bool is_nested = tree_.semantics == Semantics::kNested, is_banded = is_nested && tree_.positions == Positions::kBanded;
  const size_t row = row_bytes(kv_dtype_, lower_.kv_dim());
  std::vector<PlacedRows> pieces;  // [M][keys, values]
  for (size_t side = 0; side < 2 * static_cast<size_t>(tree_.n_injected_layers); ++side) {
    for (const auto& [entry, first] : missing) {
      const Extent& extent = entry->extent;
      const NodeSlots& stored = entry->chunk->slots[static_cast<size_t>(extent.stored_node)];
      PlacedRows piece{};
      piece.from = stored.data + (side * static_cast<size_t>(stored.n_slots) + static_cast<size_t>(extent.rows.begin)) * row;
      piece.n_from = extent.rows.size();
      piece.stride = extent.rows_per_slot;
      piece.pooled = tree_.slot_kind == SlotKind::kMean ? extent.rows_per_slot : 1;
      piece.row = first;
      piece.n_rows = entry->n_slots();
      piece.position = (is_banded ? 0 : entry->position) + (is_nested ? extent.tokens.begin : 0);
      piece.step = is_nested ? extent.slots.step : 0;
      piece.index = is_banded ? entry->position : 0;
      pieces.push_back(piece);
    }
  }
  pieces_.reserve(pieces.size() * sizeof(PlacedRows));
  device_.to_device(pieces_.as<PlacedRows>(), pieces.data(), pieces.size() * sizeof(PlacedRows));
  const auto n = static_cast<int>(missing.size());
  const float *frequencies = (is_banded ? rotation.fast : rotation.inv_freq).as<float>(), *slow = is_banded ? rotation.slow.as<float>() : nullptr;
  const int64_t apart_rows = are_heads_apart_ ? head_rows() : 0;
  for (int i = 0; i < tree_.n_injected_layers; ++i) {
    const KvView to = layer(i);
    const PlacedRows* from = pieces_.as<PlacedRows>() + static_cast<std::ptrdiff_t>(2 * i) * n;
    place(s, {to.k, kv_dtype_, from, n, frequencies, slow, is_nested ? rotation.magnitude : 1.0f, c.n_kv_heads, c.head_dim, c.rope.is_interleaved,
                 is_tiled_ ? SlotOrder::kKeyTiles : SlotOrder::kRows, apart_rows});
    place(s, {to.v, kv_dtype_, from + n, n, nullptr, nullptr, 1.0f, c.n_kv_heads, c.head_dim, false,
                 is_tiled_ ? SlotOrder::kValueTiles : SlotOrder::kRows, apart_rows});
    check_cancelled(s);
  }
}

}  // namespace banyan
