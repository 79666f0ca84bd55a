// handle: the objects JavaScript holds (cancel, model, document, session). A handle is created here only, carries a type tag, and owns a
// reference to the engine's object until it is disposed or collected. Disposing a model disposes its documents and sessions.
#pragma once

#include <memory>
#include <set>

#include "addon/args.h"
#include "addon/env.h"
#include "addon/js.h"

namespace banyan::addon {

struct CancelHandle {
  static constexpr Class kClass = Class::kCancel;
  static constexpr napi_type_tag kTag{0x5d1f6c1f0a3b4e71, 0x9c0f8a6b2d7e4c11};
  static constexpr const char* kName = "cancel";
  CancelFlag flag = std::make_shared<std::atomic<bool>>(false);
};

struct DocumentHandle;
struct SessionHandle;

// Shared by a model's handle and those of its documents and sessions.
struct ModelState {
  std::shared_ptr<Model> model;  // null: disposed
  std::set<DocumentHandle*> documents;
  std::set<SessionHandle*> sessions;
};

struct ModelHandle {
  static constexpr Class kClass = Class::kModel;
  static constexpr napi_type_tag kTag{0x2a94be80c77d4f63, 0xb1d35e0f94a86c52};
  static constexpr const char* kName = "model";
  std::shared_ptr<ModelState> state;
};

struct DocumentHandle {
  static constexpr Class kClass = Class::kDocument;
  static constexpr napi_type_tag kTag{0x7e60d92b5c184aa5, 0x8f21c4d6e3b70993};
  static constexpr const char* kName = "document";
  DocumentHandle(std::shared_ptr<ModelState> owner, std::shared_ptr<Document> opened) : state(std::move(owner)), document(std::move(opened)) {
    state->documents.insert(this);
  }
  ~DocumentHandle() { state->documents.erase(this); }
  DocumentHandle(const DocumentHandle&) = delete;
  std::shared_ptr<ModelState> state;
  std::shared_ptr<Document> document;  // null: disposed
};

struct SessionHandle {
  static constexpr Class kClass = Class::kSession;
  static constexpr napi_type_tag kTag{0x41b7f3a86e0d4c29, 0xa6925d71c8fe03b4};
  static constexpr const char* kName = "session";
  SessionHandle(std::shared_ptr<ModelState> owner, std::shared_ptr<Session> created) : state(std::move(owner)), session(std::move(created)) {
    state->sessions.insert(this);
  }
  ~SessionHandle() { state->sessions.erase(this); }
  SessionHandle(const SessionHandle&) = delete;
  std::shared_ptr<ModelState> state;
  std::shared_ptr<Session> session;  // null: disposed
};

// The handle behind a value; TypeError if it is something else.
template <class H> H& handle_of(const Napi::Value& value) {
  const Napi::Env env = value.Env();
  bool is_ours = false;
  if (value.IsObject()) check(env, napi_check_object_type_tag(env, value, &H::kTag, &is_ours));
  if (!is_ours) throw ArgumentError(std::string("Expected a Banyan ") + H::kName);
  void* data = nullptr;
  check(env, napi_unwrap(env, value, &data));
  return *static_cast<H*>(data);
}

// A new JavaScript object that owns `handle`.
template <class H> Napi::Value wrap(Napi::Env env, std::unique_ptr<H> handle) {
  const Napi::Object object = EnvData::of(env).constructor(H::kClass).New({});
  check(env, napi_wrap(
                 env, object, handle.get(), [](napi_env, void* data, void*) { delete static_cast<H*>(data); }, nullptr, nullptr));
  handle.release();
  check(env, napi_type_tag_object(env, object, &H::kTag));
  return object;
}

// A row of a class's member list. `kMember` is a method or getter: Napi::Value(H&, const Args&).
template <class H, Napi::Value (*kMember)(H&, const Args&)> napi_value call_member(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args args(env, info);
    return kMember(handle_of<H>(args.receiver()), args);
  });
}
template <class H, Napi::Value (*kMember)(H&, const Args&)> constexpr napi_property_descriptor method(const char* name) {
  return {name, nullptr, call_member<H, kMember>, nullptr, nullptr, nullptr, napi_default_method, nullptr};
}
template <class H, Napi::Value (*kMember)(H&, const Args&)> constexpr napi_property_descriptor getter(const char* name) {
  return {name, nullptr, nullptr, call_member<H, kMember>, nullptr, nullptr, napi_default, nullptr};
}

// Defines the class of H with these members. JavaScript's `new` makes an object without a handle, which every member refuses.
template <class H, size_t kCount> void define_class(Napi::Env env, const napi_property_descriptor (&members)[kCount]) {
  napi_value constructor = nullptr;
  const auto construct = [](napi_env, napi_callback_info) -> napi_value { return nullptr; };
  check(env, napi_define_class(env, H::kName, NAPI_AUTO_LENGTH, construct, nullptr, kCount, members, &constructor));
  EnvData::of(env).constructor(H::kClass) = Napi::Persistent(Napi::Function(env, constructor));
}

void define_cancel(Napi::Env env);
void define_model(Napi::Env env);
void define_document(Napi::Env env);
void define_session(Napi::Env env);

Napi::Value wrap_model(Napi::Env env, std::shared_ptr<Model> model);
Napi::Value wrap_document(Napi::Env env, std::shared_ptr<ModelState> state, std::shared_ptr<Document> document);

// Hooks of a job that has progress and nothing else to say.
JobHooks job_hooks(const std::shared_ptr<Sender>& sender, CancelFlag cancel);

}  // namespace banyan::addon
