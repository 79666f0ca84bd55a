// retrieve: from a question to a memory, in slices: missing index, the query's vector, the choice, missing slots, the memory.
#pragma once

#include <optional>
#include <span>

#include "engine/document.h"
#include "engine/upper.h"

namespace banyan {

class Retrieve {
 public:
  // `tree`: the model's, with the session's budget.
  Retrieve(Engine& engine, const TreeConfig& tree, const std::vector<std::shared_ptr<DocumentState>>& documents)
      : e_(engine), tree_(tree), documents_(documents) {}

  struct Hooks {
    std::function<void(const char* phase, uint64_t done, uint64_t total)> on_progress;
  };
  // One slice; true when `memory` holds what the query selected. ids are the local tokens, `query_index` the one that asks (-1: the last).
  // `memory_key` tells what memory holds now and is kept up to date. Throws as the parts do.
  bool step(Stream& s, Upper& upper, std::span<const int32_t> ids, int64_t query_index, Memory& memory, std::vector<uint64_t>& memory_key,
      const Hooks& hooks);

  Retrieval result;  // after the last step
  std::vector<float> query_vector;
  std::vector<int64_t> slot_positions;  // [n_slots] document position, in injection order (conformance)
  // The memory is another than before. Known one slice before it is touched, so that what was computed with the old one can be dropped first.
  bool has_changed = false;
  double select_ms = 0, encode_ms = 0;

 private:
  enum class Stage : uint8_t { kBegin, kIndex, kSelect, kEncode, kPlan, kBuild };
  void begin();
  void select(Stream& s);
  Engine& e_;
  TreeConfig tree_;  // and the largest chunk size of the documents
  const std::vector<std::shared_ptr<DocumentState>> documents_;
  Stage stage_ = Stage::kBegin;
  std::vector<ChunkRef> refs_;
  std::vector<std::shared_ptr<Chunk>> chunks_;
  std::vector<char> was_indexed_;  // of chunks_, before this question
  Selection selection_;
  std::optional<MemoryPlan> plan_;
  std::vector<NodeRef> nodes_;
  size_t next_chunk_ = 0, next_node_ = 0, n_missing_ = 0;
};

}  // namespace banyan
