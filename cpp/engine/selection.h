// selection: which nodes of every chunk a query opens. Host arithmetic; the only place where the semantics of choosing differ.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/chunk.h"

namespace banyan {

// A chunk as one session sees it: chunks of all its documents in order.
struct ChunkRef {
  int document = 0, index = 0;  // which document; which chunk of it
  std::shared_ptr<Chunk> chunk;
};

struct SelectedNode {
  int chunk = 0;         // index into the list of ChunkRefs
  int node = 1;          // heap number
  bool is_leaf = false;  // a half of the last chosen span (or a whole chunk of depth 0)
  float score = 0;       // of the node itself; leaves carry their parent's; NaN: none computed
  Span groups = {};      // of a run of fine groups that was taken without opening nodes (then node is 0)
  bool is_taken = true;  // false: beyond the budget, it contributes nothing
};

// Where a selected node or run lies and what it contributes.
struct Extent {
  int level;        // of the tree
  Span tokens;      // within the chunk
  SlotPlan slots;   // step in tokens
  int stored_node;  // under which node of the chunk its slots are stored, or nested what they are made of: rows `rows`, so many for each slot
  Span rows;
  int rows_per_slot;
};
Extent extent_of(const ChunkTree& tree, const SelectedNode& node);

// Per chunk the encoded nodes, which partition it: rejected halves from level 1 downwards, then the two leaves, left first.
using Selection = std::vector<std::vector<SelectedNode>>;

// How well a node of a chunk (index into the list) answers the query; NaN where the rule has no score (the cosine of a whole chunk).
using NodeScore = std::function<float(size_t chunk, int node)>;

// Walks the trees level by level. Released semantics compare the list of left halves followed by right halves in consecutive pairs (their accident),
// the others each chunk's own halves; on a tie the left half wins. Without retrieval every chunk chooses right and nothing is scored.
Selection select_nodes(const std::vector<ChunkRef>& chunks, const NodeScore& score, const TreeConfig& config);

}  // namespace banyan
