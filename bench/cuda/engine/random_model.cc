#include "random_model.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "base/half.h"
#include "base/json.h"

namespace banyan::bench {

namespace {

constexpr size_t kPieceValues = size_t{1} << 22;

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  int64_t n_values() const { return shape.size() == 1 ? shape[0] : shape[0] * shape[1]; }
  uint64_t n_bytes() const { return 2 * static_cast<uint64_t>(n_values()); }
};

struct Shard {
  std::string file;
  std::vector<Tensor> tensors;
};

Tensor matrix(const std::string& name, int64_t rows, int64_t cols) { return {name + ".weight", {rows, cols}}; }
Tensor vector(const std::string& name, int64_t n) { return {name + ".weight", {n}}; }

// One shard a layer, and one each for the embedding and the head, so that all cores write.
std::vector<Shard> model_shards(const Shape& s) {
  std::vector<Shard> shards{{"embedding.safetensors", {matrix("model.embed_tokens", s.vocab_size, s.dim), vector("model.norm", s.dim)}}};
  if (!s.is_tied) shards.push_back({"head.safetensors", {matrix("lm_head", s.vocab_size, s.dim)}});
  for (int i = 0; i < s.n_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + '.';
    shards.push_back({"layer" + std::to_string(i) + ".safetensors",
        {vector(layer + "input_layernorm", s.dim), vector(layer + "post_attention_layernorm", s.dim),
            matrix(layer + "self_attn.q_proj", s.q_dim(), s.dim), matrix(layer + "self_attn.k_proj", s.kv_dim(), s.dim),
            matrix(layer + "self_attn.v_proj", s.kv_dim(), s.dim), matrix(layer + "self_attn.o_proj", s.dim, s.q_dim()),
            matrix(layer + "mlp.gate_proj", s.ffn_dim, s.dim), matrix(layer + "mlp.up_proj", s.ffn_dim, s.dim),
            matrix(layer + "mlp.down_proj", s.dim, s.ffn_dim)}});
  }
  return shards;
}

Shard adapter_shard(const Shape& s) {
  Shard shard{"adapter.safetensors", {}};
  for (int i = 0; i < s.n_injected_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".cross_attn.";
    shard.tensors.push_back(vector(layer + "layernorm", s.dim));
    shard.tensors.push_back(matrix(layer + "q_proj", s.q_dim(), s.dim));
    shard.tensors.push_back(matrix(layer + "o_proj", s.dim, s.q_dim()));
  }
  return shard;
}

// Vectors are 1. Matrices are uniform with the variance 1 / columns, so that products have the size of what is multiplied.
void fill(uint16_t* out, size_t n, const Tensor& tensor, uint64_t& state) {
  if (tensor.shape.size() == 1) return static_cast<void>(std::fill_n(out, n, f32_to_bf16(1.0f)));
  const float scale = std::sqrt(3.0f / static_cast<float>(tensor.shape[1]));
  for (size_t i = 0; i < n; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    out[i] = f32_to_bf16((static_cast<float>(state >> 40) * 0x1p-23f - 1.0f) * scale);
  }
}

void write_shard(const std::filesystem::path& folder, const Shard& shard, uint64_t seed) {
  JsonWriter header;
  header.begin_object();
  uint64_t offset = 0;
  for (const Tensor& tensor : shard.tensors) {
    header.key(tensor.name).begin_object().key("dtype").string("BF16").key("shape").begin_array();
    for (const int64_t n : tensor.shape) header.integer(n);
    header.end_array().key("data_offsets").begin_array().integer(static_cast<int64_t>(offset));
    header.integer(static_cast<int64_t>(offset += tensor.n_bytes())).end_array().end_object();
  }
  header.end_object();
  std::string text = header.text();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i));
  text.insert(0, length);

  const std::string path = (folder / shard.file).string();
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  std::vector<uint16_t> piece;
  uint64_t state = seed;
  for (const Tensor& tensor : shard.tensors) {
    for (auto n_left = static_cast<size_t>(tensor.n_values()); n_left > 0; n_left -= piece.size()) {
      piece.resize(std::min(n_left, kPieceValues));
      fill(piece.data(), piece.size(), tensor, state);
      file.write(reinterpret_cast<const char*>(piece.data()), static_cast<std::streamsize>(2 * piece.size()));
    }
  }
  file.close();
  if (!file) throw Error(Code::kIo, path + " cannot be written: is there room for it?");
}

