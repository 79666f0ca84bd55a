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

KvView Memory::layer(int index) const {
  const int kv_dim = lower_.kv_dim();
  const size_t side = static_cast<size_t>(n_slots_) * row_bytes(kv_dtype_, kv_dim);
  std::byte* k = storage_.as<std::byte>() + 2 * static_cast<size_t>(index) * side;
  return {k, k + side, kv_dtype_, kv_dim, lower_.config.head_dim};
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
  storage_.reserve(2 * static_cast<size_t>(tree_.n_injected_layers) * static_cast<size_t>(n_slots_) * row_bytes(kv_dtype_, lower_.kv_dim()));
  if (!missing.empty()) {
    if (tree_.semantics == Semantics::kNested) make_nodes(s, missing);
    else place_nodes(s, missing);
  }
  device_.sync();
  placed_ = std::move(now);
}

// Slots that were rotated in their node: a second rotation adds to the first, and the magnitude of YaRN is in the keys already.
void Memory::place_nodes(Stream& s, const std::vector<Missing>& missing) {
  const ModelConfig& c = lower_.config;
  const size_t row = row_bytes(kv_dtype_, lower_.kv_dim());
  std::vector<PlacedRows> pieces;  // [M][keys, values]
  for (size_t side = 0; side < 2 * static_cast<size_t>(tree_.n_injected_layers); ++side) {
    for (const auto& [entry, first] : missing) {
      const std::byte* slots = entry->chunk->slots[static_cast<size_t>(entry->node)].data;
      pieces.push_back({slots + side * static_cast<size_t>(entry->n_slots()) * row, first, entry->n_slots(), entry->position});
    }
  }
  pieces_.reserve(pieces.size() * sizeof(PlacedRows));
  device_.to_device(pieces_.as<PlacedRows>(), pieces.data(), pieces.size() * sizeof(PlacedRows));
  const auto n = static_cast<int>(missing.size());
  for (int i = 0; i < tree_.n_injected_layers; ++i) {
    const KvView to = layer(i);
    const PlacedRows* from = pieces_.as<PlacedRows>() + static_cast<std::ptrdiff_t>(2 * i) * n;
    place(s, {to.k, kv_dtype_, from, n, lower_.rotation.inv_freq.as<float>(), c.n_kv_heads, c.head_dim, c.rope.is_interleaved});
    place(s, {to.v, kv_dtype_, from + n, n, nullptr, c.n_kv_heads, c.head_dim, false});
    check_cancelled(s);
  }
}

// Arrays in the index table about all slots that have to be made, entry by entry.
struct Memory::Rows {
  Rows(const std::vector<Missing>& missing, Positions kind, IndexTable& table) {
    std::vector<int32_t> targets_in, positions_in, offsets_in, begin_in, end_in;
    for (const auto& [entry, first] : missing) {
      const Extent& extent = entry->extent;
      n_most = std::max(n_most, extent.rows.size());
      for (int i = 0; i < entry->n_slots(); ++i) {
        targets_in.push_back(first + i);
        positions_in.push_back(entry->position);
        offsets_in.push_back(extent.tokens.begin + i * extent.slots.step + (kind == Positions::kSum ? entry->position : 0));
        begin_in.push_back(i * extent.rows_per_slot);
        end_in.push_back(std::min((i + 1) * extent.rows_per_slot, extent.rows.size()));
      }
    }
    n_slots = static_cast<int>(targets_in.size());
    std::vector<int32_t> numbers_in(static_cast<size_t>(n_most));
    std::iota(numbers_in.begin(), numbers_in.end(), 0);
    table.clear();
    const size_t numbers_at = table.add(numbers_in), targets_at = table.add(targets_in), positions_at = table.add(positions_in),
                 offsets_at = table.add(offsets_in), begin_at = table.add(begin_in), end_at = table.add(end_in);
    table.upload();
    numbers = table.at(numbers_at);
    targets = table.at(targets_at);
    positions = table.at(positions_at);
    offsets = table.at(offsets_at);
    begin = table.at(begin_at);
    end = table.at(end_at);
  }
  int n_slots = 0, n_most = 0;  // n_most: stored rows of the longest entry
  const int32_t* numbers;       // [n_most] 0, 1, ...
  const int32_t* targets;       // [n_slots] its row of the memory
  const int32_t* positions;     // [n_slots] of the entry
  const int32_t* offsets;       // [n_slots] of the slot's first token in its chunk, plus the entry's position where positions are summed
  const int32_t *begin, *end;   // [n_slots] stored rows of the slot, counted from its entry's first
};

