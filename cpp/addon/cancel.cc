#include "addon/handle.h"

namespace banyan::addon {
namespace {

Napi::Value cancel(CancelHandle& handle, const Args& args) {
  handle.flag->store(true);
  return args.env().Undefined();
}

Napi::Value cancelled(CancelHandle& handle, const Args& args) { return Napi::Boolean::New(args.env(), handle.flag->load()); }

}  // namespace

void define_cancel(Napi::Env env) {
  define_class<CancelHandle>(env, {method<CancelHandle, cancel>("cancel"), getter<CancelHandle, cancelled>("cancelled")});
}

JobHooks job_hooks(const std::shared_ptr<Sender>& sender, CancelFlag cancel) {
  return {std::move(cancel), [sender](uint64_t done, uint64_t total) { sender->progress("", done, total); },
      [sender](const Error* error) { sender->done(error); }};
}

}  // namespace banyan::addon
