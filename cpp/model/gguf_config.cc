// Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and llama.cpp, src/llama-arch.cpp; defaults as in llama.cpp, src/llama-model.cpp.
#include "model/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace banyan {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();

class Metadata {
 public:
  explicit Metadata(const Gguf& gguf) : gguf_(gguf) {}

  const GgufValue* find(const std::string& key) const {
    const auto at = gguf_.metadata.find(key);
    return at == gguf_.metadata.end() ? nullptr : &at->second;
  }
  bool has(const std::string& key) const { return find(key) != nullptr; }

  [[noreturn]] void fail(const std::string& key, const std::string& what, Code code = Code::kBadModelFile) const {
    const GgufValue* value = find(key);
    throw Error(code, gguf_.file.path() + ": key " + key + " " + what + (value == nullptr ? "" : ", at byte " + std::to_string(value->offset)));
  }

  std::optional<int64_t> integer(const std::string& key, int64_t low, int64_t high) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    int64_t number = 0;
    if (const int64_t* exact = std::get_if<int64_t>(&value->value)) {
      number = *exact;
    } else if (const uint64_t* large = std::get_if<uint64_t>(&value->value)) {
      number = static_cast<int64_t>(std::min<uint64_t>(*large, std::numeric_limits<int64_t>::max()));
    } else if (const GgufArray* array = std::get_if<GgufArray>(&value->value)) {
      number = uniform(key, *array);
    } else {
      fail(key, "must be an integer");
    }
    if (number < low || number > high)
      fail(key, "must be from " + std::to_string(low) + " to " + std::to_string(high) + " but is " + std::to_string(number));
    return number;
  }

  int64_t required_integer(const std::string& key, int64_t low, int64_t high) const {
    const std::optional<int64_t> number = integer(key, low, high);
    if (!number) fail(key, "is missing");
    return *number;
  }

  std::optional<double> number(const std::string& key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (const double* real = std::get_if<double>(&value->value)) return *real;
    if (const int64_t* exact = std::get_if<int64_t>(&value->value)) return static_cast<double>(*exact);
    fail(key, "must be a number");
  }

  std::optional<bool> boolean(const std::string& key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (const bool* flag = std::get_if<bool>(&value->value)) return *flag;
    fail(key, "must be a boolean");
  }

  std::string string_or(const std::string& key, const std::string& fallback) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return fallback;
    if (const auto* text = std::get_if<std::string_view>(&value->value)) return std::string(*text);
    fail(key, "must be a string");
  }

  std::vector<std::string> strings(const std::string& key) const {
    const GgufArray* array = find_array(key);
    if (array == nullptr) return {};
    if (array->type != GgufType::kString) fail(key, "must be an array of strings");
    return gguf_strings(*array);
  }

  std::vector<double> numbers(const std::string& key) const {
    const GgufArray* array = find_array(key);
    if (array == nullptr) return {};
    if (array->type == GgufType::kString) fail(key, "must be an array of numbers");
    return gguf_numbers(*array);
  }

 private:
  const GgufArray* find_array(const std::string& key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return nullptr;
    const GgufArray* array = std::get_if<GgufArray>(&value->value);
    if (array == nullptr) fail(key, "must be an array");
    return array;
  }

  // Some converters write one number per layer. We run models whose layers are alike.
  int64_t uniform(const std::string& key, const GgufArray& array) const {
    if (array.type == GgufType::kString || array.n_elements == 0) fail(key, "must be an integer");
    const std::vector<double> values = gguf_numbers(array);
    if (std::any_of(values.begin(), values.end(), [&](double value) { return value != values.front(); })) {
      fail(key, "differs from layer to layer, which is not supported", Code::kUnsupportedModel);
    }
    if (!(values.front() == std::floor(values.front()) && std::abs(values.front()) < 0x1p53)) fail(key, "must hold integers");
    return static_cast<int64_t>(values.front());
  }

  const Gguf& gguf_;
};

