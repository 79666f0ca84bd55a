#include "model/huggingface.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>
#include <string_view>
#include <utility>

#include "base/path.h"

namespace banyan {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();

struct Family {
  std::string_view model_type;
  int64_t window;          // max_position_embeddings if config.json has none: transformers, configuration_<family>.py
  int64_t sliding_window;  // likewise
};
constexpr Family kFamilies[] = {{"llama", 2048, 0}, {"mistral", 131072, 4096}, {"qwen2", 32768, 0}, {"qwen3", 32768, 0}};

// Settings of other decoders that share a model_type or its keys: ignoring one would run the model wrongly. Allowed only with this value.
struct Neutral {
  std::string_view key;
  double value;
};
constexpr Neutral kNeutral[] = {
    {"partial_rotary_factor", 1},
    {"attention_multiplier", 1},
    {"embedding_multiplier", 1},
    {"residual_multiplier", 1},
    {"logits_scaling", 1},
    {"logit_scale", 1},
    {"num_local_experts", 0},
    {"num_experts", 0},
    {"n_routed_experts", 0},
};
constexpr std::string_view kMustBeAbsent[] = {"quantization_config", "attn_logit_softcapping", "final_logit_softcapping", "clip_qkv",
    "no_rope_layers", "query_pre_attn_scalar", "moe_intermediate_size", "kv_lora_rank"};
constexpr std::string_view kMustBeFalse[] = {"qk_layernorm", "use_qk_norm", "parallel_attn", "rope_interleaved"};

const Family& read_family(const JsonKeys& keys, const ModelConfig* parent) {
  std::string type = keys.string_or("model_type", parent != nullptr ? parent->architecture : "");
  if (const Json* architectures = keys.find("architectures")) {
    if (architectures->array() == nullptr) keys.fail("architectures", "must be an array of strings");
    for (const Json& item : *architectures->array()) {
      const std::string* name = item.string();
      if (name == nullptr) keys.fail("architectures", "must be an array of strings");
      if (name->find("ForCausalLM") == std::string::npos) {
        keys.fail(Code::kUnsupportedModel, "architectures", "names " + *name + ", which is no causal language model");
      }
      if (type.empty()) {
        for (const Family& family : kFamilies) {
          std::string prefix(family.model_type);
          prefix[0] = static_cast<char>(prefix[0] - 'a' + 'A');
          if (*name == prefix + "ForCausalLM") type = family.model_type;
        }
      }
    }
  }
  if (type.empty()) keys.fail("model_type", "is missing");
  for (const Family& family : kFamilies) {
    if (type == family.model_type) return family;
  }
  keys.fail(Code::kUnsupportedModel, "model_type", "is \"" + type + "\"; supported are llama, mistral, qwen2 and qwen3");
}

void refuse_unsupported(const JsonKeys& keys) {
  for (const Neutral& neutral : kNeutral) {
    if (keys.number_or(neutral.key, neutral.value) != neutral.value)
      keys.fail(Code::kUnsupportedModel, neutral.key, "has a value that is not supported");
  }
  for (const std::string_view key : kMustBeAbsent) {
    if (keys.has(key)) keys.fail(Code::kUnsupportedModel, key, "is not supported");
  }
  for (const std::string_view key : kMustBeFalse) {
    if (keys.boolean_or(key, false)) keys.fail(Code::kUnsupportedModel, key, "is not supported");
  }
  for (const std::string_view key : {"hidden_act", "hidden_activation"}) {
    if (const std::string act = keys.string_or(key, "silu"); act != "silu" && act != "swish") {
      keys.fail(Code::kUnsupportedModel, key, "is \"" + act + "\"; only silu is supported");
    }
  }
}

// transformers 4: "rope_theta" and "rope_scaling"; transformers 5: both in "rope_parameters".
void read_rope(const JsonKeys& keys, int64_t window, RopeConfig& rope) {
  rope.theta = keys.number_or("rope_theta", rope.theta);
  const bool is_new = keys.has("rope_parameters");
  if (is_new && keys.has("rope_scaling")) keys.fail("rope_parameters", "stands beside \"rope_scaling\"; only one can be right");
  const std::optional<JsonKeys> scaling = keys.object(is_new ? "rope_parameters" : "rope_scaling");
  if (!scaling) return;
  for (const std::string_view key : {"full_attention", "sliding_attention"}) {
    if (scaling->has(key)) scaling->fail(Code::kUnsupportedModel, key, "is not supported: every layer must rotate alike");
  }
  rope.theta = scaling->number_or("rope_theta", rope.theta);
  if (scaling->number_or("partial_rotary_factor", 1) != 1) scaling->fail(Code::kUnsupportedModel, "partial_rotary_factor", "is not supported");
  const std::string type = scaling->string_or("rope_type", scaling->string_or("type", is_new ? "default" : ""));
  if (type.empty()) scaling->fail("rope_type", "is missing");
  if (type == "default") {
    rope.scaling = RopeScaling::kNone;
    return;
  }
  constexpr std::pair<std::string_view, RopeScaling> kTypes[] = {{"linear", RopeScaling::kLinear}, {"ntk", RopeScaling::kNtk},
      {"dynamic", RopeScaling::kDynamicNtk}, {"yarn", RopeScaling::kYarn}, {"llama3", RopeScaling::kLlama3}};
  const auto known = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& entry) { return entry.first == type; });
  if (known == std::end(kTypes)) scaling->fail(Code::kUnsupportedModel, "rope_type", "is \"" + type + "\", which is not supported");
  rope.scaling = known->second;
  if (!scaling->has("factor")) scaling->fail("factor", "is missing");
  rope.factor = scaling->number_or("factor", 1);
  if (!(rope.factor >= 1.0)) scaling->fail("factor", "must be at least 1");
  if (rope.scaling == RopeScaling::kLlama3) {
    for (const std::string_view key : {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
      if (!scaling->has(key)) scaling->fail(key, "is missing");
    }
  }
  rope.original_window = scaling->integer_or("original_max_position_embeddings", 1, kMaxInt, window);
  rope.low_freq_factor = scaling->number_or("low_freq_factor", rope.low_freq_factor);
  rope.high_freq_factor = scaling->number_or("high_freq_factor", rope.high_freq_factor);
  rope.beta_fast = scaling->number_or("beta_fast", rope.beta_fast);
  rope.beta_slow = scaling->number_or("beta_slow", rope.beta_slow);
  rope.attention_factor = scaling->number_or("attention_factor", 0);
  if (scaling->has("attention_factor") && !(rope.attention_factor > 0)) scaling->fail("attention_factor", "must be positive");
  if (!scaling->boolean_or("truncate", true)) scaling->fail(Code::kUnsupportedModel, "truncate", "is not supported");
  for (const std::string_view key : {"mscale", "mscale_all_dim", "long_factor", "short_factor", "mrope_section"}) {
    if (scaling->has(key)) scaling->fail(Code::kUnsupportedModel, key, "is not supported");
  }
}

