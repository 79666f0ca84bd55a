// document_file: a saved document, one safetensors file (docs/formats.md). Written atomically; read mapped, every byte checked first.
//   tokens   I32 [n_tokens]
//   vectors  F32 [n_compared over all chunks, D]      cosine rule, else or without an index empty
//   keys     F16 or F32 [n_tokens * G * C]             token-keys rule, else or without an index empty; chunk by chunk [G][n][C]
//   nodes    I32 [n_encoded, 3]     chunk, node, n_slots
//   slots    F16 or F32 [..]        node by node: [M][keys, values][n_slots, G, C]; nested: chunk by chunk (as node 1) its fine slots, keys not rotated
//   bare_kv, prefixed_kv  U8 [..]     of every token, if all chunks have them: [L][keys, values][n_tokens, G, C] in the type kv_pool names
//   checksum U8 [16]                hash of every byte before it
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/output_file.h"
#include "device/buffer.h"
#include "engine/chunk.h"
#include "model/safetensors.h"

namespace banyan {

// What a file must agree on with the model that reads it.
struct DocumentShape {
  std::string fingerprint;  // of model and adapter
  TreeConfig tree;
  int dim = 0, kv_dim = 0;  // of the lower model
  DType kv_dtype = DType::kF16;
  KvShape pool;                                                                                                       // of whole chunks
  size_t key_bytes() const { return tree.selection == SelectionRule::kTokenKeys ? row_bytes(kv_dtype, kv_dim) : 0; }  // of one token
  size_t slot_bytes() const { return 2 * static_cast<size_t>(tree.n_injected_layers) * row_bytes(kv_dtype, kv_dim); }
};

struct DocumentContent {
  std::vector<std::shared_ptr<Chunk>> chunks;
  std::map<std::string, std::string> attributes;
  std::optional<Method> method;  // whose data appends compute
};

class DocumentWriter {
 public:
  DocumentWriter(Device& device, const std::string& path, const DocumentShape& shape, DocumentContent content);
  // Writes the next few megabytes; true when the file is in place. Throws kIo; then no file was changed.
  bool step();
  uint64_t n_done() const { return n_done_; }
  uint64_t n_total() const { return n_total_; }

 private:
  void put(const void* data, size_t n_bytes);
  void put_from_device(const std::byte* data, size_t n_bytes);
  void put_padding(size_t n_bytes);
  std::string header() const;
  bool put_kv(uint64_t until);
  size_t vector_bytes(const Chunk& chunk) const;
  size_t kv_bytes(size_t kind) const { return has_kv_[kind] ? tokens_.size() * shape_.pool.token_bytes() : 0; }
  size_t key_bytes() const { return is_indexed_ ? shape_.key_bytes() : 0; }
  Device& device_;
  const DocumentShape shape_;
  const DocumentContent content_;
  OutputFile file_;
  Hash hash_;
  std::vector<std::pair<size_t, int>> encoded_;  // chunk, node
  std::vector<int32_t> tokens_;
  size_t n_vectors_ = 0, n_slots_ = 0, next_node_ = 0, next_chunk_ = 0, next_vectors_ = 0;
  bool is_indexed_ = true;                // all chunks are
  std::array<bool, kKvKinds> has_kv_{};   // all chunks have rows of this kind
  size_t next_kind_ = 0, next_part_ = 0;  // of put_kv: kind; layer, side and chunk in one number
  bool has_head_ = false, has_slots_ = false, has_keys_ = false;
  uint64_t n_done_ = 0, n_total_ = 0;
};

class DocumentReader {
 public:
  // Throws kFileNotFound, kIo, kBadDocument (torn or damaged), kModelMismatch (names what differs).
  DocumentReader(Device& device, const std::string& path, const DocumentShape& shape);
  // Checks the next few megabytes; true when all is read. Throws kBadDocument.
  bool step();
  uint64_t n_done() const { return n_done_; }
  uint64_t n_total() const { return n_total_; }
  // After the last step. Slots, keys, vectors and whole chunks point into the mapped file, or into copies on a device that cannot read it.
  DocumentContent take();

  TreeConfig tree;  // the model's, with the document's chunk size

 private:
  const TensorView& tensor(const char* name, DType dtype, int n_dims) const;
  [[noreturn]] void fail(const std::string& what) const;
  void copy_slice(uint64_t begin, uint64_t end);
  // Where ops read a tensor that they use, and what keeps it.
  struct Placed {
    const std::byte* data;
    std::shared_ptr<const void> owner;
  };
  Placed place(const char* name, const TensorView& tensor) const;
  Device& device_;
  std::shared_ptr<Safetensors> file_;
  std::map<std::string, std::shared_ptr<Buffer>> copies_;  // by tensor; empty where the device reads mapped files
  DocumentShape shape_;
  Hash hash_;
  uint64_t n_done_ = 0, n_total_ = 0;
};

}  // namespace banyan