void refuse_unsupported(const Metadata& metadata, const std::string& arch) {
  const auto unsupported = [&](const std::string& key) { metadata.fail(key, "has a value that is not supported", Code::kUnsupportedModel); };
  for (const char* name : {"expert_count", "expert_used_count", "attention.shared_kv_layers"}) {
    const std::string key = arch + "." + name;
    if (metadata.number(key).value_or(0) != 0) unsupported(key);
  }
  for (const char* name : {"logit_scale", "embedding_scale", "residual_scale", "attention.clamp_kqv", "attn_logit_softcapping",
           "final_logit_softcapping", "attention.scale", "attention.temperature_scale"}) {
    if (metadata.has(arch + "." + name)) unsupported(arch + "." + name);
  }
  if (!metadata.boolean(arch + ".attention.causal").value_or(true)) unsupported(arch + ".attention.causal");
  if (metadata.integer("split.count", 0, kMaxInt).value_or(0) > 1) {
    metadata.fail("split.count", "says that this is one of several files, which is not supported; merge them first", Code::kUnsupportedModel);
  }
}

void read_rope(const Metadata& metadata, const std::string& arch, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  const std::string prefix = arch + ".rope.";
  rope.is_interleaved = arch == "llama";  // the converter permutes the rows of q and k for this architecture only
  if (const auto rotated = metadata.integer(prefix + "dimension_count", 0, kMaxInt); rotated && *rotated != config.head_dim) {
    metadata.fail(prefix + "dimension_count",
        "is " + std::to_string(*rotated) + " but the head size is " + std::to_string(config.head_dim) + "; partial rotation is not supported",
        Code::kUnsupportedModel);
  }
  rope.theta = metadata.number(prefix + "freq_base").value_or(10000.0);
  const std::string type = metadata.string_or(prefix + "scaling.type", "linear");
  const bool has_factor = metadata.number(prefix + "scaling.factor").value_or(0) != 0;
  const std::string factor_key = prefix + (has_factor ? "scaling.factor" : "scale_linear");
  rope.factor = metadata.number(factor_key).value_or(1.0);
  if (rope.factor == 0) rope.factor = 1.0;  // llama.cpp: not set
  if (!(rope.factor >= 1.0 && std::isfinite(rope.factor))) metadata.fail(factor_key, "must be at least 1");
  if (type == "none" || (type == "linear" && rope.factor == 1.0)) {
    rope.factor = 1.0;
  } else if (type == "linear") {
    rope.scaling = RopeScaling::kLinear;
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::kYarn;
    rope.original_window = metadata.integer(prefix + "scaling.original_context_length", 1, kMaxInt).value_or(config.window);
    rope.beta_fast = metadata.number(prefix + "scaling.yarn_beta_fast").value_or(rope.beta_fast);
    rope.beta_slow = metadata.number(prefix + "scaling.yarn_beta_slow").value_or(rope.beta_slow);
    // llama.cpp multiplies its own 0.1 ln(factor) + 1 by this key.
    if (const auto times = metadata.number(prefix + "scaling.attn_factor")) {
      if (!(*times > 0 && std::isfinite(*times))) metadata.fail(prefix + "scaling.attn_factor", "must be positive");
      rope.attention_factor = *times * (0.1 * std::log(rope.factor) + 1.0);
    }
    for (const char* name : {"scaling.yarn_ext_factor", "scaling.yarn_attn_factor", "scaling.yarn_log_multiplier"}) {
      if (metadata.has(prefix + name)) metadata.fail(prefix + name, "is not supported", Code::kUnsupportedModel);
    }
  } else {
    metadata.fail(prefix + "scaling.type", "is \"" + type.substr(0, 100) + "\", which is not supported", Code::kUnsupportedModel);
  }
}

