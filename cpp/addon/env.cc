#include "addon/env.h"

#include <utility>

#include "addon/convert.h"

namespace banyan::addon {

void EnvData::attach(Napi::Env env) {
  auto data = std::make_unique<EnvData>();
  check(env, napi_create_threadsafe_function(
                 env, nullptr, nullptr, Napi::String::New(env, "banyan"), 0, 1, nullptr, nullptr, data.get(),
                 [](napi_env env, napi_value, void* context, void*) {
                   if (env != nullptr) static_cast<EnvData*>(context)->drain(env);
                 },
                 &data->wake_));
  check(env, napi_unref_threadsafe_function(env, data->wake_));
  data->outbox_ = std::make_shared<Outbox>(data->wake_);
  // Hooks run last in, first out: this one before the thread-safe function's own and before any finalizer.
  check(env, napi_add_env_cleanup_hook(
                 env, [](void* data) { static_cast<EnvData*>(data)->close(); }, data.get()));
  check(env, napi_set_instance_data(
                 env, data.get(), [](napi_env, void* data, void*) { delete static_cast<EnvData*>(data); }, nullptr));
  data.release();
}

EnvData& EnvData::of(napi_env env) {
  void* data = nullptr;
  check(env, napi_get_instance_data(env, &data));
  return *static_cast<EnvData*>(data);
}

std::shared_ptr<Sender> EnvData::add_job(Napi::Env env, Napi::Function on_event, CancelFlag cancel, std::shared_ptr<void> keep) {
  const uint64_t id = next_job_++;
  Job job{Napi::Promise::Deferred::New(env), {}, {}, std::move(cancel), std::move(keep), {}};
  if (!on_event.IsEmpty()) job.on_event = Napi::Persistent(on_event);
  auto sender = std::make_shared<Sender>(outbox_, id);
  jobs_.emplace(id, std::move(job));
  if (jobs_.size() == 1) check(env, napi_ref_threadsafe_function(env, wake_));
  return sender;
}

Napi::Value EnvData::run(Napi::Env env, Napi::Function on_event, CancelFlag cancel, std::shared_ptr<void> keep,
    const std::function<void(std::shared_ptr<Sender>)>& begin) {
  const uint64_t id = next_job_;
  auto sender = add_job(env, on_event, std::move(cancel), std::move(keep));
  try {
    begin(sender);
  } catch (...) { sender->fail(std::current_exception()); }
  return jobs_.at(id).deferred.Promise();
}

Napi::Value EnvData::run_on_thread(
    Napi::Env env, Napi::Function on_event, CancelFlag cancel, std::function<std::function<Napi::Value(Napi::Env)>(Sender&)> work) {
  const uint64_t id = next_job_;
  return run(env, on_event, std::move(cancel), nullptr, [&](std::shared_ptr<Sender> sender) {
    jobs_.at(id).thread = std::thread([sender, work = std::move(work)]() mutable {
      std::function<Napi::Value(Napi::Env)> result;
      try {
        result = work(*sender);
      } catch (...) {
        work = {};  // what it held ends before the job does
        sender->fail(std::current_exception());
        return;
      }
      work = {};
      sender->done(nullptr, std::move(result));
    });
  });
}

void EnvData::add_model(const std::shared_ptr<Model>& model) {
  std::erase_if(models_, [](const std::weak_ptr<Model>& old) { return old.expired(); });
  models_.push_back(model);
}

void EnvData::drain(Napi::Env env) {
  for (Message& message : outbox_->take()) {
    try {
      Napi::HandleScope scope(env);
      deliver(env, message);
    } catch (...) {  // the environment is going away; close() is next
    }
  }
}

void EnvData::deliver(Napi::Env env, Message& message) {
  const auto found = jobs_.find(message.job);
  if (found == jobs_.end()) return;
  if (auto* done = std::get_if<Done>(&message.body)) return settle(env, message.job, *done);

  Job& job = found->second;
  if (job.on_event.IsEmpty() || job.thrown) return;
  try {
    if (auto* progress = std::get_if<Progress>(&message.body)) {
      const auto done = Napi::Number::New(env, static_cast<double>(progress->done));
      const auto total = Napi::Number::New(env, static_cast<double>(progress->total));
      if (progress->phase.empty()) job.on_event.Call({done, total});
      else job.on_event.Call({progress_event(env, *progress)});
    } else if (auto* retrieval = std::get_if<Retrieval>(&message.body)) {
      job.on_event.Call({retrieval_event(env, *retrieval)});
    } else if (auto* tokens = std::get_if<Tokens>(&message.body)) {
      job.on_event.Call({tokens_event(env, tokens->ids)});
    }
  } catch (const Napi::Error& error) {
    job.thrown = error;
    if (job.cancel) job.cancel->store(true);
  }
}

void EnvData::settle(Napi::Env env, uint64_t id, Done& done) {
  Job job = std::move(jobs_.at(id));
  jobs_.erase(id);
  if (jobs_.empty()) napi_unref_threadsafe_function(env, wake_);
  if (job.thread.joinable()) job.thread.join();  // its last act was this message
  try {
    if (job.thrown) return job.deferred.Reject(job.thrown->Value());
    if (!done.failure) return job.deferred.Resolve(done.result ? done.result(env) : env.Undefined());
  } catch (...) { done = {std::current_exception(), {}}; }
  const Napi::Value error = to_js_error(env, done.failure);
  if (done.result && error.IsObject()) error.As<Napi::Object>().Set("result", done.result(env));
  job.deferred.Reject(error);
}

void EnvData::close() {
  for (auto& [id, job] : jobs_) {
    if (job.cancel) job.cancel->store(true);
  }
  for (auto& [id, job] : jobs_) {
    if (job.thread.joinable()) job.thread.join();
  }
  outbox_->close();  // a model loaded but not delivered ends here
  for (const auto& weak : models_) {
    if (const auto model = weak.lock()) model->close();
  }
  jobs_.clear();
  for (auto& constructor : constructors_) constructor.Reset();
}

}  // namespace banyan::addon
