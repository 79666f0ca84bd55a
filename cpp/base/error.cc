#include "base/error.h"

namespace banyan {

const char* code_name(Code code) noexcept {
  switch (code) {
    case Code::kInvalidArgument: return "BANYAN_INVALID_ARGUMENT";
    case Code::kFileNotFound: return "BANYAN_FILE_NOT_FOUND";
    case Code::kIo: return "BANYAN_IO";
    case Code::kBadModelFile: return "BANYAN_BAD_MODEL_FILE";
    case Code::kUnsupportedModel: return "BANYAN_UNSUPPORTED_MODEL";
    case Code::kMissingTensor: return "BANYAN_MISSING_TENSOR";
    case Code::kBadTensor: return "BANYAN_BAD_TENSOR";
    case Code::kBadAdapter: return "BANYAN_BAD_ADAPTER";
    case Code::kAdapterMismatch: return "BANYAN_ADAPTER_MISMATCH";
    case Code::kBadDocument: return "BANYAN_BAD_DOCUMENT";
    case Code::kModelMismatch: return "BANYAN_MODEL_MISMATCH";
    case Code::kEmptyDocument: return "BANYAN_EMPTY_DOCUMENT";
    case Code::kOutOfMemory: return "BANYAN_OUT_OF_MEMORY";
    case Code::kContextOverflow: return "BANYAN_CONTEXT_OVERFLOW";
    case Code::kAborted: return "BANYAN_ABORTED";
    case Code::kDisposed: return "BANYAN_DISPOSED";
    case Code::kNoDevice: return "BANYAN_NO_DEVICE";
    case Code::kDeviceFailed: return "BANYAN_DEVICE_FAILED";
    case Code::kInternal: return "BANYAN_INTERNAL";
  }
  return "BANYAN_INTERNAL";
}

}  // namespace banyan
