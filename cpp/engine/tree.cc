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
  keep_ = config.keep;
  drops_odd_ = is_authors(config.semantics);
  if (config.semantics != Semantics::kNested) return;
  // A group is no longer than floor(n / 2^depth), so there are at least 2^depth of them: every leaf has one.
  fine_.step = slot_plan(n_tokens >> depth_, keep_).step;
  fine_.n_slots = (n_tokens + fine_.step - 1) / fine_.step;
}

Span ChunkTree::halve(Span span, int node) const {
  const int level = level_of(node);
  for (int l = 0; l < level; ++l) {  // walk from the root: bit l of the path, most significant first
    if (drops_odd_ && l == depth_ - 1 && span.size() % 2 != 0) --span.end;
    const int middle = span.begin + span.size() / 2;
    const bool is_right = (node >> (level - 1 - l)) & 1;
    (is_right ? span.begin : span.end) = middle;
  }
  return span;
}

Span ChunkTree::tokens_of(Span groups) const { return {groups.begin * fine_.step, std::min(groups.end * fine_.step, n_tokens_)}; }

Span ChunkTree::span(int node) const { return is_nested() ? tokens_of(groups(node)) : halve({0, n_tokens_}, node); }

SlotPlan ChunkTree::slots(int node) const {
  if (!is_nested()) return slot_plan(span(node).size(), keep_);
  const int n_groups = groups_per_slot(node);
  return {n_groups * fine_.step, (groups(node).size() + n_groups - 1) / n_groups};
}

void check_chunk_size(int chunk_size, const TreeConfig& config) {
  if (chunk_size < 1) throw Error(Code::kInvalidArgument, "chunk size must be at least 1 token, got " + std::to_string(chunk_size));
  if (!is_authors(config.semantics)) return;
  const int unit = 1 << (config.depth - 1);
  if (chunk_size % unit != 0) {
    throw Error(Code::kInvalidArgument, "chunk size " + std::to_string(chunk_size) +
                                            " cannot be halved exactly: released and corrected semantics need a multiple of " + std::to_string(unit) +
                                            " at depth " + std::to_string(config.depth));
  }
}

}  // namespace banyan
