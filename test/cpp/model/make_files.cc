#include "make_files.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "base/half.h"
#include "base/path.h"

namespace banyan::test {
namespace {

uint64_t name_seed(const std::string& name) {
  uint64_t seed = 1469598103934665603u;  // FNV-1a
  for (const char c : name) seed = (seed ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return seed;
}

uint64_t scramble(uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

std::string quoted(const std::string& text) { return "\"" + text + "\""; }
std::string boolean(bool value) { return value ? "true" : "false"; }

uint32_t ggml_type(DType dtype) {
  switch (dtype) {
    case DType::kF32: return 0;
    case DType::kF16: return 1;
    case DType::kQ4_0: return 2;
    case DType::kQ8_0: return 8;
    case DType::kQ4_K: return 12;
    case DType::kQ5_K: return 13;
    case DType::kQ6_K: return 14;
    case DType::kI8: return 24;
    case DType::kI16: return 25;
    case DType::kI32: return 26;
    case DType::kI64: return 27;
    case DType::kF64: return 28;
    default: return 30;
  }
}

}  // namespace

TempDirectory::TempDirectory() {
  std::random_device random;
  const auto base = std::filesystem::temp_directory_path();
  std::filesystem::path path;
  do path = base / ("banyan-test-" + std::to_string(random()));
  while (!std::filesystem::create_directory(path));
  const std::u8string text = path.generic_u8string();
  path_.assign(text.begin(), text.end());
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(native_path(path_), ignored);
}

std::string TempDirectory::write(const std::string& name, const std::string& bytes) const {
  const std::string path = file(name);
  std::filesystem::create_directories(native_path(path).parent_path());
  std::ofstream(native_path(path), std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return path;
}

std::string read_bytes(const std::string& path) {
  std::ifstream file(native_path(path), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

float tensor_value(const std::string& name, int64_t index) {
  return static_cast<float>(static_cast<int>(scramble(name_seed(name) + static_cast<uint64_t>(index)) % 255) - 127) /
         64.0f;  // exact in all float formats
}

std::string tensor_bytes(const std::string& name, DType dtype, const std::vector<int64_t>& shape) {
  int64_t n_elements = 1;
  for (const int64_t n : shape) n_elements *= n;
  const DTypeTraits type = traits(dtype);
  std::string bytes;
  for (int64_t i = 0; i < n_elements; i += type.block_size) {
    if (dtype == DType::kF32) bytes += bytes_of(tensor_value(name, i));
    else if (dtype == DType::kF16) bytes += bytes_of(f32_to_f16(tensor_value(name, i)));
    else if (dtype == DType::kBF16) bytes += bytes_of(f32_to_bf16(tensor_value(name, i)));
    else
      for (int j = 0; j < type.block_bytes; ++j) bytes += static_cast<char>(scramble(name_seed(name) + static_cast<uint64_t>(i * 1000 + j)));
  }
  return bytes;
}

MadeTensor make_tensor(const std::string& name, DType dtype, const std::vector<int64_t>& shape) {
  return {name, dtype, shape, tensor_bytes(name, dtype, shape)};
}

std::string raw_safetensors(const std::string& header, size_t n_data) {
  return bytes_of<uint64_t>(header.size()) + header + std::string(n_data, '\0');
}

std::string make_safetensors(const std::vector<MadeTensor>& tensors, const std::map<std::string, std::string>& metadata) {
  Members entries;
  std::string data;
  for (const MadeTensor& tensor : tensors) {
    std::string shape;
    for (const int64_t n : tensor.shape) shape += (shape.empty() ? "" : ",") + std::to_string(n);
    const size_t begin = data.size();
    data += tensor.bytes;
    entries[tensor.name] = "{\"dtype\":\"" + std::string(traits(tensor.dtype).name) + "\",\"shape\":[" + shape + "],\"data_offsets\":[" +
                           std::to_string(begin) + "," + std::to_string(data.size()) + "]}";
  }
  if (!metadata.empty()) {
    Members quoted_members;
    for (const auto& [key, value] : metadata) quoted_members[key] = quoted(value);
    entries["__metadata__"] = json_object(quoted_members);
  }
  const std::string header = json_object(entries);
  return bytes_of<uint64_t>(header.size()) + header + data;
}

GgufEntries& GgufEntries::raw(const std::string& key, uint32_t type, const std::string& value) {
  bytes_ += bytes_of<uint64_t>(key.size()) + key + bytes_of(type) + value;
  ++n_entries_;
  return *this;
}
GgufEntries& GgufEntries::text(const std::string& key, const std::string& value) { return raw(key, 8, bytes_of<uint64_t>(value.size()) + value); }
GgufEntries& GgufEntries::u32(const std::string& key, uint32_t value) { return raw(key, 4, bytes_of(value)); }
GgufEntries& GgufEntries::u64(const std::string& key, uint64_t value) { return raw(key, 10, bytes_of(value)); }
GgufEntries& GgufEntries::f32(const std::string& key, float value) { return raw(key, 6, bytes_of(value)); }
GgufEntries& GgufEntries::boolean(const std::string& key, bool value) { return raw(key, 7, std::string(1, value ? 1 : 0)); }

GgufEntries& GgufEntries::texts(const std::string& key, const std::vector<std::string>& values) {
  std::string bytes = bytes_of<uint32_t>(8) + bytes_of<uint64_t>(values.size());
  for (const std::string& value : values) bytes += bytes_of<uint64_t>(value.size()) + value;
  return raw(key, 9, bytes);
}
GgufEntries& GgufEntries::f32s(const std::string& key, const std::vector<float>& values) {
  std::string bytes = bytes_of<uint32_t>(6) + bytes_of<uint64_t>(values.size());
  for (const float value : values) bytes += bytes_of(value);
  return raw(key, 9, bytes);
}
GgufEntries& GgufEntries::i32s(const std::string& key, const std::vector<int32_t>& values) {
  std::string bytes = bytes_of<uint32_t>(5) + bytes_of<uint64_t>(values.size());
  for (const int32_t value : values) bytes += bytes_of(value);
  return raw(key, 9, bytes);
}

GgufTensorSpec gguf_tensor(const MadeTensor& tensor) { return {tensor.name, ggml_type(tensor.dtype), tensor.shape, tensor.bytes}; }

std::string make_gguf(const GgufEntries& entries, const std::vector<GgufTensorSpec>& tensors, uint32_t version, uint32_t alignment) {
  const auto pad = [&](std::string& bytes) { bytes.resize((bytes.size() + alignment - 1) / alignment * alignment, '\0'); };
  std::string file = "GGUF" + bytes_of(version) + bytes_of<uint64_t>(tensors.size()) + bytes_of(entries.count()) + entries.bytes();
  std::string data;
  for (const GgufTensorSpec& tensor : tensors) {
    pad(data);
    file += bytes_of<uint64_t>(tensor.name.size()) + tensor.name + bytes_of(static_cast<uint32_t>(tensor.shape.size()));
    for (auto n = tensor.shape.rbegin(); n != tensor.shape.rend(); ++n) file += bytes_of(static_cast<uint64_t>(*n));
    file += bytes_of(tensor.type) + bytes_of<uint64_t>(data.size());
    data += tensor.bytes;
  }
  pad(file);
  return file + data;
}

Tiny tiny(const std::string& architecture) {
  Tiny model;
  model.architecture = architecture;
  model.has_qkv_bias = architecture == "qwen2";
  if (architecture == "qwen3") model.has_qk_norm = true, model.head_dim = 16;
  return model;
}

Members tiny_config(const Tiny& model) {
  Members config = {{"model_type", quoted(model.architecture)}, {"num_hidden_layers", std::to_string(model.n_layers)},
      {"hidden_size", std::to_string(model.dim)}, {"intermediate_size", std::to_string(model.ffn_dim)},
      {"num_attention_heads", std::to_string(model.n_heads)}, {"num_key_value_heads", std::to_string(model.n_kv_heads)},
      {"head_dim", std::to_string(model.head_dim)}, {"vocab_size", std::to_string(model.vocab_size)}, {"hidden_act", quoted("silu")},
      {"rms_norm_eps", "1e-05"}, {"max_position_embeddings", "512"}, {"rope_theta", "10000.0"}, {"rope_scaling", "null"},
      {"tie_word_embeddings", boolean(model.is_tied)}, {"bos_token_id", "1"}, {"eos_token_id", "2"}};
  if (model.has_o_bias) config["attention_bias"] = "true";
  if (model.has_mlp_bias) config["mlp_bias"] = "true";
  if (model.architecture == "mistral") config["sliding_window"] = "null";
  return config;
}

std::string json_object(const Members& members) {
  std::string text;
  for (const auto& [key, value] : members) text += (text.empty() ? "" : ",") + quoted(key) + ":" + value;
  return "{" + text + "}";
}

namespace {

struct Naming {
  const char *layer, *attn_norm, *q, *k, *v, *o, *q_norm, *k_norm, *mlp_norm, *gate, *up, *down;
};

std::vector<MadeTensor> layer_tensors(const Tiny& m, const std::string& prefix, const Naming& names) {
  const int64_t n_q = int64_t{m.n_heads} * m.head_dim, n_kv = int64_t{m.n_kv_heads} * m.head_dim;
  std::vector<MadeTensor> tensors;
  for (int i = 0; i < m.n_layers; ++i) {
    const std::string layer = prefix + names.layer + std::to_string(i) + ".";
    const auto matrix = [&](const char* role, int64_t rows, int64_t cols, bool has_bias) {
      tensors.push_back(make_tensor(layer + role + ".weight", m.dtype, {rows, cols}));
      if (has_bias) tensors.push_back(make_tensor(layer + role + ".bias", m.vector_dtype, {rows}));
    };
    const auto norm = [&](const char* role, int64_t n) { tensors.push_back(make_tensor(layer + role + ".weight", m.vector_dtype, {n})); };
    const bool has_qkv_bias = m.has_qkv_bias || m.has_o_bias;
    norm(names.attn_norm, m.dim);
    matrix(names.q, n_q, m.dim, has_qkv_bias);
    matrix(names.k, n_kv, m.dim, has_qkv_bias);
    matrix(names.v, n_kv, m.dim, has_qkv_bias);
    matrix(names.o, m.dim, n_q, m.has_o_bias);
    if (m.has_qk_norm) norm(names.q_norm, m.head_dim), norm(names.k_norm, m.head_dim);
    norm(names.mlp_norm, m.dim);
    matrix(names.gate, m.ffn_dim, m.dim, m.has_mlp_bias);
    matrix(names.up, m.ffn_dim, m.dim, m.has_mlp_bias);
    matrix(names.down, m.dim, m.ffn_dim, m.has_mlp_bias);
  }
  return tensors;
}

}  // namespace

std::vector<MadeTensor> huggingface_tensors(const Tiny& model, const std::string& prefix, bool has_head) {
  constexpr Naming kNames = {"layers.", "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
      "self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
  std::vector<MadeTensor> tensors = layer_tensors(model, prefix, kNames);
  tensors.push_back(make_tensor(prefix + "embed_tokens.weight", model.dtype, {model.vocab_size, model.dim}));
  tensors.push_back(make_tensor(prefix + "norm.weight", model.vector_dtype, {model.dim}));
  if (has_head) tensors.push_back(make_tensor("lm_head.weight", model.dtype, {model.vocab_size, model.dim}));
  return tensors;
}

std::vector<MadeTensor> cross_tensors(const Tiny& model, int n_injected, DType dtype) {
  const int64_t n_q = int64_t{model.n_heads} * model.head_dim;
  std::vector<MadeTensor> tensors;
  for (int i = 0; i < n_injected; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".cross_attn.";
    tensors.push_back(make_tensor(prefix + "layernorm.weight", dtype, {model.dim}));
    tensors.push_back(make_tensor(prefix + "q_proj.weight", dtype, {n_q, model.dim}));
    tensors.push_back(make_tensor(prefix + "o_proj.weight", dtype, {model.dim, n_q}));
  }
  return tensors;
}

std::vector<MadeTensor> gguf_tensors_of(const Tiny& model) {
  constexpr Naming kNames = {
      "blk.", "attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"};
  std::vector<MadeTensor> tensors = layer_tensors(model, "", kNames);
  tensors.push_back(make_tensor("token_embd.weight", model.dtype, {model.vocab_size, model.dim}));
  tensors.push_back(make_tensor("output_norm.weight", model.vector_dtype, {model.dim}));
  if (!model.is_tied) tensors.push_back(make_tensor("output.weight", model.dtype, {model.vocab_size, model.dim}));
  return tensors;
}

GgufEntries gguf_entries(const Tiny& model) {
  const std::string arch = model.architecture + ".";
  GgufEntries entries;
  entries.text("general.architecture", model.architecture).text("general.name", "tiny");
  entries.u32(arch + "context_length", 512).u32(arch + "embedding_length", static_cast<uint32_t>(model.dim));
  entries.u32(arch + "block_count", static_cast<uint32_t>(model.n_layers)).u32(arch + "feed_forward_length", static_cast<uint32_t>(model.ffn_dim));
  entries.u32(arch + "attention.head_count", static_cast<uint32_t>(model.n_heads))
      .u32(arch + "attention.head_count_kv", static_cast<uint32_t>(model.n_kv_heads));
  entries.u32(arch + "attention.key_length", static_cast<uint32_t>(model.head_dim))
      .u32(arch + "attention.value_length", static_cast<uint32_t>(model.head_dim));
  entries.f32(arch + "attention.layer_norm_rms_epsilon", 1e-5f).u32(arch + "rope.dimension_count", static_cast<uint32_t>(model.head_dim));
  entries.f32(arch + "rope.freq_base", 10000.0f);
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (int i = 0; i < model.vocab_size; ++i) tokens.push_back("t" + std::to_string(i)), scores.push_back(-static_cast<float>(i)), types.push_back(1);
  tokens[3] = "\xE2\x96\x81\xC3\xA9";  // ▁é
  entries.text("tokenizer.ggml.model", "llama").text("tokenizer.ggml.pre", "default").texts("tokenizer.ggml.tokens", tokens);
  entries.f32s("tokenizer.ggml.scores", scores).i32s("tokenizer.ggml.token_type", types).texts("tokenizer.ggml.merges", {"t 0", "t 1"});
  entries.u32("tokenizer.ggml.bos_token_id", 1)
      .u32("tokenizer.ggml.eos_token_id", 2)
      .u32("tokenizer.ggml.eot_token_id", 5)
      .u32("tokenizer.ggml.unknown_token_id", 0);
  entries.boolean("tokenizer.ggml.add_bos_token", true)
      .boolean("tokenizer.ggml.add_eos_token", false)
      .boolean("tokenizer.ggml.add_space_prefix", true);
  entries.text("tokenizer.chat_template", "{{ messages }}");
  return entries;
}

std::string make_gguf_model(const Tiny& model) {
  std::vector<GgufTensorSpec> tensors;
  for (const MadeTensor& tensor : gguf_tensors_of(model)) tensors.push_back(gguf_tensor(tensor));
  return make_gguf(gguf_entries(model), tensors);
}

std::string write_huggingface(const TempDirectory& at, const std::string& name, const Members& config, const std::vector<MadeTensor>& tensors) {
  at.write(name + "/config.json", json_object(config));
  at.write(name + "/model.safetensors", make_safetensors(tensors, {{"format", "pt"}}));
  return at.file(name);
}

Members adapter_config(const Tiny& base, int n_injected) {
  return {{"format", quoted("banyan-adapter")}, {"version", "1"}, {"method", quoted("sharedllm")}, {"semantics", quoted("paper")},
      {"slot_kind", quoted("mean")}, {"num_cross_attn_layers", std::to_string(-n_injected)}, {"segment_tree_depth", "2"}, {"last_p", quoted("32")},
      {"chunk_size", "256"}, {"do_retrieval", "true"}, {"lower", quoted("shared")},
      {"base", json_object({{"model_type", quoted(base.architecture)}, {"hidden_size", std::to_string(base.dim)},
                   {"num_hidden_layers", std::to_string(base.n_layers)}, {"vocab_size", std::to_string(base.vocab_size)}})}};
}

std::string write_adapter(const TempDirectory& at, const std::string& name, const Members& config, const std::vector<MadeTensor>& tensors) {
  at.write(name + "/adapter_config.json", json_object(config));
  at.write(name + "/adapter.safetensors", make_safetensors(tensors));
  return at.file(name);
}

}  // namespace banyan::test
