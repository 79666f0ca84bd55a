#include "engine/tree.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace banyan {

SlotPlan slot_plan(int n_tokens, const Keep& keep) {
  int64_t wanted = keep.is_fraction ? static_cast<int64_t>(n_tokens * keep.fraction) : (keep.count > 0 ? keep.count : n_tokens);
  wanted = std::clamp<int64_t>(wanted, 1, n_tokens);
  const int step = static_cast<int>(n_tokens / wanted);
  return {step, (n_tokens + step - 1) / step};
}

ChunkTree::ChunkTree(int n_tokens, const TreeConfig& config) : n_tokens_(n_tokens) {
  depth_ = std::min(config.depth, static_cast<int>(std::bit_width(static_cast<unsigned>(n_tokens))) - 1);
  drops_odd_ = config.semantics != Semantics::kPaper;
}

Span ChunkTree::span(int node) const {
  Span span{0, n_tokens_};
  const int level = level_of(node);
  for (int l = 0; l < level; ++l) {  // walk from the root: bit l of the path, most significant first
    if (drops_odd_ && l == depth_ - 1 && span.size() % 2 != 0) --span.end;
    const int middle = span.begin + span.size() / 2;
    const bool is_right = (node >> (level - 1 - l)) & 1;
    (is_right ? span.begin : span.end) = middle;
  }
  return span;
}

void check_chunk_size(int chunk_size, const TreeConfig& config) {
  if (chunk_size < 1) throw Error(Code::kInvalidArgument, "chunk size must be at least 1 token, got " + std::to_string(chunk_size));
  if (config.semantics == Semantics::kPaper) return;
  const int unit = 1 << (config.depth - 1);
  if (chunk_size % unit != 0) {
    throw Error(Code::kInvalidArgument, "chunk size " + std::to_string(chunk_size) +
                                            " cannot be halved exactly: released and corrected semantics need a multiple of " + std::to_string(unit) +
                                            " at depth " + std::to_string(config.depth));
  }
}

}  // namespace banyan
