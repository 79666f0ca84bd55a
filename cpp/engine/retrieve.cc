#include "engine/retrieve.h"

#include <algorithm>
#include <tuple>

#include "engine/budget.h"
#include "engine/stopwatch.h"
#include "engine/token_scores.h"
#include "engine/vector_scores.h"

namespace banyan {

namespace {

// The released code hides tokens of a rejected half where the CHOSEN half of that chunk is padded, by position (sharedllm-semantics 10).
std::vector<uint8_t> mask_of_sibling(const Chunk& chunk, const SelectedNode& node) {
  if (chunk.mask.empty() || node.is_leaf || node.node == 1) return {};
  const Span own = chunk.tree.span(node.node), sibling = chunk.tree.span(node.node ^ 1);
  std::vector<uint8_t> mask(static_cast<size_t>(own.size()), 1);
  for (int i = 0; i < std::min(own.size(), sibling.size()); ++i) mask[static_cast<size_t>(i)] = chunk.mask[static_cast<size_t>(sibling.begin + i)];
  return mask;
}

}  // namespace

void Retrieve::begin() {
  int chunk_size = 0;
  for (size_t d = 0; d < documents_.size(); ++d) {
    int index = 0;
    for (const auto& chunk : documents_[d]->chunks()) {
      refs_.push_back({static_cast<int>(d), index++, chunk});
      chunks_.push_back(chunk);
      was_indexed_.push_back(chunk->is_indexed ? 1 : 0);
      chunk_size = std::max(chunk_size, documents_[d]->tree.chunk_size);
    }
  }
  tree_.chunk_size = chunk_size;
}

void Retrieve::select(Stream& s) {
  const bool takes_groups = tree_.slot_budget > 0 && tree_.budget_unit == BudgetUnit::kGroup;
  if (!tree_.do_retrieval) {
    selection_ = select_nodes(refs_, {}, tree_);
  } else if (tree_.selection == SelectionRule::kCosine) {
    selection_ = select_nodes(refs_, VectorScores(*e_.device, s, refs_, query_vector), tree_);
  } else {
    const TokenScores scores(*e_.device, s, e_.upper, e_.lower, e_.kv_dtype, refs_, query_vector, tree_,
        takes_groups ? TokenScores::Of::kGroups : TokenScores::Of::kNodes);
    selection_ = takes_groups ? select_groups(refs_, scores, tree_.slot_budget) : select_nodes(refs_, std::cref(scores), tree_);
  }
  if (tree_.slot_budget > 0 && !takes_groups) keep_best_chunks(refs_, selection_, tree_.slot_budget);
  for (const auto& nodes : selection_) {
    for (const SelectedNode& node : nodes) {
      if (!node.is_taken) continue;
      if (tree_.semantics == Semantics::kNested) {  // its slots came with the index
        if (was_indexed_[static_cast<size_t>(node.chunk)] == 0) ++n_missing_;
        continue;
      }
      const auto& chunk = refs_[static_cast<size_t>(node.chunk)].chunk;
      NodeRef ref{chunk, node.node, mask_of_sibling(*chunk, node)};
      if (!ref.mask.empty()) chunk->forget_slots(node.node);  // depends on the choice: never kept
      if (chunk->slots[static_cast<size_t>(node.node)].data == nullptr) ++n_missing_;
      nodes_.push_back(std::move(ref));
    }
  }
}

bool Retrieve::step(Stream& s, Upper& upper, std::span<const int32_t> ids, int64_t query_index, Memory& memory, std::vector<uint64_t>& memory_key,
    const Hooks& hooks) {
  const auto report = [&](const char* phase, uint64_t done, uint64_t total) {
    if (hooks.on_progress && total > 0) hooks.on_progress(phase, done, total);
  };
  switch (stage_) {
    case Stage::kBegin:
      begin();
      stage_ = Stage::kIndex;
      if (refs_.empty()) {
        has_changed = !memory_key.empty();
        memory_key.clear();
        return true;
      }
      return false;
    case Stage::kIndex: {
      const Stopwatch watch(select_ms);
      if (index_next_chunks(e_, s, chunks_, &next_chunk_)) report("select", next_chunk_, chunks_.size());
      else stage_ = Stage::kSelect;
      return false;
    }
    case Stage::kSelect: {
      const Stopwatch watch(select_ms);
      const int64_t asking = query_index < 0 ? static_cast<int64_t>(ids.size()) - 1 : query_index;
      if (tree_.do_retrieval) {
        query_vector = tree_.selection == SelectionRule::kTokenKeys ? upper.cross_query(s, ids, asking, tree_.selection_layer)
                                                                    : upper.query_vector(s, ids, asking);
      }
      select(s);
      stage_ = Stage::kEncode;
      return false;
    }
    case Stage::kEncode: {
      const Stopwatch watch(encode_ms);
      if (encode_next_nodes(e_, s, nodes_, &next_node_)) report("encode", next_node_, nodes_.size());
      else stage_ = Stage::kPlan;
      return false;
    }
    case Stage::kPlan:
      plan_.emplace(refs_, selection_, tree_);
      has_changed = plan_->key() != memory_key;
      stage_ = Stage::kBuild;
      return false;
    case Stage::kBuild: break;
  }
  const Stopwatch watch(encode_ms);
  const MemoryPlan& plan = *plan_;
  if (has_changed) {
    memory_key.clear();  // while building it holds neither
    memory.build(s, plan);
    memory_key = plan.key();
  }
  result.n_slots = plan.n_slots;
  result.n_nodes_encoded = static_cast<int>(n_missing_);
  for (const auto& nodes : selection_) {
    for (const SelectedNode& node : nodes) {
      if (!node.is_taken) continue;
      const ChunkRef& ref = refs_[static_cast<size_t>(node.chunk)];
      const auto [level, tokens, slots, stored_node, rows, rows_per_slot] = extent_of(ref.chunk->tree, node);
      result.nodes.push_back(
          {ref.document, ref.index, level, ref.chunk->begin + tokens.begin, ref.chunk->begin + tokens.end, slots.n_slots, node.is_leaf, node.score});
    }
  }
  std::stable_sort(result.nodes.begin(), result.nodes.end(),
      [](const OpenedNode& a, const OpenedNode& b) { return std::tie(a.document, a.begin) < std::tie(b.document, b.begin); });
  for (const MemoryPlan::Entry& entry : plan.entries) {
    for (int i = 0; i < entry.n_slots(); ++i) slot_positions.push_back(entry.chunk->begin + entry.extent.tokens.begin + i * entry.extent.slots.step);
  }
  return true;
}

}  // namespace banyan