// By all cores, a shard at a time.
void write_shards(const std::filesystem::path& folder, const std::vector<Shard>& shards) {
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr error;
  const auto work = [&] {
    for (size_t i; (i = next++) < shards.size();) {
      try {
        write_shard(folder, shards[i], i + 1);
      } catch (...) {
        const std::lock_guard lock(mutex);
        error = std::current_exception();
        next = shards.size();
      }
    }
  };
  std::vector<std::thread> threads;
  const size_t n_threads = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, shards.size());
  for (size_t i = 0; i < n_threads; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
}

std::string index_json(const std::vector<Shard>& shards) {
  JsonWriter json;
  json.begin_object().key("weight_map").begin_object();
  for (const Shard& shard : shards) {
    for (const Tensor& tensor : shard.tensors) json.key(tensor.name).string(shard.file);
  }
  return json.end_object().end_object().text();
}

std::string config_json(const Shape& s, int64_t window) {
  JsonWriter json;
  json.begin_object().key("architectures").begin_array().string("LlamaForCausalLM").end_array().key("model_type").string("llama");
  const std::pair<const char*, int64_t> numbers[] = {{"hidden_size", s.dim}, {"intermediate_size", s.ffn_dim}, {"num_hidden_layers", s.n_layers},
      {"num_attention_heads", s.n_heads}, {"num_key_value_heads", s.n_kv_heads}, {"head_dim", s.head_dim}, {"vocab_size", s.vocab_size},
      {"max_position_embeddings", window}, {"rope_theta", 500000}};
  for (const auto& [key, value] : numbers) json.key(key).integer(value);
  json.key("rms_norm_eps").number(1e-5).key("hidden_act").string("silu").key("tie_word_embeddings").boolean(s.is_tied);
  return json.key("torch_dtype").string("bfloat16").end_object().text();
}

std::string adapter_json(const Shape& s) {
  JsonWriter json;
  json.begin_object().key("format").string("banyan-adapter").key("version").integer(1).key("method").string("sharedllm");
  json.key("semantics").string("nested").key("slot_kind").string("mean").key("positions").string("banded").key("lower").string("shared");
  json.key("num_cross_attn_layers").integer(-s.n_injected_layers).key("segment_tree_depth").integer(s.depth);
  json.key("last_p").string(std::to_string(s.n_slots)).key("chunk_size").integer(s.chunk_size).key("do_retrieval").boolean(true);
  json.key("selection").string("token_keys").key("selection_layer").integer(s.n_injected_layers / 2).key("selection_heads").begin_array();
  return json.integer(0).end_array().end_object().text();
}

std::string text_of(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw Error(Code::kIo, path.string() + " cannot be written");
}

}  // namespace

LoadPaths write_random_model(const std::string& folder, const Shape& shape, int64_t window) {
  const std::filesystem::path root(folder), model = root / "model", adapter = root / "adapter";
  const std::string config = config_json(shape, window), settings = adapter_json(shape);
  LoadPaths paths(model.string(), adapter.string());
  // The configurations are written last: where they agree, all of it is there.
  if (text_of(model / "config.json") == config && text_of(adapter / "adapter_config.json") == settings) return paths;
  std::filesystem::create_directories(model);
  std::filesystem::create_directories(adapter);
  const std::vector<Shard> shards = model_shards(shape);
  write_shards(model, shards);
  write_shard(adapter, adapter_shard(shape), 1000);
  write_text(model / "model.safetensors.index.json", index_json(shards));
  write_text(model / "config.json", config);
  write_text(adapter / "adapter_config.json", settings);
  return paths;
}

}  // namespace banyan::bench
