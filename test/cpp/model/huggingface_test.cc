#include <filesystem>

#include "base/half.h"
#include "check.h"
#include "make_files.h"
#include "model/weights.h"

namespace banyan::test {
namespace {

std::unique_ptr<ModelFiles> open(const std::string& path) { return ModelFiles::open({path, ""}); }

void check_matrix(const WeightView& view, const std::string& name, DType dtype, int64_t rows, int64_t cols) {
  CHECK(view.dtype == dtype && view.rows == rows && view.cols == cols);
  const std::string bytes = tensor_bytes(name, dtype, {rows, cols});
  if (!view || std::memcmp(view.data, bytes.data(), bytes.size()) != 0) fail(__FILE__, __LINE__, name + " is another tensor");
}

void check_vector(const float* vector, const std::string& name, int n) {
  if (vector == nullptr) return fail(__FILE__, __LINE__, name + " is missing");
  for (int i = 0; i < n; ++i) CHECK_EQUAL(vector[i], tensor_value(name, i));
}

// Every role points at the tensor of its name.
void check_layers(const std::vector<LayerWeights>& layers, const std::string& prefix, const Tiny& m) {
  const int n_q = m.n_heads * m.head_dim, n_kv = m.n_kv_heads * m.head_dim;
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::string at = prefix + "layers." + std::to_string(i) + ".";
    const LayerWeights& layer = layers[i];
    check_vector(layer.attn_norm, at + "input_layernorm.weight", m.dim);
    check_matrix(layer.q, at + "self_attn.q_proj.weight", m.dtype, n_q, m.dim);
    check_matrix(layer.k, at + "self_attn.k_proj.weight", m.dtype, n_kv, m.dim);
    check_matrix(layer.v, at + "self_attn.v_proj.weight", m.dtype, n_kv, m.dim);
    check_matrix(layer.o, at + "self_attn.o_proj.weight", m.dtype, m.dim, n_q);
    check_vector(layer.mlp_norm, at + "post_attention_layernorm.weight", m.dim);
    check_matrix(layer.gate, at + "mlp.gate_proj.weight", m.dtype, m.ffn_dim, m.dim);
    check_matrix(layer.up, at + "mlp.up_proj.weight", m.dtype, m.ffn_dim, m.dim);
    check_matrix(layer.down, at + "mlp.down_proj.weight", m.dtype, m.dim, m.ffn_dim);
    const bool has_qkv = m.has_qkv_bias || m.has_o_bias;
    CHECK_EQUAL(layer.q_bias != nullptr, has_qkv);
    CHECK_EQUAL(layer.o_bias != nullptr, m.has_o_bias);
    CHECK_EQUAL(layer.down_bias != nullptr, m.has_mlp_bias);
    CHECK_EQUAL(layer.q_norm != nullptr, m.has_qk_norm);
    if (has_qkv) check_vector(layer.q_bias, at + "self_attn.q_proj.bias", n_q), check_vector(layer.k_bias, at + "self_attn.k_proj.bias", n_kv);
    if (has_qkv) check_vector(layer.v_bias, at + "self_attn.v_proj.bias", n_kv);
    if (m.has_o_bias) check_vector(layer.o_bias, at + "self_attn.o_proj.bias", m.dim);
    if (m.has_mlp_bias)
      check_vector(layer.gate_bias, at + "mlp.gate_proj.bias", m.ffn_dim), check_vector(layer.up_bias, at + "mlp.up_proj.bias", m.ffn_dim);
    if (m.has_mlp_bias) check_vector(layer.down_bias, at + "mlp.down_proj.bias", m.dim);
    if (m.has_qk_norm)
      check_vector(layer.q_norm, at + "self_attn.q_norm.weight", m.head_dim), check_vector(layer.k_norm, at + "self_attn.k_norm.weight", m.head_dim);
  }
}

TEST(huggingface_opens_every_family) {
  const TempDirectory temp;
  for (const char* architecture : {"llama", "mistral", "qwen2", "qwen3"}) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      Tiny m = tiny(architecture);
      m.dtype = m.vector_dtype = dtype;
      const auto model = open(write_huggingface(temp, std::string(architecture) + traits(dtype).name, tiny_config(m), huggingface_tensors(m)));
      const ModelConfig& c = model->upper_config;
      CHECK_EQUAL(c.architecture, architecture);
      CHECK(c.n_layers == 2 && c.dim == 32 && c.ffn_dim == 64 && c.n_heads == 4 && c.n_kv_heads == 2 && c.head_dim == m.head_dim &&
            c.vocab_size == 24 && c.window == 512);
      CHECK(c.has_qkv_bias == m.has_qkv_bias && c.has_qk_norm == m.has_qk_norm && !c.has_o_bias && !c.is_tied && !c.rope.is_interleaved &&
            c.sliding_window == 0);
      CHECK(c.bos_id == 1 && c.eos_ids == std::vector<int32_t>{2} && c.norm_eps == 1e-5f);
      CHECK(model->tree.n_injected_layers == 0 && model->cross.empty() && model->lower.layers.empty() && !model->tokenizer);
      check_layers(model->upper.layers, "model.", m);
      check_matrix(model->upper.embedding, "model.embed_tokens.weight", dtype, 24, 32);
      check_matrix(model->upper.head, "lm_head.weight", dtype, 24, 32);
      check_vector(model->upper.final_norm, "model.norm.weight", 32);
    }
  }
}

