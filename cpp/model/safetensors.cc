// Format: https://github.com/huggingface/safetensors, "Format": u64 header length, JSON header, data.
#include "model/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "base/json.h"

namespace banyan {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr size_t kMaxHeaderBytes = size_t{100} << 20;  // the limit of the reference implementation

constexpr std::pair<std::string_view, DType> kTypes[] = {
    {"F32", DType::kF32},
    {"F16", DType::kF16},
    {"BF16", DType::kBF16},
    {"F64", DType::kF64},
    {"I64", DType::kI64},
    {"I32", DType::kI32},
    {"I16", DType::kI16},
    {"I8", DType::kI8},
    {"U8", DType::kU8},
    {"BOOL", DType::kBool},
};
// Sound files may hold these; nothing here can read them.
constexpr std::string_view kForeignTypes[] = {
    "U16", "U32", "U64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F4", "F6_E2M3", "F6_E3M2", "C64"};

struct Extent {
  size_t begin, end;
  const std::string* name;
};

class Reader {
 public:
  Reader(const std::string& path, Code damaged) : damaged_(damaged), result_{MappedFile(path), 0, {}, {}} {}

  Safetensors read() {
    const auto bytes = result_.file.bytes();
    if (bytes.size() < kLengthBytes) fail("is shorter than the 8 bytes of its header length", 0);
    uint64_t n_header = 0;
    std::memcpy(&n_header, bytes.data(), sizeof n_header);
    if (n_header > kMaxHeaderBytes) fail("header length " + std::to_string(n_header) + " is more than the limit of 100 MB", 0);
    if (n_header > bytes.size() - kLengthBytes) {
      fail("header length " + std::to_string(n_header) + " does not fit the file of " + std::to_string(bytes.size()) + " bytes", 0);
    }
    result_.data_begin = kLengthBytes + static_cast<size_t>(n_header);
    n_data_ = bytes.size() - result_.data_begin;
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, static_cast<size_t>(n_header));
    const Json header = parse_json(text, result_.file.path(), damaged_, kLengthBytes);
    if (header.object() == nullptr) fail("the header is no JSON object", header.offset);
    for (const auto& [name, entry] : *header.object()) {
      if (name == "__metadata__") read_metadata(entry);
      else read_tensor(name, entry);
    }
    check_overlap();
    return std::move(result_);
  }

 private:
  [[noreturn]] void fail(const std::string& what, size_t offset) const {
    throw Error(damaged_, result_.file.path() + ": " + what + ", at byte " + std::to_string(offset));
  }
  [[noreturn]] void fail(const std::string& name, const std::string& what, const Json& at) const { fail("tensor " + name + " " + what, at.offset); }

  void read_metadata(const Json& entry) {
    if (entry.object() == nullptr) fail("__metadata__ is no JSON object", entry.offset);
    for (const auto& [key, value] : *entry.object()) {
      if (value.string() == nullptr) fail("__metadata__ key \"" + key + "\" is no string", value.offset);
      result_.metadata.emplace(key, *value.string());
    }
  }

  void read_tensor(const std::string& name, const Json& entry) {
    if (entry.object() == nullptr) fail(name, "has no description", entry);
    const Json* type = entry.find("dtype");
    const Json* shape = entry.find("shape");
    const Json* offsets = entry.find("data_offsets");
    if (type == nullptr || type->string() == nullptr) fail(name, "has no dtype", entry);
    if (shape == nullptr || shape->array() == nullptr) fail(name, "has no shape", entry);
    if (offsets == nullptr || offsets->array() == nullptr || offsets->array()->size() != 2) fail(name, "has no pair of data_offsets", entry);

    TensorView view;
    view.dtype = element_type(name, *type);
    if (shape->array()->size() > view.shape.size()) fail(name, "has more than 4 dimensions", *shape);
    uint64_t n_bytes = row_bytes(view.dtype, 1);
    for (const Json& size : *shape->array()) {
      const int64_t n = integer(name, size, "a dimension");
      if (n != 0 && n_bytes > std::numeric_limits<uint64_t>::max() / static_cast<uint64_t>(n)) fail(name, "has a shape that overflows", *shape);
      n_bytes *= static_cast<uint64_t>(n);
      view.shape[static_cast<size_t>(view.n_dims++)] = n;
    }
    const uint64_t begin = static_cast<uint64_t>(integer(name, (*offsets->array())[0], "an offset"));
    const uint64_t end = static_cast<uint64_t>(integer(name, (*offsets->array())[1], "an offset"));
    if (begin > end || end > n_data_) {
      fail(name,
          "has data offsets " + std::to_string(begin) + " to " + std::to_string(end) + " outside the data section of " + std::to_string(n_data_) +
              " bytes (is the file complete?)",
          *offsets);
    }
    if (end - begin != n_bytes) {
      fail(name, "has " + std::to_string(end - begin) + " bytes of data but its shape needs " + std::to_string(n_bytes), *offsets);
    }
    view.data = result_.file.bytes().data() + result_.data_begin + static_cast<size_t>(begin);
    const auto at = result_.tensors.emplace(name, view).first;
    if (begin < end) extents_.push_back({static_cast<size_t>(begin), static_cast<size_t>(end), &at->first});
  }

  DType element_type(const std::string& name, const Json& type) const {
    const std::string& text = *type.string();
    for (const auto& [known, dtype] : kTypes) {
      if (text == known) return dtype;
    }
    const bool is_foreign = std::find(std::begin(kForeignTypes), std::end(kForeignTypes), text) != std::end(kForeignTypes);
    if (is_foreign && damaged_ != Code::kBadDocument) {
      throw Error(Code::kUnsupportedModel, result_.file.path() + ": tensor " + name + " has elements of type " + text +
                                               ", which is not supported, at byte " + std::to_string(type.offset));
    }
    fail(name, "has the unknown dtype \"" + text + "\"", type);
  }

  int64_t integer(const std::string& name, const Json& json, const char* what) const {
    if (json.integer() == nullptr || *json.integer() < 0) fail(name, std::string("has ") + what + " that is no integer from 0 up", json);
    return *json.integer();
  }

  void check_overlap() {
    std::sort(extents_.begin(), extents_.end(), [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
    for (size_t i = 1; i < extents_.size(); ++i) {
      if (extents_[i].begin < extents_[i - 1].end) {
        fail("tensors " + *extents_[i - 1].name + " and " + *extents_[i].name + " overlap", result_.data_begin + extents_[i].begin);
      }
    }
  }

  const Code damaged_;
  Safetensors result_;
  size_t n_data_ = 0;
  std::vector<Extent> extents_;
};

}  // namespace

Safetensors read_safetensors(const std::string& path, Code damaged) { return Reader(path, damaged).read(); }

}  // namespace banyan
