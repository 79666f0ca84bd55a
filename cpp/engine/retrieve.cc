#include "engine/retrieve.h"

#include <algorithm>
#include <tuple>

#include "engine/stopwatch.h"
#include "engine/token_scores.h"

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
  for (size_t d = 0; d < documents_.size(); ++d) {
    int index = 0;
    for (const auto& chunk : documents_[d]->chunks()) {
      refs_.push_back({static_cast<int>(d), index++, chunk});
      chunks_.push_back(chunk);
    }
  }
}

void Retrieve::select(Stream& s) {
  if (e_.tree.do_retrieval && e_.tree.selection == SelectionRule::kTokenKeys) {
    const TokenScores scores(*e_.device, s, e_.upper, e_.lower, e_.kv_dtype, refs_, query_vector, e_.tree.selection_heads);
    selection_ = select_nodes(refs_, NodeScore(std::cref(scores)), e_.tree);
  } else {
    selection_ = select_nodes(refs_, std::span<const float>(query_vector), e_.tree);
  }
  for (const auto& nodes : selection_) {
    for (const SelectedNode& node : nodes) {
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
      if (e_.tree.do_retrieval) {
        query_vector = e_.tree.selection == SelectionRule::kTokenKeys ? upper.cross_query(s, ids, asking, e_.tree.selection_layer)
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
      plan_.emplace(refs_, selection_, e_.tree);
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
      const ChunkRef& ref = refs_[static_cast<size_t>(node.chunk)];
      const Span span = ref.chunk->tree.span(node.node);
      result.nodes.push_back({ref.document, ref.index, level_of(node.node), ref.chunk->begin + span.begin, ref.chunk->begin + span.end,
          slot_plan(span.size(), e_.tree.keep).n_slots, node.is_leaf, node.score});
    }
  }
  std::stable_sort(result.nodes.begin(), result.nodes.end(),
      [](const OpenedNode& a, const OpenedNode& b) { return std::tie(a.document, a.begin) < std::tie(b.document, b.begin); });
  for (const MemoryPlan::Entry& entry : plan.entries) {
    const Span span = entry.chunk->tree.span(entry.node);
    const SlotPlan slots = slot_plan(span.size(), e_.tree.keep);
    for (int i = 0; i < slots.n_slots; ++i) slot_positions.push_back(entry.chunk->begin + span.begin + i * slots.step);
  }
  return true;
}

}  // namespace banyan
