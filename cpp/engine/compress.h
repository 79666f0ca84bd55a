// compress: the lower pass. The index of whole chunks (what choosing needs) and slots of single nodes, both over ragged batches, computing only
// what is read. Nested semantics: one pass over whole chunks gives both (compress_nested.cc).
// Sources: SharedLLM (arXiv 2410.19318, 2603.04759); sharedllm-semantics 4 to 7.
#pragma once

#include <memory>
#include <vector>

#include "engine/layer.h"
#include "engine/node_batch.h"

namespace banyan {

// Where a batch's slots go, one row each, for the op compress: node after node [M][keys, values][n_slots, G, C].
struct SlotRows {
  std::vector<int32_t> first, strides;            // per slot: its row of side 0, and how far it is to that of the next side
  void add(int n_sides, int slot, int n_slots) {  // the next node; `slot`: slots of the batch before it
    for (int i = 0; i < n_slots; ++i) {
      first.push_back(n_sides * slot + i);
      strides.push_back(n_slots);
    }
  }
};

class Compressor {
 public:
  Compressor(Device& device, const Decoder& lower, const TreeConfig& tree, DType kv_dtype, Activations& activations)
      : device_(device), lower_(lower), tree_(tree), kv_dtype_(kv_dtype), a_(activations), indices_(device), packed_k_(device), packed_v_(device) {}

  // Computes what the selection rule needs of the chunks that lack it; nested: and their slots. Throws kAborted, kOutOfMemory; then nothing was stored.
  void index(Stream& s, const std::vector<std::shared_ptr<Chunk>>& chunks);

  // Encodes the nodes and stores their slots in their chunks; not nested. Where nodes overlap, layer 0's K and V are computed once per token.
  // With S the slots of n tokens: layer M-1 computes K and V at S only; layer M-2 K and V everywhere, the rest at S only; the layers below
  // everything. Mean slots read every token: K and V everywhere in layer M-1, nothing saved in M-2. Throws as above.
  void encode(Stream& s, const std::vector<NodeRef>& nodes);

  // Bytes of one slot (all layers, keys and values), and of the index of a chunk.
  size_t slot_bytes() const;
  size_t index_bytes(const ChunkTree& tree) const;

 private:
  // Cosine: layer 0's K and V once per chunk, re-rotated per level; attention and MLP for the last token of each node only.
  void compute_vectors(Stream& s, const std::vector<std::shared_ptr<Chunk>>& chunks);
  // Token keys: each chunk is read once, whole, up to the keys of the selection layer.
  void compute_token_keys(Stream& s, const std::vector<std::shared_ptr<Chunk>>& chunks);
  // Nested: each chunk is read once, whole. With F fine groups of n tokens, strided: layer M-1 computes K and V at the F first tokens only, layer M-2
  // the rest at those only; mean: K and V everywhere in layer M-1. What choosing needs is taken on the way: a vector wants its token's row of layer 0
  // to the end, a token key of layer M-1 wants K there, hence layer M-2, everywhere.
  void encode_whole(Stream& s, const std::vector<std::shared_ptr<Chunk>>& chunks);
  struct WholePass;
  enum class Rows : uint8_t { kAll, kSlots };  // what k and v hold: every row of the batch, or the slots' only
  void spread_union(Stream& s, const NodeBatch& batch, const int32_t* union_rows);
  KvView visible_keys(Stream& s, const NodeBatch& batch, const int32_t* valid_rows);

  struct SlotWriter;
  Device& device_;
  const Decoder& lower_;
  const TreeConfig& tree_;
  DType kv_dtype_;
  Activations& a_;
  IndexTable indices_;
  Buffer packed_k_, packed_v_;  // keys and values of valid tokens (masks)
};

}  // namespace banyan
