// make_files: writers of small model files for the tests, independent of the readers. Everything is deterministic.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensor/dtype.h"

namespace banyan::test {

// A directory of its own, removed with everything in it.
class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  // Writes and returns the path; creates directories on the way.
  std::string write(const std::string& name, const std::string& bytes) const;

 private:
  std::string path_;
};

std::string read_bytes(const std::string& path);

// Little-endian bytes of a number.
template <class T> std::string bytes_of(T value) { return std::string(reinterpret_cast<const char*>(&value), sizeof value); }

// Small values that depend on the tensor's name, so that a mix-up is noticed. Block formats: arbitrary bytes.
std::string tensor_bytes(const std::string& name, DType dtype, const std::vector<int64_t>& shape);

// Value number `index` of tensor_bytes in F32.
float tensor_value(const std::string& name, int64_t index);

struct MadeTensor {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;  // outermost first
  std::string bytes;
};

MadeTensor make_tensor(const std::string& name, DType dtype, const std::vector<int64_t>& shape);

std::string make_safetensors(const std::vector<MadeTensor>& tensors, const std::map<std::string, std::string>& metadata = {});
// A file with this header text and `n_data` bytes of data.
std::string raw_safetensors(const std::string& header, size_t n_data);

// Metadata entries of a GGUF file as bytes: key, type, value.
class GgufEntries {
 public:
  GgufEntries& text(const std::string& key, const std::string& value);
  GgufEntries& u32(const std::string& key, uint32_t value);
  GgufEntries& u64(const std::string& key, uint64_t value);
  GgufEntries& f32(const std::string& key, float value);
  GgufEntries& boolean(const std::string& key, bool value);
  GgufEntries& texts(const std::string& key, const std::vector<std::string>& values);
  GgufEntries& f32s(const std::string& key, const std::vector<float>& values);
  GgufEntries& i32s(const std::string& key, const std::vector<int32_t>& values);
  GgufEntries& raw(const std::string& key, uint32_t type, const std::string& value);
  const std::string& bytes() const { return bytes_; }
  uint64_t count() const { return n_entries_; }

 private:
  std::string bytes_;
  uint64_t n_entries_ = 0;
};

struct GgufTensorSpec {
  std::string name;
  uint32_t type = 0;           // ggml's number
  std::vector<int64_t> shape;  // outermost first
  std::string bytes;
};

GgufTensorSpec gguf_tensor(const MadeTensor& tensor);
std::string make_gguf(const GgufEntries& entries, const std::vector<GgufTensorSpec>& tensors, uint32_t version = 3, uint32_t alignment = 32);

// A decoder small enough for tests.
struct Tiny {
  std::string architecture = "llama";
  int n_layers = 2, dim = 32, ffn_dim = 64, n_heads = 4, n_kv_heads = 2, head_dim = 8, vocab_size = 24;
  bool is_tied = false, has_qkv_bias = false, has_o_bias = false, has_mlp_bias = false, has_qk_norm = false;
  DType dtype = DType::kF32;  // of matrices
  DType vector_dtype = DType::kF32;
};

Tiny tiny(const std::string& architecture);

using Members = std::map<std::string, std::string>;  // key -> JSON text
Members tiny_config(const Tiny& model);
std::string json_object(const Members& members);

std::vector<MadeTensor> huggingface_tensors(const Tiny& model, const std::string& prefix = "model.", bool has_head = true);
std::vector<MadeTensor> cross_tensors(const Tiny& model, int n_injected, DType dtype = DType::kF32);
std::vector<MadeTensor> gguf_tensors_of(const Tiny& model);
GgufEntries gguf_entries(const Tiny& model);
std::string make_gguf_model(const Tiny& model);

// Writes config.json and model.safetensors into a directory of `at` and returns its path.
std::string write_huggingface(const TempDirectory& at, const std::string& name, const Members& config, const std::vector<MadeTensor>& tensors);

Members adapter_config(const Tiny& base, int n_injected);
std::string write_adapter(const TempDirectory& at, const std::string& name, const Members& config, const std::vector<MadeTensor>& tensors);

}  // namespace banyan::test