int64_t read_sliding_window(const JsonKeys& keys, const Family& family) {
  bool has_sliding_layers = false;
  if (const Json* types = keys.find("layer_types")) {
    if (types->array() == nullptr) keys.fail("layer_types", "must be an array of strings");
    for (const Json& type : *types->array()) {
      if (type.string() == nullptr) keys.fail("layer_types", "must be an array of strings");
      if (*type.string() == "sliding_attention") {
        has_sliding_layers = true;
      } else if (*type.string() != "full_attention") {
        keys.fail(Code::kUnsupportedModel, "layer_types", "names \"" + *type.string() + "\", which is not supported");
      }
    }
  }
  if (has_sliding_layers) return keys.integer("sliding_window", 1, int64_t{1} << 40);
  if (family.model_type == "llama") return 0;
  if (family.model_type != "mistral" && !keys.boolean_or("use_sliding_window", false)) return 0;
  return keys.integer_or("sliding_window", 1, int64_t{1} << 40, keys.is_null("sliding_window") ? 0 : family.sliding_window);
}

std::vector<int32_t> read_token_ids(const JsonKeys& keys, std::string_view key, int vocab_size) {
  const Json* json = keys.find(key);
  if (json == nullptr) return {};
  std::vector<int32_t> ids;
  const auto add = [&](const Json& item) {
    if (item.integer() == nullptr || *item.integer() > kMaxInt) keys.fail(key, "must be a token id or an array of such");
    // -1 and ids beyond the vocabulary stand for "none" in some checkpoints
    if (*item.integer() >= 0 && *item.integer() < vocab_size) ids.push_back(static_cast<int32_t>(*item.integer()));
  };
  if (json->array() == nullptr) add(*json);
  else std::for_each(json->array()->begin(), json->array()->end(), add);
  return ids;
}

// Chat models end their turns with ids that only generation_config.json lists.
void add_generation_eos(const std::string& directory, ModelConfig& config) {
  const std::string path = join_path(directory, "generation_config.json");
  if (!path_exists(path)) return;
  const Json json = read_json_file(path, Code::kBadModelFile);
  for (const int32_t id : read_token_ids(JsonKeys(json, path, Code::kBadModelFile), "eos_token_id", config.vocab_size)) {
    if (std::find(config.eos_ids.begin(), config.eos_ids.end(), id) == config.eos_ids.end()) config.eos_ids.push_back(id);
  }
}

std::vector<std::string> shard_paths(const std::string& directory) {
  const std::string single = join_path(directory, "model.safetensors");
  if (path_exists(single)) return {single};
  const std::string index_path = join_path(directory, "model.safetensors.index.json");
  if (!path_exists(index_path)) { throw Error(Code::kFileNotFound, directory + ": has neither model.safetensors nor model.safetensors.index.json"); }
  const Json index = read_json_file(index_path, Code::kBadModelFile);
  const std::optional<JsonKeys> map = JsonKeys(index, index_path, Code::kBadModelFile).object("weight_map");
  if (!map) throw Error(Code::kBadModelFile, index_path + ": key \"weight_map\" is missing");
  std::set<std::string> names;
  for (const auto& [tensor, file] : *index.find("weight_map")->object()) {
    if (file.string() == nullptr) map->fail(tensor, "must be a file name");
    if (!is_plain_file_name(*file.string())) map->fail(tensor, "is no plain name of a file in the same directory");
    names.insert(*file.string());
  }
  if (names.empty()) throw Error(Code::kBadModelFile, index_path + ": key \"weight_map\" names no file");
  std::vector<std::string> paths;
  for (const std::string& name : names) paths.push_back(join_path(directory, name));
  return paths;
}

}  // namespace

