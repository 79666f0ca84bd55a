// session: local tokens, their cache, and the memory of the documents. Its jobs run on the engine thread, one at a time.
#pragma once

#include <mutex>

#include "engine/retrieve.h"

namespace banyan {

class SessionState : public Session, public std::enable_shared_from_this<SessionState> {
 public:
  explicit SessionState(std::shared_ptr<Engine> engine);

  void set_documents(std::vector<std::shared_ptr<Document>> documents) override;
  void begin_generate(GenerateRequest request, GenerateHooks hooks) override;
  void begin_trace(TraceRequest request, CancelFlag cancel, std::function<void(const Error*, const Trace&)> on_done) override;

  // All below: engine thread only.
  std::vector<std::shared_ptr<DocumentState>> documents() const;
  const Memory* active_memory() const { return memory_key.empty() ? nullptr : &memory; }

  const std::shared_ptr<Engine> engine;
  Upper upper;
  Memory memory;
  std::vector<uint64_t> memory_key;  // what memory holds; empty: no documents
  Cache cache;
  std::vector<int32_t> cached;  // the tokens whose keys and values the cache holds, computed with this memory
  bool is_busy = false;

 private:
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<DocumentState>> documents_;
};

}  // namespace banyan
