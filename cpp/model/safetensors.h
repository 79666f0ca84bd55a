// safetensors: reader of one .safetensors file (and of saved documents, which use the same container). Untrusted input.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "tensor/tensor.h"

namespace banyan {

struct Safetensors {
  MappedFile file;
  size_t data_begin = 0;                        // byte offset of the data section
  std::map<std::string, TensorView> tensors;    // views into the file; more than 4 dimensions are refused
  std::map<std::string, std::string> metadata;  // "__metadata__"
};

// Checks the header length against the file, the JSON (size <= 100 MB, depth limited, duplicate names refused), every dtype, shape product (no overflow), offsets
// (inside the file, length = product x element size, no overlap, no holes allowed to lie outside). Throws Error{damaged} that names tensor and offset.
Safetensors read_safetensors(const std::string& path, Code damaged = Code::kBadModelFile);

}  // namespace banyan
