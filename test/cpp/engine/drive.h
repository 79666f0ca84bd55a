// drive: the asynchronous API as blocking calls, and what hooks reported.
#pragma once

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "banyan.h"

namespace banyan::test {

using Ids = std::vector<int32_t>;

// How a job ended. Hooks may come later than the waiting thread returns, so the state is shared.
struct Ending {
  std::optional<Code> code;  // absent: success
  std::string text;
  bool is_ok() const { return !code.has_value(); }
};

// A job that was begun; `n_done` counts on_done.
struct Begun {
  std::shared_ptr<std::promise<Ending>> promise = std::make_shared<std::promise<Ending>>();
  std::shared_ptr<std::atomic<int>> n_done = std::make_shared<std::atomic<int>>(0);
  CancelFlag cancel = std::make_shared<std::atomic<bool>>(false);
  std::shared_future<Ending> future = promise->get_future().share();

  void end(const Error* error) const {
    if (n_done->fetch_add(1) == 0) promise->set_value(error == nullptr ? Ending{} : Ending{error->code, error->what()});
  }
  JobHooks hooks(std::function<void(uint64_t, uint64_t)> on_progress = {}) const {
    return {cancel, std::move(on_progress), [self = *this](const Error* error) { self.end(error); }};
  }
  Ending wait() const { return future.get(); }
};

inline void must(const Ending& ending) {
  if (!ending.is_ok()) throw Error(*ending.code, ending.text);
}

inline Ending try_append(Document& document, Ids ids) {
  Begun begun;
  document.begin_append(std::move(ids), begun.hooks());
  return begun.wait();
}
inline void append(Document& document, Ids ids) { must(try_append(document, std::move(ids))); }

inline void complete(Document& document, bool is_eager) {
  Begun begun;
  document.begin_complete(is_eager, begun.hooks());
  must(begun.wait());
}

using Attributes = std::vector<std::pair<std::string, std::string>>;
inline Ending try_save(Document& document, const std::string& path, Attributes attributes = {}) {
  Begun begun;
  document.begin_save(path, std::move(attributes), begun.hooks());
  return begun.wait();
}
inline void save(Document& document, const std::string& path, Attributes attributes = {}) { must(try_save(document, path, std::move(attributes))); }

// `document` stays null if the file is refused.
inline Ending try_open(Model& model, const std::string& path, std::shared_ptr<Document>* document) {
  Begun begun;
  const auto opened = std::make_shared<std::shared_ptr<Document>>();
  model.begin_open(path, begun.hooks(), [opened](std::shared_ptr<Document> d) { *opened = std::move(d); });
  Ending ending = begun.wait();
  *document = *opened;
  return ending;
}
inline std::shared_ptr<Document> open(Model& model, const std::string& path) {
  std::shared_ptr<Document> document;
  must(try_open(model, path, &document));
  return document;
}

struct Generated {
  Ending ending;
  GenerateResult result;
  Ids ids;
  std::vector<Retrieval> retrievals;
  std::vector<std::string> phases;  // of on_progress, repeated ones once
};

struct BegunGenerate : Begun {
  std::shared_ptr<Generated> generated = std::make_shared<Generated>();
  GenerateHooks generate_hooks(std::function<void(int32_t)> on_token = {}) const {
    GenerateHooks hooks;
    hooks.cancel = cancel;
    hooks.on_progress = [g = generated](const char* phase, uint64_t, uint64_t) {
      if (g->phases.empty() || g->phases.back() != phase) g->phases.push_back(phase);
    };
    hooks.on_retrieval = [g = generated](const Retrieval& retrieval) { g->retrievals.push_back(retrieval); };
    hooks.on_token = [g = generated, on_token](int32_t id) {
      g->ids.push_back(id);
      if (on_token) on_token(id);
    };
    hooks.on_done = [g = generated, self = static_cast<const Begun&>(*this)](const Error* error, const GenerateResult& result) {
      g->result = result;
      self.end(error);
    };
    return hooks;
  }
  Generated finish() const {
    generated->ending = wait();
    return *generated;
  }
};

inline Generated generate(Session& session, GenerateRequest request) {
  BegunGenerate begun;
  session.begin_generate(std::move(request), begun.generate_hooks());
  return begun.finish();
}

// Greedy tokens; throws what the run threw.
inline Generated answer(Session& session, const Ids& ids, int n) {
  GenerateRequest request;
  request.ids = ids;
  request.max_tokens = n;
  Generated generated = generate(session, std::move(request));
  must(generated.ending);
  return generated;
}

inline Trace trace(Session& session, TraceRequest request) {
  Begun begun;
  const auto result = std::make_shared<Trace>();
  session.begin_trace(std::move(request), begun.cancel, [begun, result](const Error* error, const Trace& trace) {
    *result = trace;
    begun.end(error);
  });
  must(begun.wait());
  return *result;
}

// A reproducible text.
inline Ids text_of(int n, int vocab, uint32_t seed) {
  Ids ids;
  uint64_t state = seed * 7919u + 17;
  for (int i = 0; i < n; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    ids.push_back(static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(vocab)));
  }
  return ids;
}

class Stopwatch {
 public:
  double ms() const { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin_).count(); }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace banyan::test
