// env: everything the addon keeps for one JavaScript environment: the outbox and its thread-safe function, the jobs under way, the threads
// that load and close models, the models to close when the environment ends, the classes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "addon/js.h"
#include "addon/outbox.h"

namespace banyan::addon {

enum class Class : uint8_t { kCancel, kModel, kDocument, kSession };
constexpr int kClassCount = 4;

class EnvData {
 public:
  // Creates the data of a new environment and ties it to its end.
  static void attach(Napi::Env env);
  static EnvData& of(napi_env env);

  // Runs a job: `begin` is called once, now, and starts it; the promise settles with what it sends as done. `on_event` may be empty.
  // `keep` lives until the job is done; it is dropped on the JavaScript thread. What `begin` throws rejects the promise.
  Napi::Value run(Napi::Env env, Napi::Function on_event, CancelFlag cancel, std::shared_ptr<void> keep,
      const std::function<void(std::shared_ptr<Sender>)>& begin);
  // The same for blocking work, on a thread of its own; what `work` throws rejects the promise.
  Napi::Value run_on_thread(
      Napi::Env env, Napi::Function on_event, CancelFlag cancel, std::function<std::function<Napi::Value(Napi::Env)>(Sender&)> work);

  void add_model(const std::shared_ptr<Model>& model);
  Napi::FunctionReference& constructor(Class which) { return constructors_[static_cast<size_t>(which)]; }

 private:
  struct Job {
    Napi::Promise::Deferred deferred;
    Napi::FunctionReference on_event;
    std::optional<Napi::Error> thrown;  // by on_event: ends the job and rejects its promise
    CancelFlag cancel;
    std::shared_ptr<void> keep;
    std::thread thread;  // run_on_thread only
  };

  std::shared_ptr<Sender> add_job(Napi::Env env, Napi::Function on_event, CancelFlag cancel, std::shared_ptr<void> keep);
  void drain(Napi::Env env);
  void deliver(Napi::Env env, Message& message);
  void settle(Napi::Env env, uint64_t id, Done& done);
  void close();

  std::shared_ptr<Outbox> outbox_;
  napi_threadsafe_function wake_ = nullptr;
  std::unordered_map<uint64_t, Job> jobs_;  // the event loop is kept alive while there are any
  uint64_t next_job_ = 1;
  std::vector<std::weak_ptr<Model>> models_;
  Napi::FunctionReference constructors_[kClassCount];
};

}  // namespace banyan::addon