// Nested: slots are made of stored ones, which are not rotated yet.
void Memory::make_nodes(Stream& s, const std::vector<Missing>& missing) {
  const ModelConfig& c = lower_.config;
  const size_t row = static_cast<size_t>(lower_.kv_dim()) * sizeof(float);
  const Rows rows(missing, tree_.positions, indices_);
  staged_.reserve(static_cast<size_t>(rows.n_slots) * row);
  if (tree_.slot_kind == SlotKind::kMean) rows_.reserve(static_cast<size_t>(rows.n_most) * row);
  for (int i = 0; i < tree_.n_injected_layers; ++i) {
    const KvView to = layer(i);
    for (const bool is_key : {true, false}) {
      collect(s, missing, rows, static_cast<size_t>(i) * 2 + (is_key ? 0 : 1));
      if (is_key) turn_keys(s, rows);
      store(s, {is_key ? to.k : to.v, kv_dtype_, to.row_stride, to.head_stride, staged_.as<float>(), rows.targets, rows.n_slots, c.n_kv_heads,
                   c.head_dim});
    }
    check_cancelled(s);
  }
}

// staged_ = one layer's keys (side 2 i) or values (2 i + 1) of all entries.
void Memory::collect(Stream& s, const std::vector<Missing>& missing, const Rows& rows, size_t side) {
  const int kv_dim = lower_.kv_dim();
  const size_t row = row_bytes(kv_dtype_, kv_dim);
  size_t slot = 0;
  for (const auto& [entry, first] : missing) {
    const Extent& extent = entry->extent;
    const NodeSlots& stored = entry->chunk->slots[static_cast<size_t>(extent.stored_node)];
    const std::byte* from = stored.data + (side * static_cast<size_t>(stored.n_slots) + static_cast<size_t>(extent.rows.begin)) * row;
    float* to = staged_.as<float>() + slot * static_cast<size_t>(kv_dim);
    if (tree_.slot_kind == SlotKind::kStrided || extent.rows_per_slot == 1) {
      gather(s, {to, from, kv_dtype_, rows.begin + slot, entry->n_slots(), kv_dim});
    } else {
      gather(s, {rows_.as<float>(), from, kv_dtype_, rows.numbers, extent.rows.size(), kv_dim});
      pool(s, {to, rows_.as<float>(), rows.begin + slot, rows.end + slot, entry->n_slots(), kv_dim});
    }
    slot += static_cast<size_t>(entry->n_slots());
  }
}

void Memory::turn_keys(Stream& s, const Rows& rows) const {
  const ModelConfig& c = lower_.config;
  const Rotation& rotation = lower_.rotation;
  const auto turn = [&](const int32_t* positions, const Buffer& frequencies, float magnitude) {
    rope(s, {staged_.as<float>(), positions, frequencies.as<float>(), rows.n_slots, c.n_kv_heads, c.head_dim, magnitude, c.rope.is_interleaved});
  };
  if (tree_.positions == Positions::kSum) return turn(rows.offsets, rotation.inv_freq, rotation.magnitude);
  turn(rows.offsets, rotation.fast, rotation.magnitude);
  turn(rows.positions, rotation.slow, 1.0f);
}

}  // namespace banyan
