// vector_scores: the paper's rule of selection, the cosine of a node's vector and the question's. Source: SharedLLM (arXiv 2410.19318); sharedllm-semantics 5.
#pragma once

#include <span>
#include <vector>

#include "engine/layer.h"
#include "engine/selection.h"

namespace banyan {

class VectorScores {
 public:
  // All chunks must be indexed. Throws kAborted, kOutOfMemory.
  VectorScores(Device& device, Stream& s, const std::vector<ChunkRef>& chunks, std::span<const float> query);

  // Not-a-number for a whole chunk: the rule compares halves only.
  float operator()(size_t chunk, int node) const;

 private:
  std::vector<size_t> first_;  // of each chunk in scores_
  std::vector<float> scores_;  // of nodes 2, 3, ...
};

}  // namespace banyan
