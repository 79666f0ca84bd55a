// Good files, torn at every byte of their headers and with every byte changed: a reader throws Error or loads, nothing else.
#include <string>

#include "check.h"
#include "make_files.h"
#include "model/weights.h"

namespace banyan::test {
namespace {

struct Counts {
  int n_loaded = 0, n_refused = 0;
};

// Opens what `paths` name after `file` was replaced; every tensor's first and last byte is touched by the fingerprint.
void open_damaged(const TempDirectory& temp, const std::string& file, const std::string& bytes, const LoadPaths& paths, Counts& counts) {
  temp.write(file, bytes);
  try {
    ModelFiles::open(paths);
    ++counts.n_loaded;
  } catch (const Error& error) {
    ++counts.n_refused;
    if (error.code == Code::kInternal || std::string(error.what()).empty()) fail(__FILE__, __LINE__, std::string("an odd error: ") + error.what());
  }
}

// Every cut within the first `n_head` bytes and some beyond must be refused; changed bytes may load.
void damage(const TempDirectory& temp, const std::string& file, const LoadPaths& paths, size_t n_head) {
  const std::string good = read_bytes(temp.file(file));
  Counts whole, cut, changed;
  open_damaged(temp, file, good, paths, whole);
  CHECK_EQUAL(whole.n_loaded, 1);
  n_head = std::min(n_head, good.size());
  for (size_t n = 0; n < n_head; ++n) open_damaged(temp, file, good.substr(0, n), paths, cut);
  for (size_t i = 0; i < 40 && n_head < good.size(); ++i)
    open_damaged(temp, file, good.substr(0, n_head + (good.size() - 1 - n_head) * i / 39), paths, cut);
  if (cut.n_loaded != 0) fail(__FILE__, __LINE__, file + ": " + std::to_string(cut.n_loaded) + " torn files loaded");
  for (size_t at = 0; at < n_head; ++at) {
    for (const int change : {0x01, 0x80, 0xFF}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ change);
      open_damaged(temp, file, bytes, paths, changed);
    }
  }
  CHECK(changed.n_refused > 0);
  temp.write(file, good);
}

Tiny smallest(const std::string& architecture) {
  Tiny m = tiny(architecture);
  m.n_layers = 1, m.dim = 8, m.ffn_dim = 8, m.n_heads = 2, m.n_kv_heads = 1, m.head_dim = 4, m.vocab_size = 8;
  return m;
}

size_t safetensors_head(const std::string& bytes) {
  uint64_t n_bytes = 0;
  std::memcpy(&n_bytes, bytes.data(), sizeof n_bytes);
  return 8 + static_cast<size_t>(n_bytes);
}

TEST(damage_gguf) {
  const TempDirectory temp;
  const Tiny m = smallest("llama");
  const std::string path = temp.write("m.gguf", make_gguf_model(m));
  size_t n_data = 0;  // aligned as the writer does
  for (const MadeTensor& tensor : gguf_tensors_of(m)) n_data = (n_data + 31) / 32 * 32 + tensor.bytes.size();
  damage(temp, "m.gguf", {path, ""}, read_bytes(path).size() - n_data);
}

TEST(damage_safetensors) {
  const TempDirectory temp;
  const Tiny m = smallest("qwen2");
  const std::string path = write_huggingface(temp, "m", tiny_config(m), huggingface_tensors(m));
  damage(temp, "m/model.safetensors", {path, ""}, safetensors_head(read_bytes(path + "/model.safetensors")));
}

TEST(damage_config) {
  const TempDirectory temp;
  const Tiny m = smallest("llama");
  Members config = tiny_config(m);
  config["rope_scaling"] =
      R"({"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192})";
  config["num_cross_attn_layers"] = "-1", config["last_p"] = "\"8\"", config["segment_tree_depth"] = "2",
  config["encoder_config"] = json_object(tiny_config(m));
  auto tensors = huggingface_tensors(m);
  for (const auto& more : {cross_tensors(m, 1), huggingface_tensors(m, "encoder.", false)}) tensors.insert(tensors.end(), more.begin(), more.end());
  damage(temp, "m/config.json", {write_huggingface(temp, "m", config, tensors), ""}, size_t{1} << 20);
}

TEST(damage_adapter) {
  const TempDirectory temp;
  const Tiny m = smallest("llama");
  const std::string base = temp.write("m.gguf", make_gguf_model(m));
  const std::string adapter = write_adapter(temp, "a", adapter_config(m, 1), cross_tensors(m, 1));
  damage(temp, "a/adapter_config.json", {base, adapter}, size_t{1} << 20);
  damage(temp, "a/adapter.safetensors", {base, adapter}, safetensors_head(read_bytes(adapter + "/adapter.safetensors")));
}

TEST(damage_index) {
  const TempDirectory temp;
  const Tiny m = smallest("llama");
  temp.write("m/config.json", json_object(tiny_config(m)));
  temp.write("m/a.safetensors", make_safetensors(huggingface_tensors(m)));
  temp.write("m/model.safetensors.index.json", R"({"metadata":{"total_size":1},"weight_map":{"a":"a.safetensors","b":"a.safetensors"}})");
  damage(temp, "m/model.safetensors.index.json", {temp.file("m"), ""}, size_t{1} << 20);
}

}  // namespace
}  // namespace banyan::test