TEST(huggingface_biases_and_tying) {
  const TempDirectory temp;
  Tiny m = tiny("llama");
  m.has_o_bias = m.has_mlp_bias = true;
  const auto model = open(write_huggingface(temp, "bias", tiny_config(m), huggingface_tensors(m)));
  CHECK(model->upper_config.has_qkv_bias && model->upper_config.has_o_bias && model->upper_config.has_mlp_bias);
  check_layers(model->upper.layers, "model.", m);

  m = tiny("llama");
  const auto no_head = open(write_huggingface(temp, "nohead", tiny_config(m), huggingface_tensors(m, "model.", false)));
  CHECK(no_head->upper_config.is_tied && no_head->upper.head.data == no_head->upper.embedding.data);
  m.is_tied = true;
  const auto tied = open(write_huggingface(temp, "tied", tiny_config(m), huggingface_tensors(m)));
  CHECK(tied->upper_config.is_tied && tied->upper.head.data == tied->upper.embedding.data);
  const auto untied = open(write_huggingface(temp, "untied", tiny_config(tiny("llama")), huggingface_tensors(m)));
  CHECK_EQUAL(untied->n_parameters - tied->n_parameters, 24u * 32u);
  CHECK(tied->n_bytes > 4 * tied->n_parameters);
}

TEST(huggingface_defaults) {
  const TempDirectory temp;
  Tiny m = tiny("llama");
  m.n_kv_heads = 4;
  Members config = tiny_config(m);
  for (const char* key :
      {"num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta", "rope_scaling", "bos_token_id", "eos_token_id", "hidden_act", "model_type"})
    config.erase(key);
  config["architectures"] = "[\"LlamaForCausalLM\"]";
  config["max_position_embeddings"] = "null";
  config["eos_token_id"] = "[2,3,-1,999]";
  const std::string path = write_huggingface(temp, "m", config, huggingface_tensors(m));
  temp.write("m/generation_config.json", "{\"eos_token_id\":[3,4]}");
  const ModelConfig c = open(path)->upper_config;
  CHECK(c.architecture == "llama" && c.n_kv_heads == 4 && c.head_dim == 8 && c.norm_eps == 1e-6f && c.rope.theta == 10000.0 && c.window == 2048 &&
        c.bos_id == -1);
  CHECK(c.eos_ids == std::vector<int32_t>({2, 3, 4}));
}

