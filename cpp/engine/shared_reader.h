// shared_reader: SharedLLM. The question selects nodes of the documents' trees; their slots are injected into the lowest layers.
#pragma once

#include <optional>

#include "engine/reader.h"
#include "engine/retrieve.h"

namespace banyan {

class SharedReader : public CachedReader {
 public:
  // Throws kInvalidArgument for a budget that the adapter's selection cannot rank.
  SharedReader(Engine& engine, const MethodOptions& options);
  int64_t room(const std::vector<std::shared_ptr<DocumentState>>& documents, size_t n_prompt) const override;
  void begin(Question question) override;
  bool prepare(Stream& s) override;
  void trace(Stream& s, Trace& trace, int n_steps) override;

 protected:
  Pass make_pass(int n_past, int n, Pass::Read wanted, bool is_step) override;

 private:
  const Memory* active() const { return memory_key_.empty() ? nullptr : &memory_; }
  const TreeConfig tree_;  // the model's, with this session's budget
  Memory memory_;
  std::vector<uint64_t> memory_key_;  // what memory holds; empty: no documents
  std::optional<Retrieve> retrieve_;
};

}  // namespace banyan
