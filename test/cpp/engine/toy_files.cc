// Toys as files: safetensors with config.json, adapters, GGUF.
#include <filesystem>
#include <map>
#include <sstream>

#include "toy.h"

namespace banyan::test {

namespace {

struct Tensor {
  std::vector<int> shape;
  const std::vector<float>* data;
};
using Tensors = std::map<std::string, Tensor>;

void add(Tensors& tensors, const std::string& name, const Matrix& m) { tensors[name] = {{m.rows, m.cols}, &m.data}; }
void add(Tensors& tensors, const std::string& name, const std::vector<float>& v) {
  if (!v.empty()) tensors[name] = {{static_cast<int>(v.size())}, &v};
}

void add_block(Tensors& tensors, const std::string& prefix, const Block& b) {
  add(tensors, prefix + "input_layernorm.weight", b.attn_norm);
  add(tensors, prefix + "post_attention_layernorm.weight", b.mlp_norm);
  const std::pair<const char*, const Matrix*> matrices[] = {{"self_attn.q_proj", &b.q}, {"self_attn.k_proj", &b.k}, {"self_attn.v_proj", &b.v},
      {"self_attn.o_proj", &b.o}, {"mlp.gate_proj", &b.gate}, {"mlp.up_proj", &b.up}, {"mlp.down_proj", &b.down}};
  for (const auto& [name, m] : matrices) add(tensors, prefix + name + ".weight", *m);
  const std::pair<const char*, const std::vector<float>*> vectors[] = {{"self_attn.q_proj.bias", &b.q_bias}, {"self_attn.k_proj.bias", &b.k_bias},
      {"self_attn.v_proj.bias", &b.v_bias}, {"self_attn.q_norm.weight", &b.q_norm}, {"self_attn.k_norm.weight", &b.k_norm}};
  for (const auto& [name, v] : vectors) add(tensors, prefix + name, *v);
}

void write_safetensors(const std::string& path, const Tensors& tensors) {
  std::ostringstream header, data;
  size_t at = 0;
  header << '{';
  for (const auto& [name, tensor] : tensors) {
    const size_t n_bytes = tensor.data->size() * sizeof(float);
    header << (at == 0 ? "" : ",") << '"' << name << R"(":{"dtype":"F32","shape":[)" << tensor.shape[0];
    if (tensor.shape.size() == 2) header << ',' << tensor.shape[1];
    header << R"(],"data_offsets":[)" << at << ',' << at + n_bytes << "]}";
    data.write(reinterpret_cast<const char*>(tensor.data->data()), static_cast<std::streamsize>(n_bytes));
    at += n_bytes;
  }
  header << '}';
  const std::string text = header.str();
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i));
  write_bytes(path, length + text + data.str());
}

std::string shape_json(const Shape& s, int vocab, int64_t window = 8192) {
  std::ostringstream json;
  json << R"("model_type":")" << s.family << R"(","hidden_size":)" << s.dim << R"(,"intermediate_size":)" << s.ffn_dim << R"(,"num_hidden_layers":)"
       << s.n_layers << R"(,"num_attention_heads":)" << s.n_heads << R"(,"num_key_value_heads":)" << s.n_kv_heads << R"(,"head_dim":)" << s.head_dim
       << R"(,"vocab_size":)" << vocab << R"(,"rms_norm_eps":1e-5,"rope_theta":)" << s.theta << R"(,"max_position_embeddings":)" << window
       << R"(,"tie_word_embeddings":false)";
  if (s.family == "mistral") {
    if (s.sliding_window > 0) json << R"(,"sliding_window":)" << s.sliding_window;
    else json << R"(,"sliding_window":null)";
  }
  return json.str();
}

std::string tree_json(const ToySpec& spec) {
  static constexpr const char* kSemantics[] = {"released", "corrected", "paper", "nested"};
  std::ostringstream json;
  json << R"("num_cross_attn_layers":)" << -spec.n_injected << R"(,"segment_tree_depth":)" << spec.depth << R"(,"last_p":")" << spec.last_p
       << R"(","chunk_size":)" << spec.chunk_size << R"(,"do_retrieval":)" << (spec.do_retrieval ? "true" : "false") << R"(,"semantics":")"
       << kSemantics[static_cast<int>(spec.semantics)] << R"(","slot_kind":")" << (spec.slot_kind == SlotKind::kMean ? "mean" : "strided") << '"';
  if (spec.selection == SelectionRule::kTokenKeys) json << R"(,"selection":"token_keys","selection_layer":)" << spec.selection_layer;
  for (size_t i = 0; i < spec.selection_heads.size(); ++i) json << (i == 0 ? R"(,"selection_heads":[)" : ",") << spec.selection_heads[i];
  if (!spec.selection_heads.empty()) json << ']';
  if (spec.positions == Positions::kBanded) json << R"(,"positions":"banded")";
  if (spec.slot_budget > 0) json << R"(,"slot_budget":)" << spec.slot_budget;
  if (spec.budget_unit == BudgetUnit::kGroup) json << R"(,"budget_unit":"group")";
  if (spec.lora_rank > 0) json << R"(,"lora_rank":)" << spec.lora_rank << R"(,"lora_alpha":)" << spec.lora_alpha;
  if (spec.lower) json << R"(,"encoder_config":{)" << shape_json(*spec.lower, spec.vocab) << '}';
  return json.str();
}

