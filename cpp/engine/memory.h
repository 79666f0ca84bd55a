// memory: the slots of what was selected of all chunks, laid out for injection; the only place where the semantics of positions differ.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/layer.h"
#include "engine/selection.h"
#include "tensor/slot_tile.h"

namespace banyan {

// Where each slot goes and how far its key is turned: on top of its rotation in the node; nested: on top of its offset in the chunk.
struct MemoryPlan {
  struct Entry {
    const Chunk* chunk = nullptr;
    int node = 1;          // 0: a run of fine groups
    int32_t position = 0;  // of the second rotation
    Extent extent;
    int n_slots() const { return extent.slots.n_slots; }
  };
  std::vector<Entry> entries;  // in injection order
  int n_slots = 0;
  int query_position = 0;       // rows + 1
  int fast_query_position = 0;  // banded positions: of the fast pairs, the chunk size; else 0: one position for all pairs

  // Paper and nested: document order, keys turned by the chunk's index, rows = chunks. Released and corrected: rows of foreign leaves and rejected
  // nodes, deepest first; row r is turned by the row that holds injected slot number r (sharedllm-semantics 7, 8).
  // Nodes that are not taken have no entry; rows and rotations are as if they had. config.chunk_size: the largest of the documents'.
  MemoryPlan(const std::vector<ChunkRef>& chunks, const Selection& selection, const TreeConfig& config);
  // Equal keys mean equal memories (of one model): chunk uids, nodes and rotations.
  std::vector<uint64_t> key() const;
};

class Memory {
 public:
  Memory(Device& device, const Decoder& lower, DType kv_dtype, const TreeConfig& tree)
      : device_(device),
        lower_(lower),
        kv_dtype_(kv_dtype),
        tree_(tree),
        are_heads_apart_(device.keeps_heads_apart()),
        is_tiled_(kv_dtype == DType::kQ8_0 && device.has_slot_tiles()),
        storage_(device),
        pieces_(device) {}

  // Places the nodes' slots, or makes them of the chunks' fine slots; every node must be encoded. Those that lie where they did in the memory before
  // are left there. Throws kAborted, kOutOfMemory.
  void build(Stream& s, const MemoryPlan& plan);
  int n_slots() const { return n_slots_; }
  int query_position() const { return query_position_; }
  int fast_query_position() const { return fast_query_position_; }  // 0: query_position holds for all pairs
  KvView layer(int index) const;  // [n_slots, G, C]; where the device keeps heads apart [G, n_slots, C], maybe in tiles
  // One side of a layer as rows [n_slots, G, C] of kv.dtype: where it lies, or copied into `rows`.
  const void* rows_of(const KvView& kv, SlotOrder side, Buffer& rows) const;

 private:
  // An entry's slots as they lie in the memory.
  struct Placed {
    uint64_t chunk;  // its uid
    int node;
    Span rows;  // of a run of fine groups; else none
    int32_t position;
    int first, n_slots;
    bool operator==(const Placed&) const = default;
  };
  // Entries of the plan that have to be placed, and where.
  struct Missing {
    const MemoryPlan::Entry* entry;
    int first;
  };
  std::vector<Missing> find_missing(const MemoryPlan& plan, std::vector<Placed>& now);
  void place_nodes(Stream& s, const std::vector<Missing>& missing);
  int64_t head_rows() const;  // of one head, whole tiles
  size_t side_bytes() const;  // of one side of a layer
  Device& device_;
  const Decoder& lower_;
  const DType kv_dtype_;
  const TreeConfig& tree_;
  const bool are_heads_apart_, is_tiled_;
  int n_slots_ = 0, query_position_ = 0, fast_query_position_ = 0;
  Buffer storage_;              // [M][keys, values], each as layer() says
  std::vector<Placed> placed_;  // what storage_ holds, by first slot
  Buffer pieces_;               // PlacedRows of every layer and side
};

}  // namespace banyan
