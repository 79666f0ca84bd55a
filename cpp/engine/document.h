// document: the chunks of one text and the jobs that compute them.
#pragma once

#include <array>
#include <map>
#include <mutex>
#include <optional>

#include "engine/engine.h"

namespace banyan {

class DocumentState : public Document, public std::enable_shared_from_this<DocumentState> {
 public:
  // `method`: whose data appends compute at once; empty: none's.
  DocumentState(std::shared_ptr<Engine> engine, const TreeConfig& tree, std::optional<Method> method, std::vector<uint8_t> mask);
  DocumentState(std::shared_ptr<Engine> engine, const TreeConfig& tree, DocumentContent content);

  DocumentInfo info() const override;
  std::vector<int32_t> tokens(int64_t begin, int64_t end) const override;
  std::string attribute(const std::string& key) const override;
  void begin_append(std::vector<int32_t> ids, JobHooks hooks) override;
  void begin_complete(bool is_eager, JobHooks hooks) override;
  void begin_save(std::string path, std::vector<std::pair<std::string, std::string>> attributes, JobHooks hooks) override;

  // Engine thread: all chunks, the last one possibly partial. They stay as they are even if the document grows.
  std::vector<std::shared_ptr<Chunk>> chunks() const;
  // Engine thread: replaces the last `chunks().size() - n_kept` chunks.
  void replace_tail(size_t n_kept, std::vector<std::shared_ptr<Chunk>> tail);
  std::vector<uint8_t> mask_of(const Chunk& chunk) const;
  int64_t n_tokens() const;  // any thread
  KvPool& pool(KvKind kind);

  const std::shared_ptr<Engine> engine;
  const TreeConfig tree;               // the model's, with this document's chunk size
  const std::optional<Method> method;  // whose data appends compute at once
  bool is_appending = false;           // engine thread

 private:
  const std::vector<uint8_t> mask_;                    // conformance only
  std::array<std::optional<KvPool>, kKvKinds> pools_;  // engine thread
  mutable std::mutex mutex_;                           // guards the two below
  std::vector<std::shared_ptr<Chunk>> chunks_;
  std::map<std::string, std::string> attributes_;
};

class WholeChunks;

// What a document's method needs of chunks before a question can be asked, in slices: the index of their trees, or all their keys and values.
class Preparation {
 public:
  Preparation(DocumentState& document, std::vector<std::shared_ptr<Chunk>> chunks);
  ~Preparation();
  bool step(Stream& s);                      // false when nothing was left
  size_t n_done() const { return n_done_; }  // chunks
  size_t n_total() const { return chunks_.size(); }

 private:
  Engine& e_;
  const std::optional<Method> method_;
  const std::vector<std::shared_ptr<Chunk>> chunks_;
  std::unique_ptr<WholeChunks> whole_;
  size_t next_ = 0, n_done_ = 0;
};

// Indexes the next chunks of the list that are not, up to the device's batch_rows().encode; false when none was left.
bool index_next_chunks(Engine& engine, Stream& s, const std::vector<std::shared_ptr<Chunk>>& chunks, size_t* next);

// Encodes the next nodes of the list that have no slots yet, up to the device's batch_rows().encode; false when none was left.
bool encode_next_nodes(Engine& engine, Stream& s, const std::vector<NodeRef>& nodes, size_t* next);

}  // namespace banyan