// Llama 3.1 and later: the converter turns rope_scaling "llama3" into one divisor per pair.
void read_rope_factors(const Gguf& gguf, ModelConfig& config) {
  for (const char* name : {"rope_factors_long.weight", "rope_factors_short.weight"}) {
    if (gguf.tensors.contains(name)) throw Error(Code::kUnsupportedModel, gguf.file.path() + ": tensor " + name + " is not supported");
  }
  const auto at = gguf.tensors.find("rope_freqs.weight");
  if (at == gguf.tensors.end()) return;
  const TensorView& view = at->second.view;
  if (!at->second.is_readable || !is_float_vector(view) || view.shape[0] != config.head_dim / 2) {
    throw Error(Code::kBadTensor, gguf.file.path() + ": tensor rope_freqs.weight must hold " + std::to_string(config.head_dim / 2) + " floats");
  }
  config.rope.freq_factors = to_floats(view);
}

}  // namespace

ModelConfig read_gguf_config(const Gguf& gguf) {
  const Metadata metadata(gguf);
  ModelConfig config;
  const std::string arch = metadata.string_or("general.architecture", "");
  if (arch.empty()) metadata.fail("general.architecture", "is missing");
  if (arch != "llama" && arch != "qwen2" && arch != "qwen3") {
    metadata.fail("general.architecture", "is \"" + arch.substr(0, 100) + "\"; supported are llama, qwen2 and qwen3", Code::kUnsupportedModel);
  }
  config.architecture = arch;
  refuse_unsupported(metadata, arch);
  const auto size = [&](const char* name) { return static_cast<int>(metadata.required_integer(arch + "." + name, 1, kMaxInt)); };
  config.n_layers = size("block_count");
  config.dim = size("embedding_length");
  config.ffn_dim = size("feed_forward_length");
  config.n_heads = size("attention.head_count");
  config.n_kv_heads = static_cast<int>(metadata.integer(arch + ".attention.head_count_kv", 1, kMaxInt).value_or(config.n_heads));
  const auto key_length = metadata.integer(arch + ".attention.key_length", 1, kMaxInt);
  if (!key_length && config.dim % config.n_heads != 0) metadata.fail(arch + ".attention.head_count", "does not divide the embedding length");
  config.head_dim = static_cast<int>(key_length.value_or(config.dim / config.n_heads));
  if (metadata.integer(arch + ".attention.value_length", 1, kMaxInt).value_or(config.head_dim) != config.head_dim) {
    metadata.fail(arch + ".attention.value_length", "differs from the key length, which is not supported", Code::kUnsupportedModel);
  }
  config.window = metadata.required_integer(arch + ".context_length", 1, int64_t{1} << 40);
  const std::string eps_key = arch + ".attention.layer_norm_rms_epsilon";
  if (!metadata.has(eps_key)) metadata.fail(eps_key, "is missing");
  if (const double eps = *metadata.number(eps_key); eps >= 0 && eps < 1) config.norm_eps = static_cast<float>(eps);
  else metadata.fail(eps_key, "must be from 0 to below 1");
  config.sliding_window = metadata.integer(arch + ".attention.sliding_window", 0, int64_t{1} << 40).value_or(0);

  const GgufValue* tokens = metadata.find("tokenizer.ggml.tokens");
  const GgufArray* token_array = tokens == nullptr ? nullptr : std::get_if<GgufArray>(&tokens->value);
  const auto embedding = gguf.tensors.find("token_embd.weight");
  const int64_t n_tokens = token_array != nullptr            ? static_cast<int64_t>(token_array->n_elements)
                           : embedding != gguf.tensors.end() ? embedding->second.view.shape[0]
                                                             : 0;
  config.vocab_size = static_cast<int>(metadata.integer(arch + ".vocab_size", 1, kMaxInt).value_or(std::min(n_tokens, kMaxInt)));
  if (token_array != nullptr && n_tokens > config.vocab_size) {
    metadata.fail(
        "tokenizer.ggml.tokens", "has " + std::to_string(n_tokens) + " tokens, more than the vocabulary size " + std::to_string(config.vocab_size));
  }

  read_rope(metadata, arch, config);
  read_rope_factors(gguf, config);
  config.is_tied = !gguf.tensors.contains("output.weight");
  config.has_qkv_bias = arch == "qwen2" || gguf.tensors.contains("blk.0.attn_q.bias");
  config.has_o_bias = gguf.tensors.contains("blk.0.attn_output.bias");
  config.has_mlp_bias = gguf.tensors.contains("blk.0.ffn_gate.bias");
  config.has_qk_norm = arch == "qwen3";
  for (const char* name : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    const auto id = metadata.integer(std::string("tokenizer.ggml.") + name, -1, std::numeric_limits<uint32_t>::max());
    if (!id || *id < 0 || *id >= config.vocab_size) continue;  // -1 (2^32 - 1) stands for none
    if (std::find(config.eos_ids.begin(), config.eos_ids.end(), *id) == config.eos_ids.end()) config.eos_ids.push_back(static_cast<int32_t>(*id));
  }
  const int64_t bos = metadata.integer("tokenizer.ggml.bos_token_id", -1, std::numeric_limits<uint32_t>::max()).value_or(-1);
  config.bos_id = bos < config.vocab_size ? static_cast<int32_t>(bos) : -1;
  check_config(config, gguf.file.path(), Code::kBadModelFile);
  return config;
}