TEST(huggingface_rope) {
  const TempDirectory temp;
  const auto rope = [&](const std::string& key, const std::string& value, const char* theta = "10000.0") {
    Members config = tiny_config(tiny("llama"));
    config.erase("rope_scaling");
    config["rope_theta"] = theta;
    config[key] = value;
    return open(write_huggingface(temp, "m", config, huggingface_tensors(tiny("llama"))))->upper_config.rope;
  };
  const std::string llama3 =
      R"({"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192)";
  RopeConfig r = rope("rope_scaling", llama3 + "}", "500000.0");
  CHECK(r.scaling == RopeScaling::kLlama3 && r.theta == 5e5 && r.factor == 8 && r.low_freq_factor == 1 && r.high_freq_factor == 4 &&
        r.original_window == 8192);
  r = rope("rope_parameters", llama3 + R"(,"rope_theta":500000.0})", "null");
  CHECK(r.scaling == RopeScaling::kLlama3 && r.theta == 5e5);
  r = rope("rope_parameters", R"({"rope_type":"default","rope_theta":7})");
  CHECK(r.scaling == RopeScaling::kNone && r.theta == 7);
  CHECK(rope("rope_scaling", R"({"type":"linear","factor":2})").scaling == RopeScaling::kLinear);
  CHECK(rope("rope_scaling", R"({"type":"dynamic","factor":2.0})").scaling == RopeScaling::kDynamicNtk);
  r = rope(
      "rope_scaling", R"({"type":"yarn","factor":4,"original_max_position_embeddings":128,"beta_fast":16,"beta_slow":2,"attention_factor":1.25})");
  CHECK(r.scaling == RopeScaling::kYarn && r.factor == 4 && r.original_window == 128 && r.beta_fast == 16 && r.beta_slow == 2 &&
        r.attention_factor == 1.25);
  CHECK_EQUAL(rope("rope_scaling", R"({"type":"yarn","factor":4})").original_window, 512);
  CHECK_THROWS(kUnsupportedModel, "rope_scaling.rope_type", rope("rope_scaling", R"({"rope_type":"longrope","factor":2})"));
  CHECK_THROWS(kBadModelFile, "rope_scaling.factor\" is missing", rope("rope_scaling", R"({"type":"linear"})"));
  CHECK_THROWS(kBadModelFile, "at least 1", rope("rope_scaling", R"({"type":"linear","factor":0.5})"));
  CHECK_THROWS(kBadModelFile, "low_freq_factor", rope("rope_scaling", R"({"rope_type":"llama3","factor":8})"));
  CHECK_THROWS(kBadModelFile, "rope_type", rope("rope_scaling", R"({"factor":2})"));
  CHECK_THROWS(kUnsupportedModel, "partial_rotary_factor", rope("rope_parameters", R"({"rope_type":"default","partial_rotary_factor":0.5})"));
  CHECK_THROWS(kUnsupportedModel, "full_attention", rope("rope_parameters", R"({"full_attention":{"rope_type":"default"}})"));
  CHECK_THROWS(kUnsupportedModel, "mscale", rope("rope_scaling", R"({"type":"yarn","factor":4,"mscale":1})"));
  CHECK_THROWS(kBadModelFile, "must be an object", rope("rope_scaling", "5"));
  CHECK_THROWS(kBadModelFile, "rope base", rope("rope_theta", "0"));
}

TEST(huggingface_sliding_window) {
  const TempDirectory temp;
  const auto window = [&](const char* architecture, const Members& changes) {
    Members config = tiny_config(tiny(architecture));
    config.erase("sliding_window");
    for (const auto& [key, value] : changes) config[key] = value;
    return open(write_huggingface(temp, "m", config, huggingface_tensors(tiny(architecture))))->upper_config.sliding_window;
  };
  CHECK_EQUAL(window("mistral", {}), 4096);  // the class's default
  CHECK_EQUAL(window("mistral", {{"sliding_window", "null"}}), 0);
  CHECK_EQUAL(window("mistral", {{"sliding_window", "128"}}), 128);
  CHECK_EQUAL(window("qwen2", {{"sliding_window", "128"}, {"use_sliding_window", "false"}}), 0);
  CHECK_EQUAL(window("qwen2", {{"sliding_window", "128"}, {"use_sliding_window", "true"}}), 128);
  CHECK_EQUAL(window("llama", {{"sliding_window", "128"}}), 0);
  CHECK_EQUAL(window("qwen3", {{"layer_types", "[\"full_attention\",\"full_attention\"]"}}), 0);
  CHECK_EQUAL(window("llama", {{"sliding_window", "128"}, {"layer_types", "[\"sliding_attention\"]"}}), 128);
  CHECK_THROWS(kBadModelFile, "sliding_window", window("llama", {{"layer_types", "[\"sliding_attention\"]"}}));
  CHECK_THROWS(kUnsupportedModel, "layer_types", window("llama", {{"layer_types", "[\"chunked_attention\"]"}}));
}

