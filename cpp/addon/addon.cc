// addon: what banyan.node exports (types/native.d.ts is its contract). A list; the work is in the classes' files.
#include "addon/convert.h"
#include "addon/handle.h"

namespace banyan::addon {
namespace {

Napi::Value get_version(const Args& args) { return Napi::String::New(args.env(), version()); }

Napi::Value cpu_variants(const Args& args) {
  const auto names = cpu_variants_here();
  auto array = Napi::Array::New(args.env(), names.size());
  for (size_t i = 0; i < names.size(); ++i) array.Set(static_cast<uint32_t>(i), Napi::String::New(args.env(), names[i]));
  return array;
}

Napi::Value devices(const Args& args) {
  const DevicesHere here = devices_here();
  auto object = Napi::Object::New(args.env());
  object.Set("cpu", Napi::String::New(args.env(), here.cpu));
  object.Set("cpuVariants", cpu_variants(args));
  object.Set("cuda", here.cuda.empty() ? args.env().Null() : Napi::String::New(args.env(), here.cuda));
  object.Set("cudaObstacle", Napi::String::New(args.env(), here.cuda_obstacle));
  return object;
}

Napi::Value create_cancel(const Args& args) { return wrap(args.env(), std::make_unique<CancelHandle>()); }

Napi::Value load(const Args& args) {
  auto options = to_load_options(args[0]);
  options.cancel = handle_of<CancelHandle>(args[1]).flag;
  const Napi::Function on_progress = args.callback(2, "onProgress");
  const CancelFlag cancel = options.cancel;
  return EnvData::of(args.env()).run_on_thread(args.env(), on_progress, cancel, [options = std::move(options)](Sender& sender) mutable {
    options.on_progress = [&sender](uint64_t done, uint64_t total) { sender.progress("", done, total); };
    // Shared, because the result must be copyable; released by the first call.
    auto model = std::make_shared<std::shared_ptr<Model>>(Model::load(std::move(options)));
    return [model](Napi::Env env) { return wrap_model(env, std::move(*model)); };
  });
}

template <Napi::Value (*kFunction)(const Args&)> napi_value call(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value { return kFunction(Args(env, info)); });
}
template <Napi::Value (*kFunction)(const Args&)> constexpr napi_property_descriptor function(const char* name) {
  return {name, nullptr, call<kFunction>, nullptr, nullptr, nullptr, napi_enumerable, nullptr};
}

constexpr napi_property_descriptor kExports[] = {
    function<get_version>("version"),
    function<cpu_variants>("cpuVariants"),
    function<devices>("devices"),
    function<create_cancel>("createCancel"),
    function<load>("load"),
};

}  // namespace
}  // namespace banyan::addon

NAPI_MODULE_INIT() {
  using namespace banyan::addon;
  return guarded(env, [&]() -> napi_value {
    EnvData::attach(env);
    define_cancel(env);
    define_model(env);
    define_document(env);
    define_session(env);
    check(env, napi_define_properties(env, exports, std::size(kExports), kExports));
    return exports;
  });
}