Json read_json_file(const std::string& path, Code damaged) {
  const MappedFile file(path);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  return parse_json(text, path, damaged, 0, {.n_bytes = size_t{16} << 20});
}

ModelConfig read_huggingface_config(const JsonKeys& keys, const ModelConfig* parent) {
  const Family& family = read_family(keys, parent);
  refuse_unsupported(keys);
  ModelConfig config;
  if (parent != nullptr) config = *parent;
  config.architecture = family.model_type;
  const auto size = [&](std::string_view key, int inherited) {
    return static_cast<int>(inherited > 0 ? keys.integer_or(key, 1, kMaxInt, inherited) : keys.integer(key, 1, kMaxInt));
  };
  const bool has_sizes = keys.has("hidden_size") || keys.has("num_attention_heads");
  config.n_layers = size("num_hidden_layers", config.n_layers);
  config.dim = size("hidden_size", config.dim);
  config.ffn_dim = size("intermediate_size", config.ffn_dim);
  config.n_heads = size("num_attention_heads", config.n_heads);
  config.n_kv_heads = size("num_key_value_heads", parent != nullptr && !has_sizes ? config.n_kv_heads : config.n_heads);
  config.vocab_size = size("vocab_size", config.vocab_size);
  if (keys.has("head_dim")) {
    config.head_dim = static_cast<int>(keys.integer("head_dim", 1, kMaxInt));
  } else if (parent == nullptr || has_sizes) {
    if (family.model_type == "qwen3") config.head_dim = 128;  // Qwen3Config's default, not the quotient
    else if (config.dim % config.n_heads != 0) keys.fail("num_attention_heads", "does not divide hidden_size, and there is no head_dim");
    else config.head_dim = config.dim / config.n_heads;
  }
  config.window = keys.integer_or("max_position_embeddings", 1, kMaxInt, parent != nullptr ? config.window : family.window);
  const double eps = keys.number_or("rms_norm_eps", parent != nullptr ? static_cast<double>(config.norm_eps) : 1e-6);
  if (!(eps >= 0 && eps < 1)) keys.fail("rms_norm_eps", "must be from 0 to below 1");
  config.norm_eps = static_cast<float>(eps);
  config.rope.is_interleaved = false;  // always so in safetensors
  if (parent == nullptr || keys.has("rope_theta") || keys.has("rope_scaling") || keys.has("rope_parameters")) {
    config.rope = RopeConfig();
    read_rope(keys, config.window, config.rope);
  }
  config.is_tied = keys.boolean_or("tie_word_embeddings", false);
  const bool has_bias = keys.boolean_or("attention_bias", false);
  config.has_qkv_bias = family.model_type == "qwen2" || has_bias;
  config.has_o_bias = family.model_type != "qwen2" && has_bias;
  config.has_mlp_bias = keys.boolean_or("mlp_bias", false);
  config.has_qk_norm = family.model_type == "qwen3";
  config.sliding_window = read_sliding_window(keys, family);
  config.eos_ids = read_token_ids(keys, "eos_token_id", config.vocab_size);
  const std::vector<int32_t> bos_ids = read_token_ids(keys, "bos_token_id", config.vocab_size);
  config.bos_id = bos_ids.empty() ? -1 : bos_ids.front();
  check_config(config, keys.file(), keys.damaged());
  return config;
}

void add_tensors(const Safetensors& file, TensorTable& table, Code damaged) {
  for (const auto& [name, view] : file.tensors) {
    const auto [at, is_new] = table.emplace(name, StoredTensor{view, file.file.path(), ""});
    if (!is_new) throw Error(damaged, file.file.path() + ": tensor " + name + " is also in " + at->second.file);
  }
}

HuggingFaceModel open_huggingface(const std::string& directory) {
  HuggingFaceModel model;
  model.config_path = join_path(directory, "config.json");
  model.config = read_json_file(model.config_path, Code::kBadModelFile);
  model.model = read_huggingface_config(JsonKeys(model.config, model.config_path, Code::kBadModelFile));
  add_generation_eos(directory, model.model);
  for (const std::string& path : shard_paths(directory)) {
    Safetensors file = read_safetensors(path);
    add_tensors(file, model.tensors, Code::kBadModelFile);
    model.files.push_back(std::move(file.file));
  }
  if (!model.tensors.contains("lm_head.weight")) model.model.is_tied = true;
  return model;
}

}  // namespace banyan
