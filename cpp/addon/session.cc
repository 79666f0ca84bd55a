#include "addon/convert.h"
#include "addon/handle.h"

namespace banyan::addon {
namespace {

const std::shared_ptr<Session>& live(const SessionHandle& handle) {
  if (!handle.session) throw Error(Code::kDisposed, "The session was disposed");
  return handle.session;
}

Napi::Value set_documents(SessionHandle& handle, const Args& args) {
  live(handle);
  if (!args[0].IsArray()) throw ArgumentError("Expected array for documents");
  const auto array = args[0].As<Napi::Array>();
  std::vector<std::shared_ptr<Document>> documents;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto& item = handle_of<DocumentHandle>(array.Get(i));
    if (!item.document) throw Error(Code::kDisposed, "The document was disposed");
    if (item.state != handle.state) throw Error(Code::kInvalidArgument, "The document belongs to another model");
    documents.push_back(item.document);
  }
  live(handle)->set_documents(std::move(documents));
  return args.env().Undefined();
}

Napi::Value room(SessionHandle& handle, const Args& args) {
  const int64_t n_prompt = to_integer(args[0], "promptTokens", 0, kMaxSafeInteger);
  return Napi::Number::New(args.env(), static_cast<double>(live(handle)->room(static_cast<size_t>(n_prompt))));
}

// What every run tells while it is under way.
template <class Hooks> Hooks hooks_to(const std::shared_ptr<Sender>& sender, const CancelFlag& cancel) {
  Hooks hooks;
  hooks.cancel = cancel;
  hooks.on_progress = [sender](const char* phase, uint64_t done, uint64_t total) { sender->progress(phase, done, total); };
  hooks.on_retrieval = [sender](const Retrieval& retrieval) { sender->retrieval(retrieval); };
  return hooks;
}

Napi::Value generate(SessionHandle& handle, const Args& args) {
  auto session = live(handle);
  auto request = to_generate_request(args[0]);
  const CancelFlag cancel = handle_of<CancelHandle>(args[1]).flag;
  return EnvData::of(args.env()).run(args.env(), args.callback(2, "onEvent"), cancel, session, [&](std::shared_ptr<Sender> sender) {
    auto hooks = hooks_to<GenerateHooks>(sender, cancel);
    hooks.on_token = [sender](int32_t id) { sender->token(id); };
    hooks.on_done = [sender](const Error* error, const GenerateResult& result) {
      sender->done(error, [result](Napi::Env env) { return generate_result(env, result); });
    };
    session->begin_generate(std::move(request), std::move(hooks));
  });
}

Napi::Value score(SessionHandle& handle, const Args& args) {
  auto session = live(handle);
  auto request = to_score_request(args[0]);
  const CancelFlag cancel = handle_of<CancelHandle>(args[1]).flag;
  return EnvData::of(args.env()).run(args.env(), args.callback(2, "onEvent"), cancel, session, [&](std::shared_ptr<Sender> sender) {
    auto hooks = hooks_to<ScoreHooks>(sender, cancel);
    hooks.on_done = [sender](const Error* error, const ScoreResult& result) {
      sender->done(error, [result](Napi::Env env) { return score_result(env, result); });
    };
    session->begin_score(std::move(request), std::move(hooks));
  });
}

Napi::Value trace(SessionHandle& handle, const Args& args) {
  auto session = live(handle);
  auto request = to_trace_request(args[0]);
  const CancelFlag cancel = handle_of<CancelHandle>(args[1]).flag;
  return EnvData::of(args.env()).run(args.env(), {}, cancel, session, [&](std::shared_ptr<Sender> sender) {
    session->begin_trace(std::move(request), cancel, [sender](const Error* error, const Trace& trace) {
      if (error != nullptr) return sender->done(error);
      auto shared = std::make_shared<Trace>(trace);
      sender->done(nullptr, [shared](Napi::Env env) { return trace_result(env, *shared); });
    });
  });
}

Napi::Value dispose(SessionHandle& handle, const Args& args) {
  handle.session.reset();
  return args.env().Undefined();
}

}  // namespace

void define_session(Napi::Env env) {
  define_class<SessionHandle>(env, {
                                       method<SessionHandle, set_documents>("setDocuments"),
                                       method<SessionHandle, room>("room"),
                                       method<SessionHandle, generate>("generate"),
                                       method<SessionHandle, score>("score"),
                                       method<SessionHandle, trace>("trace"),
                                       method<SessionHandle, dispose>("dispose"),
                                   });
}

}  // namespace banyan::addon
