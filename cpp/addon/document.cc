#include "addon/convert.h"
#include "addon/handle.h"

namespace banyan::addon {
namespace {

const std::shared_ptr<Document>& live(const DocumentHandle& handle) {
  if (!handle.document) throw Error(Code::kDisposed, "The document was disposed");
  return handle.document;
}

Napi::Value info(DocumentHandle& handle, const Args& args) { return document_info(args.env(), live(handle)->info()); }

Napi::Value tokens(DocumentHandle& handle, const Args& args) {
  const int64_t begin = to_integer(args[0], "begin", 0, kMaxSafeInteger);
  const int64_t end = to_integer(args[1], "end", 0, kMaxSafeInteger);
  return int32_array(args.env(), live(handle)->tokens(begin, end));
}

Napi::Value attribute(DocumentHandle& handle, const Args& args) {
  return Napi::String::New(args.env(), live(handle)->attribute(to_text(args[0], "key")));
}

Napi::Value append(DocumentHandle& handle, const Args& args) {
  auto document = live(handle);
  auto ids = to_ids(args[0], "ids");
  const CancelFlag cancel = handle_of<CancelHandle>(args[1]).flag;
  return EnvData::of(args.env()).run(args.env(), args.callback(2, "onProgress"), cancel, document, [&](std::shared_ptr<Sender> sender) {
    document->begin_append(std::move(ids), job_hooks(sender, cancel));
  });
}

Napi::Value complete(DocumentHandle& handle, const Args& args) {
  auto document = live(handle);
  const bool is_eager = to_bool(args[0], "eager");
  const CancelFlag cancel = handle_of<CancelHandle>(args[1]).flag;
  return EnvData::of(args.env()).run(args.env(), args.callback(2, "onProgress"), cancel, document, [&](std::shared_ptr<Sender> sender) {
    document->begin_complete(is_eager, job_hooks(sender, cancel));
  });
}

Napi::Value save(DocumentHandle& handle, const Args& args) {
  auto document = live(handle);
  auto path = to_text(args[0], "path");
  auto attributes = to_attributes(args[1]);
  const CancelFlag cancel = handle_of<CancelHandle>(args[2]).flag;
  return EnvData::of(args.env()).run(args.env(), args.callback(3, "onProgress"), cancel, document, [&](std::shared_ptr<Sender> sender) {
    document->begin_save(std::move(path), std::move(attributes), job_hooks(sender, cancel));
  });
}

Napi::Value dispose(DocumentHandle& handle, const Args& args) {
  handle.document.reset();
  return args.env().Undefined();
}

}  // namespace

void define_document(Napi::Env env) {
  define_class<DocumentHandle>(env, {
                                        method<DocumentHandle, info>("info"),
                                        method<DocumentHandle, tokens>("tokens"),
                                        method<DocumentHandle, attribute>("attribute"),
                                        method<DocumentHandle, append>("append"),
                                        method<DocumentHandle, complete>("complete"),
                                        method<DocumentHandle, save>("save"),
                                        method<DocumentHandle, dispose>("dispose"),
                                    });
}

}  // namespace banyan::addon