// What the base's config.json has beyond its shape.
std::string extra_json(const ToySpec& spec) {
  std::string json;
  if (spec.bos_id >= 0) json += R"(,"bos_token_id":)" + std::to_string(spec.bos_id);
  if (!spec.rope_scaling.empty()) json += R"(,"rope_scaling":)" + spec.rope_scaling;
  return json;
}

std::string focus_json(const FocusSpec& focus) {
  std::string names;
  const std::pair<bool, const char*> all[] = {{focus.has_q, "q"}, {focus.has_k, "k"}, {focus.has_v, "v"}, {focus.has_o, "o"}};
  for (const auto& [is_there, name] : all) {
    if (is_there) names += (names.empty() ? "\"" : ",\"") + std::string(name) + '"';
  }
  return R"({"format":"banyan-adapter","version":1,"method":"focusllm","beacon_param":[)" + names + R"(],"chunk_size":)" +
         std::to_string(focus.chunk_size) + R"(,"query_cap":)" + std::to_string(focus.query_cap) + '}';
}

Tensors base_tensors(const Net& net) {
  Tensors tensors;
  add(tensors, "model.embed_tokens.weight", net.embedding);
  add(tensors, "model.norm.weight", net.final_norm);
  add(tensors, "lm_head.weight", net.head);
  for (size_t i = 0; i < net.layers.size(); ++i) add_block(tensors, "model.layers." + std::to_string(i) + ".", net.layers[i]);
  return tensors;
}

Tensors cross_tensors(const Toy& toy) {
  Tensors tensors;
  for (size_t i = 0; i < toy.cross.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".cross_attn.";
    add(tensors, prefix + "layernorm.weight", toy.cross[i].norm);
    add(tensors, prefix + "q_proj.weight", toy.cross[i].q);
    add(tensors, prefix + "o_proj.weight", toy.cross[i].o);
  }
  for (const auto& [name, m] : toy.lora) add(tensors, name, m);
  if (toy.spec.lower) {
    add(tensors, "encoder.embed_tokens.weight", toy.lower.embedding);
    add(tensors, "encoder.norm.weight", toy.lower.final_norm);
    for (size_t i = 0; i < toy.lower.layers.size(); ++i) add_block(tensors, "encoder.layers." + std::to_string(i) + ".", toy.lower.layers[i]);
  }
  return tensors;
}

// Adds the adapters of this layout to the paths.
void write_adapters(const Toy& toy, const std::string& directory, Layout layout, LoadPaths& paths) {
  const ToySpec& spec = toy.spec;
  if (layout == Layout::kAdapter || layout == Layout::kBoth) {
    const std::string adapter = directory + "/adapter";
    std::filesystem::create_directories(adapter);
    write_safetensors(adapter + "/adapter.safetensors", cross_tensors(toy));
    write_bytes(adapter + "/adapter_config.json", R"({"format":"banyan-adapter","version":1,"method":"sharedllm","lower":")" +
                                                      std::string(spec.lower           ? "own"
                                                                  : spec.lora_rank > 0 ? "lora"
                                                                                       : "shared") +
                                                      R"(",)" + tree_json(spec) + '}');
    paths.adapters.push_back(adapter);
  }
  if (layout == Layout::kFocus || layout == Layout::kBoth) {
    const FocusSpec focus = spec.focus.value();
    const std::string adapter = directory + "/focus";
    Tensors tensors;
    for (size_t i = 0; i < toy.candidates.size(); ++i) {
      const Candidate& c = toy.candidates[i];
      const std::string prefix = "model.layers." + std::to_string(i) + ".self_attn.beacon_";
      if (focus.has_q) add(tensors, prefix + "q_proj.weight", c.q);
      if (focus.has_k) add(tensors, prefix + "k_proj.weight", c.k);
      if (focus.has_v) add(tensors, prefix + "v_proj.weight", c.v);
      if (focus.has_o) add(tensors, prefix + "o_proj.weight", c.o);
    }
    std::filesystem::create_directories(adapter);
    write_safetensors(adapter + "/adapter.safetensors", tensors);
    write_bytes(adapter + "/adapter_config.json", focus_json(focus));
    paths.adapters.push_back(adapter);
  }
}

template <class T> std::string bytes_of(T value) { return std::string(reinterpret_cast<const char*>(&value), sizeof value); }

}  // namespace

