// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#include "model/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace banyan {
namespace {

constexpr uint32_t kMaxKeyBytes = 65535;          // of the specification
constexpr uint64_t kMaxArrayElements = 1u << 24;  // the largest vocabularies have 2^18 tokens and about as many merges
constexpr uint64_t kMaxEntries = 1u << 16;        // real files have dozens
constexpr uint64_t kMaxTensors = 1u << 17;        // real files have thousands
constexpr uint64_t kMaxAlignment = 1u << 20;
constexpr size_t kMinEntryBytes = 8 + 4 + 1;           // of metadata: key length, type, one byte of value
constexpr size_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;  // of a tensor description: name length, rank, one dimension, type, offset

struct TensorType {
  uint32_t id;
  const char* name;
  int block_size;
  int block_bytes;
  std::optional<DType> dtype;
};

// ggml.h, enum ggml_type; block sizes from ggml-common.h. Types without a dtype are known only so that their ranges can be checked.
constexpr TensorType kTensorTypes[] = {
    {0, "F32", 1, 4, DType::kF32},
    {1, "F16", 1, 2, DType::kF16},
    {2, "Q4_0", 32, 18, DType::kQ4_0},
    {3, "Q4_1", 32, 20, {}},
    {6, "Q5_0", 32, 22, {}},
    {7, "Q5_1", 32, 24, {}},
    {8, "Q8_0", 32, 34, DType::kQ8_0},
    {9, "Q8_1", 32, 36, {}},
    {10, "Q2_K", 256, 84, {}},
    {11, "Q3_K", 256, 110, {}},
    {12, "Q4_K", 256, 144, DType::kQ4_K},
    {13, "Q5_K", 256, 176, DType::kQ5_K},
    {14, "Q6_K", 256, 210, DType::kQ6_K},
    {15, "Q8_K", 256, 292, {}},
    {16, "IQ2_XXS", 256, 66, {}},
    {17, "IQ2_XS", 256, 74, {}},
    {18, "IQ3_XXS", 256, 98, {}},
    {19, "IQ1_S", 256, 50, {}},
    {20, "IQ4_NL", 32, 18, {}},
    {21, "IQ3_S", 256, 110, {}},
    {22, "IQ2_S", 256, 82, {}},
    {23, "IQ4_XS", 256, 136, {}},
    {24, "I8", 1, 1, DType::kI8},
    {25, "I16", 1, 2, DType::kI16},
    {26, "I32", 1, 4, DType::kI32},
    {27, "I64", 1, 8, DType::kI64},
    {28, "F64", 1, 8, DType::kF64},
    {29, "IQ1_M", 256, 56, {}},
    {30, "BF16", 1, 2, DType::kBF16},
    {34, "TQ1_0", 256, 54, {}},
    {35, "TQ2_0", 256, 66, {}},
    {39, "MXFP4", 32, 17, {}},
};

size_t scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool: return 1;
    case GgufType::kU16:
    case GgufType::kI16: return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32: return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64: return 8;
    case GgufType::kString:
    case GgufType::kArray: break;
  }
  return 0;
}

template <class T> T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

class Reader {
 public:
  explicit Reader(const std::string& path) : result_{MappedFile(path), 0, 0, {}, {}}, bytes_(result_.file.bytes()) {}

  Gguf read() {
    if (bytes_.size() < 4 || std::memcmp(bytes_.data(), "GGUF", 4) != 0) fail("does not begin with \"GGUF\"", 0);
    at_ = 4;
    result_.version = take<uint32_t>("the version");
    if (result_.version == 1) unsupported("GGUF version 1 is not supported, convert the file again", 4);
    if ((result_.version & 0xFFFFu) == 0) unsupported("big-endian GGUF files are not supported", 4);
    if (result_.version != 2 && result_.version != 3) unsupported("GGUF version " + std::to_string(result_.version) + " is not supported", 4);
    const uint64_t n_tensors = take<uint64_t>("the number of tensors");
    const uint64_t n_entries = take<uint64_t>("the number of metadata entries");
    if (n_tensors > kMaxTensors || n_tensors > left() / kMinTensorBytes) {
      fail(std::to_string(n_tensors) + " tensors are more than the limit or do not fit the file", 8);
    }
    if (n_entries > kMaxEntries || n_entries > left() / kMinEntryBytes) {
      fail(std::to_string(n_entries) + " metadata entries are more than the limit or do not fit the file", 16);
    }
    for (uint64_t i = 0; i < n_entries; ++i) read_entry();
    const uint64_t alignment = read_alignment();
    for (uint64_t i = 0; i < n_tensors; ++i) read_description(alignment);
    place_tensors(alignment);
    return std::move(result_);
  }

