#include "engine/selection.h"

#include <algorithm>
#include <limits>

namespace banyan {

namespace {

constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

}  // namespace

Extent extent_of(const ChunkTree& tree, const SelectedNode& node) {
  if (node.node == 0) return {tree.depth(), tree.tokens_of(node.groups), {tree.fine().step, node.groups.size()}, 1, node.groups, 1};
  const SlotPlan slots = tree.slots(node.node);
  const int level = level_of(node.node);
  if (!tree.is_nested()) return {level, tree.span(node.node), slots, node.node, {0, slots.n_slots}, 1};
  return {level, tree.span(node.node), slots, 1, tree.groups(node.node), tree.groups_per_slot(node.node)};
}

Selection select_nodes(const std::vector<ChunkRef>& chunks, const NodeScore& score, const TreeConfig& config) {
  struct Path {
    int node = 1;  // the span still open
    float score = kNone;
  };
  std::vector<Path> paths(chunks.size());
  Selection selection(chunks.size());

  for (int level = 0; level < config.depth - 1; ++level) {
    // the chunks that still have a choice here: a shallow last chunk may have none
    std::vector<size_t> open;
    for (size_t c = 0; c < chunks.size(); ++c) {
      if (level < chunks[c].chunk->tree.depth() - 1) open.push_back(c);
    }
    const size_t n = open.size();
    std::vector<float> scores(2 * n, kNone);  // all left halves, then all right halves
    for (size_t i = 0; config.do_retrieval && i < 2 * n; ++i) scores[i] = score(open[i % n], 2 * paths[open[i % n]].node + (i < n ? 0 : 1));
    for (size_t i = 0; i < n; ++i) {
      const size_t c = open[i];
      const auto [left, right] =
          config.semantics == Semantics::kReleased ? std::pair(scores[2 * i], scores[2 * i + 1]) : std::pair(scores[i], scores[n + i]);
      const bool is_left = left >= right;  // false without scores
      const int chosen = 2 * paths[c].node + (is_left ? 0 : 1);
      selection[c].push_back({static_cast<int>(c), chosen ^ 1, false, is_left ? scores[n + i] : scores[i], {}, true});
      paths[c] = {chosen, is_left ? scores[i] : scores[n + i]};
    }
  }
  for (size_t c = 0; c < chunks.size(); ++c) {
    const auto& [node, path_score] = paths[c];
    const float leaf_score = node == 1 && config.do_retrieval ? score(c, 1) : path_score;  // no choice was made: the whole chunk's
    if (chunks[c].chunk->tree.depth() == 0) {
      selection[c].push_back({static_cast<int>(c), 1, true, leaf_score, {}, true});
    } else {
      for (const int leaf : {2 * node, 2 * node + 1}) selection[c].push_back({static_cast<int>(c), leaf, true, leaf_score, {}, true});
    }
  }
  return selection;
}

}  // namespace banyan
