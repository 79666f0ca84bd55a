// gguf: reader of one GGUF file, version 2 or 3, little endian. Untrusted input: every count and length is checked against what is left of the file.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/mapped_file.h"
#include "tensor/tensor.h"

namespace banyan {

enum class GgufType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

// The elements as the file has them, checked: an array of strings consists of whole, valid strings. Arrays of arrays are refused.
struct GgufArray {
  GgufType type = GgufType::kU8;
  uint64_t n_elements = 0;
  const std::byte* data = nullptr;
};

struct GgufValue {
  size_t offset = 0;                                                                 // in the file, for messages
  std::variant<bool, int64_t, uint64_t, double, std::string_view, GgufArray> value;  // every integer type but uint64: int64
};

struct GgufTensor {
  TensorView view;   // no data if the type is one we cannot run
  std::string type;  // the name ggml gives it
  bool is_readable = false;
  size_t offset = 0;  // of its description
};

struct Gguf {
  MappedFile file;
  uint32_t version = 0;
  size_t data_begin = 0;
  std::map<std::string, GgufValue> metadata;
  std::map<std::string, GgufTensor> tensors;
};

// Throws Error: kBadModelFile for a torn or lying file, kUnsupportedModel for sound ones we cannot read (version 1, big endian, unknown tensor types).
Gguf read_gguf(const std::string& path);

// Elements of a checked array. The caller has looked at `type`.
std::vector<std::string> gguf_strings(const GgufArray& array);
std::vector<double> gguf_numbers(const GgufArray& array);  // any type but strings

}  // namespace banyan
