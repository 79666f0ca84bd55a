// session: one method's reader and the documents it reads. Its jobs run on the engine thread, one at a time.
#pragma once

#include <mutex>

#include "engine/reader.h"

namespace banyan {

class SessionState : public Session, public std::enable_shared_from_this<SessionState> {
 public:
  // Throws as make_reader().
  SessionState(std::shared_ptr<Engine> engine, const MethodOptions& options);

  void set_documents(std::vector<std::shared_ptr<Document>> documents) override;
  int64_t room(size_t n_prompt) const override;
  void begin_generate(GenerateRequest request, GenerateHooks hooks) override;
  void begin_score(ScoreRequest request, ScoreHooks hooks) override;
  void begin_trace(TraceRequest request, CancelFlag cancel, std::function<void(const Error*, const Trace&)> on_done) override;

  std::vector<std::shared_ptr<DocumentState>> documents() const;

  const std::shared_ptr<Engine> engine;
  const std::unique_ptr<Reader> reader;  // engine thread, but for room()
  bool is_busy = false;                  // engine thread

 private:
  const bool has_method_;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<DocumentState>> documents_;
};

}  // namespace banyan