 private:
  struct Description {
    const std::string* name;
    GgufTensor* tensor;
    uint64_t offset;  // in the data section
    uint64_t n_bytes;
  };

  [[noreturn]] void fail(const std::string& what, size_t offset) const {
    throw Error(Code::kBadModelFile, result_.file.path() + ": " + what + ", at byte " + std::to_string(offset));
  }
  [[noreturn]] void unsupported(const std::string& what, size_t offset) const {
    throw Error(Code::kUnsupportedModel, result_.file.path() + ": " + what + ", at byte " + std::to_string(offset));
  }

  size_t left() const { return bytes_.size() - at_; }

  template <class T> T take(const std::string& what) {
    if (left() < sizeof(T)) fail("the file ends inside " + what, at_);
    const T value = load<T>(bytes_.data() + at_);
    at_ += sizeof(T);
    return value;
  }

  std::string_view take_string(const std::string& what) {
    const size_t begin = at_;
    const uint64_t n_bytes = take<uint64_t>(what);
    if (n_bytes > left()) fail(what + " has length " + std::to_string(n_bytes) + ", more than the file has left", begin);
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + at_, static_cast<size_t>(n_bytes));
    if (const size_t bad = find_invalid_utf8(text); bad != std::string_view::npos) fail(what + " is not valid UTF-8", at_ + bad);
    at_ += text.size();
    return text;
  }

  GgufType take_type(const std::string& what) {
    const size_t begin = at_;
    const uint32_t type = take<uint32_t>(what);
    if (type > static_cast<uint32_t>(GgufType::kF64)) fail(what + " has the unknown type " + std::to_string(type), begin);
    return static_cast<GgufType>(type);
  }

  void read_entry() {
    const size_t begin = at_;
    const std::string_view key = take_string("a metadata key");
    if (key.empty() || key.size() > kMaxKeyBytes) fail("a metadata key has length " + std::to_string(key.size()), begin);
    const std::string what = "the value of " + printable(key);
    const GgufType type = take_type(what);
    GgufValue value;
    value.offset = at_;
    if (type == GgufType::kString) value.value = take_string(what);
    else if (type == GgufType::kArray) value.value = take_array(what);
    else value.value = take_scalar(type, what).value;
    if (!result_.metadata.emplace(std::string(key), value).second) fail("the metadata key " + printable(key) + " appears twice", begin);
  }

  GgufValue take_scalar(GgufType type, const std::string& what) {
    GgufValue value;
    switch (type) {
      case GgufType::kU8: value.value = int64_t{take<uint8_t>(what)}; break;
      case GgufType::kI8: value.value = int64_t{take<int8_t>(what)}; break;
      case GgufType::kU16: value.value = int64_t{take<uint16_t>(what)}; break;
      case GgufType::kI16: value.value = int64_t{take<int16_t>(what)}; break;
      case GgufType::kU32: value.value = int64_t{take<uint32_t>(what)}; break;
      case GgufType::kI32: value.value = int64_t{take<int32_t>(what)}; break;
      case GgufType::kI64: value.value = take<int64_t>(what); break;
      case GgufType::kU64: value.value = take<uint64_t>(what); break;
      case GgufType::kF32: value.value = double{take<float>(what)}; break;
      case GgufType::kF64: value.value = take<double>(what); break;
      case GgufType::kBool: value.value = take_bool(what); break;
      case GgufType::kString:
      case GgufType::kArray: break;  // handled by the caller
    }
    return value;
  }

  bool take_bool(const std::string& what) {
    const uint8_t value = take<uint8_t>(what);
    if (value > 1) fail(what + " is no boolean but " + std::to_string(value), at_ - 1);
    return value == 1;
  }

  GgufArray take_array(const std::string& what) {
    const size_t begin = at_;
    GgufArray array;
    array.type = take_type(what);
    array.n_elements = take<uint64_t>(what);
    array.data = bytes_.data() + at_;
    if (array.type == GgufType::kArray) unsupported(what + " is an array of arrays, which is not supported", begin);
    if (array.n_elements > kMaxArrayElements) fail(what + " has " + std::to_string(array.n_elements) + " elements, more than the limit", begin);
    if (array.type == GgufType::kString) {
      if (array.n_elements > left() / 8) fail(what + " has more strings than the file has left", begin);
      for (uint64_t i = 0; i < array.n_elements; ++i) take_string(what);
      return array;
    }
    const size_t element_bytes = scalar_bytes(array.type);
    if (array.n_elements > left() / element_bytes) fail(what + " has more elements than the file has left", begin);
    const size_t n_bytes = static_cast<size_t>(array.n_elements) * element_bytes;
    if (array.type == GgufType::kBool) {
      for (uint64_t i = 0; i < array.n_elements; ++i) take_bool(what);
      return array;
    }
    at_ += n_bytes;
    return array;
  }

  uint64_t read_alignment() const {
    const auto at = result_.metadata.find("general.alignment");
    if (at == result_.metadata.end()) return 32;
    const int64_t* alignment = std::get_if<int64_t>(&at->second.value);
    const uint64_t n_bytes = alignment == nullptr || *alignment < 0 ? 0 : static_cast<uint64_t>(*alignment);
    if (n_bytes > kMaxAlignment || !std::has_single_bit(n_bytes)) { fail("general.alignment is no power of two up to 2^20", at->second.offset); }
    return n_bytes;
  }

  void read_description(uint64_t alignment) {
    const size_t begin = at_;
    const std::string name(take_string("a tensor name"));
    if (name.empty() || name.size() > kMaxKeyBytes) fail("a tensor name has length " + std::to_string(name.size()), begin);
    const std::string what = "tensor " + printable(name);
    GgufTensor tensor;
    tensor.offset = begin;
    const uint32_t n_dims = take<uint32_t>(what);
    if (n_dims < 1 || n_dims > tensor.view.shape.size()) fail(what + " has " + std::to_string(n_dims) + " dimensions", at_ - 4);
    uint64_t n_elements = 1;
    for (uint32_t i = 0; i < n_dims; ++i) {
      const uint64_t n = take<uint64_t>(what);
      if (n < 1 || n > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / n_elements) {
        fail(what + " has a shape that is empty or overflows", at_ - 8);
      }
      n_elements *= n;
      tensor.view.shape[n_dims - 1 - i] = static_cast<int64_t>(n);  // the file has the innermost dimension first
    }
    tensor.view.n_dims = static_cast<int>(n_dims);
    const uint32_t id = take<uint32_t>(what);
    const auto type = std::find_if(std::begin(kTensorTypes), std::end(kTensorTypes), [&](const TensorType& t) { return t.id == id; });
    if (type == std::end(kTensorTypes)) unsupported(what + " has the unknown type " + std::to_string(id), at_ - 4);
    const uint64_t n_columns = static_cast<uint64_t>(tensor.view.shape[n_dims - 1]);
    const uint64_t block_size = static_cast<uint64_t>(type->block_size), block_bytes = static_cast<uint64_t>(type->block_bytes);
    if (n_columns % block_size != 0) {
      fail(what + " has rows of " + std::to_string(n_columns) + " elements, no whole number of " + type->name + " blocks", at_ - 4);
    }
    const uint64_t n_blocks = n_elements / block_size;
    if (n_blocks > std::numeric_limits<uint64_t>::max() / block_bytes) fail(what + " has a shape that overflows", begin);
    tensor.type = type->name;
    tensor.is_readable = type->dtype.has_value();
    tensor.view.dtype = type->dtype.value_or(DType::kU8);
    const uint64_t offset = take<uint64_t>(what);
    if (offset % alignment != 0)
      fail(what + " has the offset " + std::to_string(offset) + ", which is not aligned to " + std::to_string(alignment), at_ - 8);
    const auto [at, is_new] = result_.tensors.emplace(name, std::move(tensor));
    if (!is_new) fail(what + " appears twice", begin);
    descriptions_.push_back({&at->first, &at->second, offset, n_blocks * block_bytes});
  }

  void place_tensors(uint64_t alignment) {
    const uint64_t data_begin = (static_cast<uint64_t>(at_) + alignment - 1) / alignment * alignment;
    if (descriptions_.empty()) {  // a vocabulary alone may end without padding
      result_.data_begin = std::min<size_t>(static_cast<size_t>(data_begin), bytes_.size());
      return;
    }
    if (data_begin > bytes_.size()) fail("the file ends before its tensor data", bytes_.size());
    result_.data_begin = static_cast<size_t>(data_begin);
    const uint64_t n_data = bytes_.size() - data_begin;
    for (const Description& d : descriptions_) {
      if (d.offset > n_data || d.n_bytes > n_data - d.offset) {
        fail("tensor " + printable(*d.name) + " has " + std::to_string(d.n_bytes) + " bytes at offset " + std::to_string(d.offset) +
                 ", outside the data section of " + std::to_string(n_data) + " bytes (is the file complete?)",
            d.tensor->offset);
      }
      if (d.tensor->is_readable) d.tensor->view.data = bytes_.data() + result_.data_begin + static_cast<size_t>(d.offset);
    }
    std::sort(descriptions_.begin(), descriptions_.end(), [](const Description& a, const Description& b) { return a.offset < b.offset; });
    for (size_t i = 1; i < descriptions_.size(); ++i) {
      const Description& before = descriptions_[i - 1];
      if (descriptions_[i].offset < before.offset + before.n_bytes) {
        fail("tensors " + printable(*before.name) + " and " + printable(*descriptions_[i].name) + " overlap", descriptions_[i].tensor->offset);
      }
    }
  }

  // A name from the file as part of a message.
  static std::string printable(std::string_view name) {
    size_t n_bytes = std::min<size_t>(name.size(), 200);
    while (n_bytes < name.size() && (static_cast<unsigned char>(name[n_bytes]) & 0xC0) == 0x80) --n_bytes;  // whole code points
    return std::string(name.substr(0, n_bytes));
  }

  Gguf result_;
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
  std::vector<Description> descriptions_;
};

