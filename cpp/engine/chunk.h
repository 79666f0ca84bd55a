// chunk: one chunk of a document with everything known about its tree. Tokens and shape never change; vectors and slots are added by the
// engine thread and stay. A chunk that grows (the last one of a document) is replaced by a new one with a new uid.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "device/buffer.h"
#include "engine/kv_pool.h"
#include "engine/tree.h"

namespace banyan {

// Slots of one node: [M layers][keys, values][n_slots, G, C] in the model's kv type; keys rotated by their offset in the node.
// Nested: all fine slots of the chunk, as node 1, of which those of any node are made; keys not rotated.
struct NodeSlots {
  const std::byte* data = nullptr;  // device memory; null: not encoded yet
  int n_slots = 0;
  std::shared_ptr<const void> owner;  // keeps data alive (a batch's buffer, or a mapped file)
};

// One lower layer's keys of a chunk read as a whole: [G][n_tokens][C] in the model's kv type, rotated by their offset in the chunk, banded only the
// fast pairs.
struct TokenKeys {
  const std::byte* data = nullptr;  // device memory
  std::shared_ptr<const void> owner;
};

// [n_compared, D] vectors of nodes 2, 3, ...: of the last token, behind layer 0.
struct NodeVectors {
  const float* data = nullptr;  // device memory
  std::shared_ptr<const void> owner;
};

// What a chunk was read with when all its keys and values were computed.
enum class KvKind : uint8_t {
  kBare,      // nothing: positions from 0 (FocusLLM)
  kPrefixed,  // behind the begin-of-text token, which all chunks share: positions from 1, or from 0 where the model has none (parallel encoding)
};
inline constexpr size_t kKvKinds = 2;

struct Chunk {
  Chunk(std::vector<int32_t> tokens, int64_t begin, const TreeConfig& config)
      : uid(next_uid()),
        begin(begin),
        tokens(std::move(tokens)),
        tree(static_cast<int>(this->tokens.size()), config),
        slots(static_cast<size_t>(tree.n_nodes()) + 1) {}

  const uint64_t uid;   // of this process
  const int64_t begin;  // position of the first token in the document
  const std::vector<int32_t> tokens;
  const ChunkTree tree;
  std::vector<uint8_t> mask;  // conformance only: 1 valid, 0 padding; empty: all valid
  // What choosing needs, by the adapter's selection rule; computed together, then is_indexed.
  NodeVectors vectors;                          // cosine: of the nodes that are compared
  TokenKeys token_keys;                         // token keys: of every token
  bool is_indexed = false;                      // nested: and has its slots
  std::vector<NodeSlots> slots;                 // by node number
  std::array<KvRows, kKvKinds> kv;              // of every token, all layers; no slab: not computed yet
  std::atomic<int> n_encoded = 0, n_slots = 0;  // nodes with slots, and these; any thread
  std::atomic<int> n_kinds = 0;                 // of kv that are computed; any thread

  const KvRows& rows(KvKind kind) const { return kv[static_cast<size_t>(kind)]; }
  void set_rows(KvKind kind, KvRows computed) {
    if (rows(kind).slab == nullptr) ++n_kinds;
    kv[static_cast<size_t>(kind)] = std::move(computed);
  }
  void forget_slots(int node) {
    NodeSlots& old = slots[static_cast<size_t>(node)];
    if (old.data == nullptr) return;
    --n_encoded;
    n_slots -= old.n_slots;
    old = {};
  }
  void set_slots(int node, NodeSlots encoded) {
    ++n_encoded;
    n_slots += encoded.n_slots;
    slots[static_cast<size_t>(node)] = std::move(encoded);
  }

 private:
  static uint64_t next_uid() {
    static std::atomic<uint64_t> last{0};
    return ++last;
  }
};

}  // namespace banyan
