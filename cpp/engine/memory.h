// memory: the slots of the selected nodes of all chunks, laid out for injection; the only place where the semantics of positions differ.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/layer.h"
#include "engine/selection.h"

namespace banyan {

// Where each slot goes and how far its key is turned on top of its rotation in the node.
struct MemoryPlan {
  struct Entry {
    const Chunk* chunk = nullptr;
    int node = 1;
    int n_slots = 0;
    int32_t position = 0;  // of the second rotation
  };
  std::vector<Entry> entries;  // in injection order
  int n_slots = 0;
  int query_position = 0;  // rows + 1

  // Paper: document order, keys turned by the chunk's index, rows = chunks. Released and corrected: rows of foreign leaves and rejected
  // nodes, deepest first; row r is turned by the row that holds injected slot number r (sharedllm-semantics 7, 8).
  MemoryPlan(const std::vector<ChunkRef>& chunks, const Selection& selection, const TreeConfig& config);
  // Equal keys mean equal memories (of one model): chunk uids, nodes and rotations.
  std::vector<uint64_t> key() const;
};

class Memory {
 public:
  Memory(Device& device, const Decoder& lower, DType kv_dtype, int n_layers)
      : device_(device), lower_(lower), kv_dtype_(kv_dtype), n_layers_(n_layers), storage_(device), staged_(device), indices_(device) {}

  // Gathers the nodes' slots; every node must be encoded. Throws kAborted, kOutOfMemory.
  void build(Stream& s, const MemoryPlan& plan);
  int n_slots() const { return n_slots_; }
  int query_position() const { return query_position_; }
  KvView layer(int index) const;  // [n_slots, G, C]

 private:
  Device& device_;
  const Decoder& lower_;
  const DType kv_dtype_;
  const int n_layers_;
  int n_slots_ = 0, query_position_ = 0;
  Buffer storage_;  // [M][keys, values][n_slots, G, C]
  Buffer staged_;   // [n_slots, G, C] float32
  IndexTable indices_;
};

}  // namespace banyan
