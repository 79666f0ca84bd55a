// tree: the shape of one chunk's binary tree and what its nodes keep; pure index arithmetic, no data, and the only place where the semantics of shapes
// differ.
// Nodes are numbered as in a heap: 1 is the chunk, 2i and 2i + 1 are the left and right half of i; the level of i is floor(log2 i).
#pragma once

#include <bit>
#include <cstdint>

#include "model/config.h"

namespace banyan {

struct Span {
  int begin = 0, end = 0;  // tokens within the chunk
  int size() const { return end - begin; }
  bool operator==(const Span&) const = default;
};

constexpr int level_of(int node) { return std::bit_width(static_cast<unsigned>(node)) - 1; }

// Which tokens of a span become slots: offsets 0, step, 2 step, ... (strided), or groups of `step` tokens (mean).
struct SlotPlan {
  int step = 1, n_slots = 0;
};
SlotPlan slot_plan(int n_tokens, const Keep& keep);

class ChunkTree {
 public:
  ChunkTree() = default;
  // A chunk of n_tokens >= 1. The effective depth is min(config.depth, floor(log2 n_tokens)): a leaf has at least one token.
  // Released and corrected semantics drop the last token of an odd leaf parent (sharedllm-semantics 7); the others keep all.
  ChunkTree(int n_tokens, const TreeConfig& config);

  int n_tokens() const { return n_tokens_; }
  int depth() const { return depth_; }                     // effective; 0: the chunk is its only node
  int n_nodes() const { return (1 << (depth_ + 1)) - 1; }  // node numbers 1 .. n_nodes()
  Span span(int node) const;
  // What the node keeps; a nested node's step is a whole number of fine groups.
  SlotPlan slots(int node) const;

  // Nested: groups of as many tokens as a slot of a leaf covers tile the chunk from its first token, the last one may be shorter; the tree halves groups,
  // so that every slot of every node is one or more whole ones. All are stored.
  bool is_nested() const { return fine_.step > 0; }
  SlotPlan fine() const { return fine_; }
  Span groups(int node) const { return halve({0, fine_.n_slots}, node); }
  int groups_per_slot(int node) const { return 1 << (depth_ - level_of(node)); }
  Span tokens_of(Span groups) const;

  // Nodes whose vectors are compared: levels 1 .. depth - 1, i.e. numbers 2 .. n_compared() + 1.
  int n_compared() const { return depth_ >= 2 ? (1 << depth_) - 2 : 0; }

 private:
  Span halve(Span whole, int node) const;
  int n_tokens_ = 0, depth_ = 0;
  Keep keep_;
  SlotPlan fine_{0, 0};  // step 0: not nested
  bool drops_odd_ = false;
};

// Throws kInvalidArgument where released / corrected semantics cannot halve a full chunk exactly (chunk_size % 2^(depth-1) != 0).
void check_chunk_size(int chunk_size, const TreeConfig& config);

}  // namespace banyan