template <class T> void append_numbers(const GgufArray& array, std::vector<double>& numbers) {
  for (uint64_t i = 0; i < array.n_elements; ++i) numbers.push_back(static_cast<double>(load<T>(array.data + i * sizeof(T))));
}

}  // namespace

Gguf read_gguf(const std::string& path) { return Reader(path).read(); }

std::vector<std::string> gguf_strings(const GgufArray& array) {
  std::vector<std::string> strings;
  strings.reserve(static_cast<size_t>(array.n_elements));
  const std::byte* at = array.data;
  for (uint64_t i = 0; i < array.n_elements; ++i) {
    const uint64_t n_bytes = load<uint64_t>(at);
    strings.emplace_back(reinterpret_cast<const char*>(at + 8), static_cast<size_t>(n_bytes));
    at += 8 + n_bytes;
  }
  return strings;
}

std::vector<double> gguf_numbers(const GgufArray& array) {
  std::vector<double> numbers;
  if (array.type == GgufType::kString || array.type == GgufType::kArray) return numbers;
  numbers.reserve(static_cast<size_t>(array.n_elements));
  switch (array.type) {
    case GgufType::kU8:
    case GgufType::kBool: append_numbers<uint8_t>(array, numbers); break;
    case GgufType::kI8: append_numbers<int8_t>(array, numbers); break;
    case GgufType::kU16: append_numbers<uint16_t>(array, numbers); break;
    case GgufType::kI16: append_numbers<int16_t>(array, numbers); break;
    case GgufType::kU32: append_numbers<uint32_t>(array, numbers); break;
    case GgufType::kI32: append_numbers<int32_t>(array, numbers); break;
    case GgufType::kU64: append_numbers<uint64_t>(array, numbers); break;
    case GgufType::kI64: append_numbers<int64_t>(array, numbers); break;
    case GgufType::kF32: append_numbers<float>(array, numbers); break;
    case GgufType::kF64: append_numbers<double>(array, numbers); break;
    case GgufType::kString:
    case GgufType::kArray: break;
  }
  return numbers;
}

}  // namespace banyan
