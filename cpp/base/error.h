// error: the one exception type of the engine. Every failure that a caller can cause or meet has a stable code; the addon turns it into a
// JavaScript BanyanError with the same code. Kernels never throw; parsers and public calls do.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace banyan {

enum class Code {
  kInvalidArgument,   // BANYAN_INVALID_ARGUMENT: an option or argument is out of its range
  kFileNotFound,      // BANYAN_FILE_NOT_FOUND
  kIo,                // BANYAN_IO: reading or writing failed (permission, full disk, ...)
  kBadModelFile,      // BANYAN_BAD_MODEL_FILE: torn or lying GGUF / safetensors / config.json
  kUnsupportedModel,  // BANYAN_UNSUPPORTED_MODEL: sound file, but an architecture or type we do not run
  kMissingTensor,     // BANYAN_MISSING_TENSOR
  kBadTensor,         // BANYAN_BAD_TENSOR: wrong shape or element type
  kBadAdapter,        // BANYAN_BAD_ADAPTER
  kAdapterMismatch,   // BANYAN_ADAPTER_MISMATCH: the adapter belongs to another base
  kBadDocument,       // BANYAN_BAD_DOCUMENT: torn or damaged saved document
  kModelMismatch,     // BANYAN_MODEL_MISMATCH: a saved document of another model, adapter or tokenizer
  kEmptyDocument,     // BANYAN_EMPTY_DOCUMENT: a session's method reads chunks and a document has none
  kOutOfMemory,       // BANYAN_OUT_OF_MEMORY: the message says how many bytes were needed
  kContextOverflow,   // BANYAN_CONTEXT_OVERFLOW: local tokens do not fit the window
  kAborted,           // BANYAN_ABORTED
  kDisposed,          // BANYAN_DISPOSED: use after dispose
  kNoDevice,          // BANYAN_NO_DEVICE: the asked device is not there
  kDeviceFailed,      // BANYAN_DEVICE_FAILED: the GPU reported an error; nothing on it can be used any more
  kInternal,          // BANYAN_INTERNAL: a bug in Banyan
};

// The public name, "BANYAN_...".
const char* code_name(Code code) noexcept;

class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& text) : std::runtime_error(text), code(code) {}
  Code code;
};

}  // namespace banyan