LoadPaths write_toy(const Toy& toy, const std::string& directory, Layout layout) {
  const ToySpec& spec = toy.spec;
  Tensors model = base_tensors(toy.upper);
  const std::string base = directory + "/base", shape = shape_json(spec.upper, spec.vocab, spec.window) + extra_json(spec);
  std::filesystem::create_directories(base);
  if (layout == Layout::kCheckpoint) model.merge(cross_tensors(toy));
  write_safetensors(base + "/model.safetensors", model);
  write_bytes(base + "/config.json",
      '{' + shape + (layout == Layout::kCheckpoint ? ',' + tree_json(spec) + (spec.lora_rank > 0 ? R"(,"lower":"lora")" : "") : "") + '}');
  LoadPaths paths(base);
  write_adapters(toy, directory, layout, paths);
  return paths;
}

LoadPaths write_gguf_toy(const Toy& toy, const std::string& directory, Layout layout) {
  const Toy other = interleaved(toy);
  const Shape& s = toy.spec.upper;
  Tensors tensors;
  add(tensors, "token_embd.weight", other.upper.embedding);
  add(tensors, "output_norm.weight", other.upper.final_norm);
  add(tensors, "output.weight", other.upper.head);
  for (size_t i = 0; i < other.upper.layers.size(); ++i) {
    const Block& b = other.upper.layers[i];
    const std::string prefix = "blk." + std::to_string(i) + '.';
    add(tensors, prefix + "attn_norm.weight", b.attn_norm);
    add(tensors, prefix + "ffn_norm.weight", b.mlp_norm);
    const std::pair<const char*, const Matrix*> matrices[] = {
        {"attn_q", &b.q}, {"attn_k", &b.k}, {"attn_v", &b.v}, {"attn_output", &b.o}, {"ffn_gate", &b.gate}, {"ffn_up", &b.up}, {"ffn_down", &b.down}};
    for (const auto& [name, m] : matrices) add(tensors, prefix + name + ".weight", *m);
  }
  std::string entries, data;
  uint64_t n_entries = 0;
  const auto entry = [&](const std::string& key, uint32_t type, const std::string& value) {
    entries += bytes_of<uint64_t>(key.size()) + key + bytes_of(type) + value;
    ++n_entries;
  };
  const auto text = [](const std::string& value) { return bytes_of<uint64_t>(value.size()) + value; };
  entry("general.architecture", 8, text("llama"));
  const std::pair<const char*, int> numbers[] = {{"context_length", static_cast<int>(toy.spec.window)}, {"embedding_length", s.dim},
      {"block_count", s.n_layers}, {"feed_forward_length", s.ffn_dim}, {"attention.head_count", s.n_heads}, {"attention.head_count_kv", s.n_kv_heads},
      {"attention.key_length", s.head_dim}, {"attention.value_length", s.head_dim}, {"rope.dimension_count", s.head_dim},
      {"vocab_size", toy.spec.vocab}};
  for (const auto& [key, value] : numbers) entry(std::string("llama.") + key, 4, bytes_of(static_cast<uint32_t>(value)));
  entry("llama.attention.layer_norm_rms_epsilon", 6, bytes_of(1e-5f));
  entry("llama.rope.freq_base", 6, bytes_of(static_cast<float>(s.theta)));
  entry("tokenizer.ggml.model", 8, text("llama"));
  std::string tokens, scores, types;
  for (int i = 0; i < toy.spec.vocab; ++i) {
    tokens += text('t' + std::to_string(i));
    scores += bytes_of(-static_cast<float>(i));
    types += bytes_of<int32_t>(1);
  }
  const auto n_tokens = static_cast<uint64_t>(toy.spec.vocab);
  entry("tokenizer.ggml.tokens", 9, bytes_of<uint32_t>(8) + bytes_of(n_tokens) + tokens);
  entry("tokenizer.ggml.scores", 9, bytes_of<uint32_t>(6) + bytes_of(n_tokens) + scores);
  entry("tokenizer.ggml.token_type", 9, bytes_of<uint32_t>(5) + bytes_of(n_tokens) + types);
  if (toy.spec.bos_id >= 0) entry("tokenizer.ggml.bos_token_id", 4, bytes_of(static_cast<uint32_t>(toy.spec.bos_id)));
  const auto pad = [](std::string& bytes) { bytes.resize((bytes.size() + 31) / 32 * 32, '\0'); };
  std::string file = "GGUF" + bytes_of<uint32_t>(3) + bytes_of<uint64_t>(tensors.size()) + bytes_of(n_entries) + entries;
  for (const auto& [name, tensor] : tensors) {
    pad(data);
    file += text(name) + bytes_of(static_cast<uint32_t>(tensor.shape.size()));
    for (auto n = tensor.shape.rbegin(); n != tensor.shape.rend(); ++n) file += bytes_of(static_cast<uint64_t>(*n));
    file += bytes_of<uint32_t>(0) + bytes_of<uint64_t>(data.size());
    data.append(reinterpret_cast<const char*>(tensor.data->data()), tensor.data->size() * sizeof(float));
  }
  pad(file);
  write_bytes(directory + "/base.gguf", file + data);
  LoadPaths paths(directory + "/base.gguf");
  write_adapters(toy, directory, layout, paths);
  return paths;
}

}  // namespace banyan::test
