// node_batch: the plan of one ragged lower pass: which rows hold which tokens, who sees whom, which rows become slots. Host arithmetic only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/chunk.h"

namespace banyan {

struct NodeRef {
  std::shared_ptr<Chunk> chunk;
  int node = 1;
  std::vector<uint8_t> mask;  // conformance only (released code with padding): valid flags of the node's tokens; empty: all
};

struct NodeBatch {
  struct Node {
    int row = 0, n_tokens = 0;  // rows of the batch
    int slot = 0, n_slots = 0;  // its slots among the batch's
  };

  explicit NodeBatch(const std::vector<NodeRef>& refs);

  std::vector<Node> nodes;
  int n_rows = 0, n_slots = 0;
  // The batch's tokens, each once: nodes of one chunk may overlap (levels of its tree). is_union: rows map to ids through union_rows;
  // otherwise row i is ids[i].
  std::vector<int32_t> ids, union_rows;
  bool is_union = false;
  // Per row: offset in its node; visible rows [begin, end).
  std::vector<int32_t> offsets, kv_begin, kv_end;
  uint64_t n_pairs = 0;
  // With masks: rows in the order attention sees them, each node's valid tokens first; a masked row sees nothing.
  bool has_mask = false;
  std::vector<int32_t> valid_rows;
  // Per slot: its row (its group's first), one past its group's last row, its offset in the node, what its row sees.
  std::vector<int32_t> slot_rows, group_end, slot_offsets, slot_kv_begin, slot_kv_end;
  uint64_t n_slot_pairs = 0;

 private:
  void add_mask(const std::vector<NodeRef>& refs);
};

}  // namespace banyan
