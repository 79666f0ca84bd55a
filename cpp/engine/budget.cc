#include "engine/budget.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace banyan {

void keep_best_chunks(const std::vector<ChunkRef>& chunks, Selection& selection, int64_t budget) {
  std::vector<float> best(chunks.size(), -std::numeric_limits<float>::infinity());
  std::vector<int64_t> n_slots(chunks.size(), 0);
  for (size_t c = 0; c < chunks.size(); ++c) {
    for (const SelectedNode& node : selection[c]) {
      if (node.score > best[c]) best[c] = node.score;  // not where it is NaN
      n_slots[c] += extent_of(chunks[c].chunk->tree, node).slots.n_slots;
    }
  }
  std::vector<size_t> ranked(chunks.size());
  std::iota(ranked.begin(), ranked.end(), size_t{0});
  std::stable_sort(ranked.begin(), ranked.end(), [&](size_t a, size_t b) { return best[a] > best[b]; });
  bool fits = true;
  for (const size_t c : ranked) {
    fits = fits && n_slots[c] <= budget;
    if (fits) budget -= n_slots[c];
    for (SelectedNode& node : selection[c]) node.is_taken = fits;
  }
}

Selection select_groups(const std::vector<ChunkRef>& chunks, const TokenScores& scores, int64_t budget) {
  struct Group {
    float score;
    int32_t chunk, index;
  };
  std::vector<Group> groups;
  for (size_t c = 0; c < chunks.size(); ++c) {
    const ChunkTree& tree = chunks[c].chunk->tree;
    for (int g = 0; g < tree.fine().n_slots; ++g) groups.push_back({scores.of_group(c, g), static_cast<int32_t>(c), g});
  }
  const auto is_earlier = [](const Group& a, const Group& b) { return a.chunk != b.chunk ? a.chunk < b.chunk : a.index < b.index; };
  if (const auto n = static_cast<std::ptrdiff_t>(std::min<int64_t>(budget, static_cast<int64_t>(groups.size())));
      n < static_cast<std::ptrdiff_t>(groups.size())) {
    std::nth_element(groups.begin(), groups.begin() + n, groups.end(),
        [&](const Group& a, const Group& b) { return a.score != b.score ? a.score > b.score : is_earlier(a, b); });
    groups.resize(static_cast<size_t>(n));
  }
  std::sort(groups.begin(), groups.end(), is_earlier);
  Selection selection(chunks.size());
  for (const Group& group : groups) {
    std::vector<SelectedNode>& runs = selection[static_cast<size_t>(group.chunk)];
    if (runs.empty() || runs.back().groups.end != group.index) {
      runs.push_back({group.chunk, 0, true, group.score, {group.index, group.index + 1}, true});
    } else {
      runs.back().groups.end = group.index + 1;
      runs.back().score = std::max(runs.back().score, group.score);
    }
  }
  return selection;
}

}  // namespace banyan