TEST(huggingface_refuses_configs) {
  const TempDirectory temp;
  const auto with = [&](const std::string& key, const std::string& value) {
    Members config = tiny_config(tiny("llama"));
    config[key] = value;
    return open(write_huggingface(temp, "m", config, huggingface_tensors(tiny("llama"))));
  };
  const std::pair<const char*, const char*> kUnsupported[] = {
      {"model_type", "\"gemma\""},
      {"model_type", "\"qwen2_moe\""},
      {"hidden_act", "\"gelu\""},
      {"partial_rotary_factor", "0.5"},
      {"num_local_experts", "8"},
      {"num_experts", "4"},
      {"attn_logit_softcapping", "50.0"},
      {"final_logit_softcapping", "30.0"},
      {"quantization_config", "{\"a\":1}"},
      {"logits_scaling", "8.0"},
      {"embedding_multiplier", "12"},
      {"architectures", "[\"LlamaForSequenceClassification\"]"},
      {"no_rope_layers", "[1]"},
      {"qk_layernorm", "true"},
  };
  for (const auto& [key, value] : kUnsupported) CHECK_THROWS(kUnsupportedModel, std::string("config.json: key \"") + key + "\"", with(key, value));
  const std::pair<const char*, const char*> kBad[] = {
      {"hidden_size", "null"},
      {"hidden_size", "0"},
      {"hidden_size", "-32"},
      {"hidden_size", "32.0"},
      {"hidden_size", "\"32\""},
      {"hidden_size", "99999999999"},
      {"num_hidden_layers", "0"},
      {"num_hidden_layers", "null"},
      {"vocab_size", "null"},
      {"num_attention_heads", "null"},
      {"intermediate_size", "{}"},
      {"rms_norm_eps", "1"},
      {"rms_norm_eps", "\"x\""},
      {"tie_word_embeddings", "1"},
      {"eos_token_id", "\"x\""},
      {"eos_token_id", "[1.5]"},
      {"architectures", "\"Llama\""},
      {"model_type", "5"},
      {"max_position_embeddings", "0"},
      {"rope_scaling", "[]"},
  };
  for (const auto& [key, value] : kBad) CHECK_THROWS(kBadModelFile, std::string("\"") + key, with(key, value));
  CHECK_THROWS(kBadModelFile, "no multiple", with("num_key_value_heads", "3"));
  CHECK_THROWS(kBadModelFile, "odd", with("head_dim", "7"));
  CHECK_THROWS(kBadModelFile, "number of layers", with("num_hidden_layers", "2000000000"));
  temp.write("m/config.json", "{\"model_type\":\"llama\"");
  CHECK_THROWS(kBadModelFile, "config.json: JSON ends", open(temp.file("m")));
  temp.write("m/config.json", "[]");
  CHECK_THROWS(kBadModelFile, "must be an object", open(temp.file("m")));
}

TEST(huggingface_refuses_tensors) {
  const TempDirectory temp;
  const Tiny m = tiny("qwen2");
  const auto tensors = huggingface_tensors(m);
  const auto open_with = [&](const std::vector<MadeTensor>& list) { return open(write_huggingface(temp, "m", tiny_config(m), list)); };
  for (size_t i = 0; i < tensors.size(); ++i) {
    auto list = tensors;
    list.erase(list.begin() + static_cast<std::ptrdiff_t>(i));
    if (tensors[i].name == "lm_head.weight") CHECK(open_with(list)->upper_config.is_tied);
    else CHECK_THROWS(kMissingTensor, "tensor " + tensors[i].name + " is missing", open_with(list));
    list = tensors;
    list[i] = make_tensor(tensors[i].name, DType::kI32, tensors[i].shape);
    CHECK_THROWS(kBadTensor, "tensor " + tensors[i].name + " has elements of type I32", open_with(list));
    list = tensors;
    list[i].shape.back() += 2;
    list[i] = make_tensor(tensors[i].name, DType::kF32, list[i].shape);
    CHECK_THROWS(kBadTensor, "tensor " + tensors[i].name + " has shape [", open_with(list));
    list = tensors;
    list[i].shape.push_back(1);
    CHECK_THROWS(kBadTensor, "but must have [", open_with(list));
  }
  auto extra = tensors;
  extra.push_back(make_tensor("model.layers.0.self_attn.rotary_emb.inv_freq", DType::kI64, {4}));
  CHECK_EQUAL(open_with(extra)->upper.layers.size(), 2u);  // a full checkpoint may hold more
}

