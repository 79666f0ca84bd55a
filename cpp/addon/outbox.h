// outbox: what engine and load threads say to one JavaScript environment. Messages of a job arrive in order; those JavaScript has not fetched yet are
// merged (tokens append, progress replaces), so a busy event loop costs one crossing per batch, not one per token.
#pragma once

#include <node_api.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include "addon/js.h"

namespace banyan::addon {

struct Progress {
  std::string phase;  // empty: a job of one phase
  uint64_t done = 0, total = 0;
};
struct Tokens {
  std::vector<int32_t> ids;
};
struct Done {
  std::exception_ptr failure;                    // null: success
  std::function<Napi::Value(Napi::Env)> result;  // called on the JavaScript thread; empty: undefined. Of a failure: its `result` property
};
struct Message {
  uint64_t job = 0;
  std::variant<Progress, Retrieval, Tokens, Done> body;
};

// Thread-safe.
class Outbox {
 public:
  explicit Outbox(napi_threadsafe_function wake) : wake_(wake) {}

  // `place` is the sender's last message: {batch, index}.
  struct Place {
    uint64_t batch = 0;
    size_t index = 0;
  };
  void post(Message message, Place& place);
  std::vector<Message> take();
  // Messages are dropped from now on; returns those not yet fetched.
  std::vector<Message> close();

 private:
  std::mutex mutex_;
  napi_threadsafe_function wake_;  // null once closed
  std::vector<Message> queue_;
  uint64_t batch_ = 1;  // number of the current queue_
};

// One job's way into the outbox; used by one thread at a time.
class Sender {
 public:
  Sender(std::shared_ptr<Outbox> outbox, uint64_t job) : outbox_(std::move(outbox)), job_(job) {}

  void progress(const char* phase, uint64_t done, uint64_t total) { post(Progress{phase, done, total}); }
  void retrieval(const Retrieval& retrieval) { post(retrieval); }
  void token(int32_t id) { post(Tokens{{id}}); }
  void done(const Error* error, std::function<Napi::Value(Napi::Env)> result = {}) {
    post(Done{error == nullptr ? nullptr : std::make_exception_ptr(*error), std::move(result)});
  }
  void fail(std::exception_ptr failure) { post(Done{std::move(failure), {}}); }

 private:
  template <class Body> void post(Body body) { outbox_->post(Message{job_, std::move(body)}, place_); }

  std::shared_ptr<Outbox> outbox_;
  uint64_t job_;
  Outbox::Place place_;
};

}  // namespace banyan::addon
