#include <utility>

#include "addon/convert.h"
#include "addon/handle.h"

namespace banyan::addon {
namespace {

Model& live(const ModelHandle& handle) {
  if (!handle.state->model) throw Error(Code::kDisposed, "The model was disposed");
  return *handle.state->model;
}

Napi::Value info(ModelHandle& handle, const Args& args) { return model_info(args.env(), live(handle).info()); }

Napi::Value tokenizer(ModelHandle& handle, const Args& args) { return tokenizer_data(args.env(), live(handle).tokenizer()); }

Napi::Value create_document(ModelHandle& handle, const Args& args) {
  Model& model = live(handle);
  return wrap_document(args.env(), handle.state, model.create_document(to_document_options(args[0])));
}

Napi::Value open_document(ModelHandle& handle, const Args& args) {
  const Napi::Env env = args.env();
  auto state = handle.state;
  live(handle);
  std::string path = to_text(args[0], "path");
  CancelFlag cancel = handle_of<CancelHandle>(args[1]).flag;
  const Napi::Function on_progress = args.callback(2, "onProgress");
  return EnvData::of(env).run(env, on_progress, cancel, state->model, [&](std::shared_ptr<Sender> sender) {
    // Both hooks are called on the engine thread, on_document first.
    auto opened = std::make_shared<std::shared_ptr<Document>>();
    JobHooks hooks = job_hooks(sender, cancel);
    hooks.on_done = [sender, opened, weak = std::weak_ptr(state)](const Error* error) {
      if (error != nullptr) return sender->done(error);
      sender->done(nullptr, [opened, weak](Napi::Env env) {
        const auto state = weak.lock();
        if (!state || !state->model) throw Error(Code::kDisposed, "The model was disposed");
        return wrap_document(env, state, std::move(*opened));
      });
    };
    state->model->begin_open(std::move(path), std::move(hooks), [opened](std::shared_ptr<Document> document) { *opened = std::move(document); });
  });
}

Napi::Value create_session(ModelHandle& handle, const Args& args) {
  Model& model = live(handle);
  return wrap(args.env(), std::make_unique<SessionHandle>(handle.state, model.create_session(to_method_options(args[0]))));
}

Napi::Value multiply_adds(ModelHandle& handle, const Args& args) {
  return Napi::Number::New(args.env(), static_cast<double>(live(handle).multiply_adds()));
}

Napi::Value dispose(ModelHandle& handle, const Args& args) {
  const Napi::Env env = args.env();
  ModelState& state = *handle.state;
  auto model = std::exchange(state.model, nullptr);
  if (!model) {
    const auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Resolve(env.Undefined());
    return deferred.Promise();
  }
  for (DocumentHandle* document : state.documents) document->document.reset();
  for (SessionHandle* session : state.sessions) session->session.reset();
  // Joining the engine thread may take as long as an abort does, freeing a large model longer.
  return EnvData::of(env).run_on_thread(env, {}, nullptr, [model = std::move(model)](Sender&) -> std::function<Napi::Value(Napi::Env)> {
    model->close();
    return {};
  });
}

}  // namespace

void define_model(Napi::Env env) {
  define_class<ModelHandle>(env, {
                                     getter<ModelHandle, info>("info"),
                                     method<ModelHandle, tokenizer>("tokenizer"),
                                     method<ModelHandle, create_document>("createDocument"),
                                     method<ModelHandle, open_document>("openDocument"),
                                     method<ModelHandle, create_session>("createSession"),
                                     method<ModelHandle, multiply_adds>("multiplyAdds"),
                                     method<ModelHandle, dispose>("dispose"),
                                 });
}

Napi::Value wrap_model(Napi::Env env, std::shared_ptr<Model> model) {
  EnvData::of(env).add_model(model);
  auto handle = std::make_unique<ModelHandle>();
  handle->state = std::make_shared<ModelState>();
  handle->state->model = std::move(model);
  return wrap(env, std::move(handle));
}

Napi::Value wrap_document(Napi::Env env, std::shared_ptr<ModelState> state, std::shared_ptr<Document> document) {
  return wrap(env, std::make_unique<DocumentHandle>(std::move(state), std::move(document)));
}

}  // namespace banyan::addon
