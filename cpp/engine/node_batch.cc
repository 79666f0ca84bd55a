#include "engine/node_batch.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace banyan {

namespace {

// True if one node of a chunk lies within another of the same chunk.
bool overlap(const std::vector<NodeRef>& refs) {
  std::unordered_map<const Chunk*, std::unordered_set<int>> nodes;
  for (const NodeRef& ref : refs) nodes[ref.chunk.get()].insert(ref.node);
  for (const NodeRef& ref : refs) {
    for (int up = ref.node / 2; up >= 1; up /= 2) {
      if (nodes[ref.chunk.get()].contains(up)) return true;
    }
  }
  return false;
}

}  // namespace

NodeBatch::NodeBatch(const std::vector<NodeRef>& refs) {
  is_union = overlap(refs);
  std::unordered_map<const Chunk*, int> first_row;  // of a chunk's tokens in ids
  for (const NodeRef& ref : refs) {
    const Chunk& chunk = *ref.chunk;
    const Span span = chunk.tree.span(ref.node);
    const SlotPlan plan = chunk.tree.slots(ref.node);
    if (is_union) {
      const auto [entry, is_new] = first_row.try_emplace(&chunk, static_cast<int>(ids.size()));
      if (is_new) ids.insert(ids.end(), chunk.tokens.begin(), chunk.tokens.end());
      for (int i = span.begin; i < span.end; ++i) union_rows.push_back(entry->second + i);
    } else {
      ids.insert(ids.end(), chunk.tokens.begin() + span.begin, chunk.tokens.begin() + span.end);
    }
    for (int i = 0; i < span.size(); ++i) {
      offsets.push_back(i);
      kv_begin.push_back(n_rows);
      kv_end.push_back(n_rows + i + 1);
    }
    for (int i = 0; i < span.size(); i += plan.step) {
      slot_rows.push_back(n_rows + i);
      group_end.push_back(n_rows + std::min(i + plan.step, span.size()));
      slot_offsets.push_back(i);
    }
    nodes.push_back({n_rows, span.size(), n_slots, plan.n_slots});
    n_rows += span.size();
    n_slots += plan.n_slots;
    has_mask = has_mask || !ref.mask.empty();
  }
  if (has_mask) add_mask(refs);
  for (const int row : slot_rows) {
    slot_kv_begin.push_back(kv_begin[static_cast<size_t>(row)]);
    slot_kv_end.push_back(kv_end[static_cast<size_t>(row)]);
    n_slot_pairs += static_cast<uint64_t>(slot_kv_end.back() - slot_kv_begin.back());
  }
  for (size_t row = 0; row < kv_begin.size(); ++row) n_pairs += static_cast<uint64_t>(kv_end[row] - kv_begin[row]);
}

void NodeBatch::add_mask(const std::vector<NodeRef>& refs) {
  valid_rows.resize(static_cast<size_t>(n_rows), 0);
  for (size_t i = 0; i < refs.size(); ++i) {
    const int row = nodes[i].row;
    int n_valid = 0;
    for (int t = 0; t < nodes[i].n_tokens; ++t) {
      const bool is_valid = refs[i].mask.empty() || refs[i].mask[static_cast<size_t>(t)] != 0;
      if (is_valid) valid_rows[static_cast<size_t>(row + n_valid++)] = row + t;
      kv_end[static_cast<size_t>(row + t)] = is_valid ? row + n_valid : row;
    }
  }
}

}  // namespace banyan