std::optional<TokenizerData> read_gguf_tokenizer(const Gguf& gguf) {
  const Metadata metadata(gguf);
  const std::string prefix = "tokenizer.ggml.";
  if (!metadata.has(prefix + "model") || !metadata.has(prefix + "tokens")) return std::nullopt;
  TokenizerData data;
  data.model = metadata.string_or(prefix + "model", "");
  data.pre = metadata.string_or(prefix + "pre", "");
  data.chat_template = metadata.string_or("tokenizer.chat_template", "");
  data.tokens = metadata.strings(prefix + "tokens");
  data.merges = metadata.strings(prefix + "merges");
  for (const double score : metadata.numbers(prefix + "scores")) data.scores.push_back(static_cast<float>(score));
  for (const double type : metadata.numbers(prefix + "token_type")) {
    if (!(type >= 0 && type <= 255)) metadata.fail(prefix + "token_type", "has a type that is not from 0 to 255");
    data.token_types.push_back(static_cast<int32_t>(type));
  }
  if (!data.scores.empty() && data.scores.size() != data.tokens.size()) metadata.fail(prefix + "scores", "has another length than the tokens");
  if (!data.token_types.empty() && data.token_types.size() != data.tokens.size())
    metadata.fail(prefix + "token_type", "has another length than the tokens");
  const auto id = [&](const char* name) -> std::optional<int64_t> {
    const auto value = metadata.integer(prefix + name, -1, std::numeric_limits<uint32_t>::max());
    if (!value || *value < 0 || *value == std::numeric_limits<uint32_t>::max()) return std::nullopt;
    if (*value >= static_cast<int64_t>(data.tokens.size())) metadata.fail(prefix + name, "is no token: " + std::to_string(*value));
    return value;
  };
  data.bos_id = id("bos_token_id");
  data.eos_id = id("eos_token_id");
  data.unk_id = id("unknown_token_id");
  data.pad_id = id("padding_token_id");
  data.eot_id = id("eot_token_id");
  data.add_bos = metadata.boolean(prefix + "add_bos_token");
  data.add_eos = metadata.boolean(prefix + "add_eos_token");
  data.add_space_prefix = metadata.boolean(prefix + "add_space_prefix");
  return data;
}

TensorTable gguf_tensors(const Gguf& gguf) {
  TensorTable table;
  for (const auto& [name, tensor] : gguf.tensors)
    table.emplace(name, StoredTensor{tensor.view, gguf.file.path(), tensor.is_readable ? "" : tensor.type});
  return table;
}

}  // namespace banyan
