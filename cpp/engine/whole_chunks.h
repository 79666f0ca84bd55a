// whole_chunks: all keys and values of chunks, each read on its own by the whole model, in slices. What FocusLLM and parallel encoding keep of a document.
#pragma once

#include <memory>
#include <vector>

#include "engine/chunk.h"
#include "engine/upper.h"

namespace banyan {

class WholeChunks {
 public:
  struct Item {
    std::shared_ptr<Chunk> chunk;
    KvPool* pool = nullptr;  // its document's; alive as long as the document
  };
  // Those that have their rows already are left out.
  WholeChunks(Engine& engine, KvKind kind, const std::vector<Item>& items);

  // Reads the next tokens, up to the device's batch_rows().encode; false when nothing was left. A chunk gets its rows when the last of them is there. Throws kAborted,
  // kOutOfMemory, kIo; then no chunk has half of them.
  bool step(Stream& s);
  size_t n_done() const { return next_; }  // chunks
  size_t n_total() const { return items_.size(); }
  size_t n_tokens() const;  // of all of them

 private:
  Engine& e_;
  const KvKind kind_;
  Upper upper_;
  std::vector<Item> items_;
  size_t next_ = 0;    // the first chunk that is not finished
  KvRows rows_;        // its page, once begun
  size_t n_read_ = 0;  // of its tokens
};

// The begin-of-text token read alone, or no slab where the model has none. Computed once a model.
const KvRows& shared_prefix(Engine& engine, Stream& s, Upper& upper);

}  // namespace banyan
