#include "engine/selection.h"

#include <cmath>
#include <limits>

namespace banyan {

float cosine(std::span<const float> a, std::span<const float> b) {
  constexpr double kEpsilon = 1e-6;
  double dot = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    dot += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  return static_cast<float>(dot / (std::max(std::sqrt(aa), kEpsilon) * std::max(std::sqrt(bb), kEpsilon)));
}

Selection select_nodes(const std::vector<ChunkRef>& chunks, std::span<const float> query, const TreeConfig& config) {
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  struct Path {
    int node = 1;                         // the span still open
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
    std::vector<float> scores(2 * n, kNone);   // all left halves, then all right halves
    if (config.do_retrieval) {
      for (size_t i = 0; i < 2 * n; ++i) {
        const size_t c = open[i % n];
        const auto row = static_cast<size_t>(2 * paths[c].node + (i < n ? 0 : 1)) - 2;
        scores[i] = cosine(std::span(chunks[c].chunk->vectors).subspan(row * query.size(), query.size()), query);
      }
    }
    for (size_t i = 0; i < n; ++i) {
      const size_t c = open[i];
      bool is_left = false;
      if (config.do_retrieval) {
        is_left = config.semantics == Semantics::kReleased ? scores[2 * i] >= scores[2 * i + 1] : scores[i] >= scores[n + i];
      }
      const int left = 2 * paths[c].node, right = left + 1;
      selection[c].push_back({static_cast<int>(c), is_left ? right : left, false, is_left ? scores[n + i] : scores[i]});
      paths[c] = {is_left ? left : right, is_left ? scores[i] : scores[n + i]};
    }
  }
  for (size_t c = 0; c < chunks.size(); ++c) {
    const Path& path = paths[c];
    if (chunks[c].chunk->tree.depth() == 0) {
      selection[c].push_back({static_cast<int>(c), 1, true, kNone});
    } else {
      selection[c].push_back({static_cast<int>(c), 2 * path.node, true, path.score});
      selection[c].push_back({static_cast<int>(c), 2 * path.node + 1, true, path.score});
    }
  }
  return selection;
}

}  // namespace banyan