TEST(huggingface_shards) {
  const TempDirectory temp;
  const Tiny m = tiny("llama");
  const auto tensors = huggingface_tensors(m);
  const std::vector<MadeTensor> first(tensors.begin(), tensors.begin() + 7), second(tensors.begin() + 7, tensors.end());
  const auto whole = open(write_huggingface(temp, "whole", tiny_config(m), tensors));
  temp.write("m/config.json", json_object(tiny_config(m)));
  temp.write("m/a.safetensors", make_safetensors(first));
  temp.write("m/b.safetensors", make_safetensors(second));
  temp.write("outside.safetensors", make_safetensors(second));
  const auto with_index = [&](const Members& map) {
    temp.write("m/model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":" + json_object(map) + "}");
    return open(temp.file("m"));
  };
  const auto sharded = with_index({{"x", "\"a.safetensors\""}, {"y", "\"b.safetensors\""}, {"z", "\"b.safetensors\""}});
  check_layers(sharded->upper.layers, "model.", m);
  CHECK_EQUAL(sharded->fingerprint, whole->fingerprint);
  CHECK_THROWS(kMissingTensor, "", with_index({{"x", "\"a.safetensors\""}}));
  CHECK_THROWS(kFileNotFound, "c.safetensors", with_index({{"x", "\"c.safetensors\""}}));
  for (const char* bad :
      {"\"../outside.safetensors\"", "\"/etc/passwd\"", "\"sub/a.safetensors\"", "\"..\"", "\"\"", "\"a\\\\b\"", "\"C:a\"", "\"a\\u0000\""}) {
    CHECK_THROWS(kBadModelFile, "no plain name", with_index({{"x", bad}}));
  }
  CHECK_THROWS(kBadModelFile, "file name", with_index({{"x", "1"}}));
  CHECK_THROWS(kBadModelFile, "names no file", with_index({}));
  temp.write("m/model.safetensors.index.json", "{\"weight_map\":[]}");
  CHECK_THROWS(kBadModelFile, "weight_map\" must be an object", open(temp.file("m")));
  temp.write("m/model.safetensors.index.json", "{}");
  CHECK_THROWS(kBadModelFile, "weight_map\" is missing", open(temp.file("m")));
  temp.write("m/b.safetensors", make_safetensors(tensors));
  CHECK_THROWS(kBadModelFile, "is also in", with_index({{"x", "\"a.safetensors\""}, {"y", "\"b.safetensors\""}}));
}

TEST(huggingface_missing_files) {
  const TempDirectory temp;
  CHECK_THROWS(kFileNotFound, "nothing", open(temp.file("nothing")));
  std::filesystem::create_directory(temp.file("empty"));
  CHECK_THROWS(kFileNotFound, "config.json", open(temp.file("empty")));
  temp.write("half/config.json", json_object(tiny_config(tiny("llama"))));
  CHECK_THROWS(kFileNotFound, "neither model.safetensors nor", open(temp.file("half")));
  CHECK_THROWS(kInvalidArgument, "named by its directory", open(temp.write("half/x.safetensors", "")));
}

TEST(fingerprint_tells_models_apart) {
  const TempDirectory temp;
  const Tiny m = tiny("llama");
  const auto tensors = huggingface_tensors(m);
  const std::string first = open(write_huggingface(temp, "a", tiny_config(m), tensors))->fingerprint;
  CHECK_EQUAL(first.size(), 32u);
  CHECK_EQUAL(open(write_huggingface(temp, "b", tiny_config(m), tensors))->fingerprint, first);
  Members config = tiny_config(m);
  config["eos_token_id"] = "3";
  CHECK_EQUAL(open(write_huggingface(temp, "b", config, tensors))->fingerprint, first);
  config["rope_theta"] = "20000";
  CHECK(open(write_huggingface(temp, "b", config, tensors))->fingerprint != first);
  for (const size_t i : {size_t{0}, tensors.size() / 2, tensors.size() - 1}) {
    for (const size_t at : {size_t{0}, tensors[i].bytes.size() / 2, tensors[i].bytes.size() - 1}) {
      auto changed = tensors;
      changed[i].bytes[at] ^= 1;
      CHECK(open(write_huggingface(temp, "b", tiny_config(m), changed))->fingerprint != first);
    }
  }
}

}  // namespace
}  // namespace banyan::test
