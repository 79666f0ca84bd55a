// Keys and tensor names of the authors: SharedLLM's released code (commit 79c3e15), configuration and modeling files.
#include "model/adapter.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include "base/decimal.h"
#include "base/path.h"
#include "model/focus_adapter.h"
#include "model/huggingface.h"

namespace banyan {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr std::string_view kLowerPrefix = "encoder.";

template <class T, size_t kCount>
T read_choice(const JsonKeys& keys, std::string_view key, T fallback, const std::pair<std::string_view, T> (&choices)[kCount]) {
  if (!keys.has(key)) return fallback;
  const std::string text = keys.string_or(key, "");
  std::string known;
  for (const auto& [name, value] : choices) {
    if (text == name) return value;
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  keys.fail(key, "is \"" + text + "\" but must be one of " + known);
}

// last_p is a string in the authors' files; a plain number means the same.
std::string read_last_p(const JsonKeys& keys) {
  const Json* json = keys.find("last_p");
  if (json == nullptr) return "64";
  if (json->string() != nullptr) return *json->string();
  if (json->integer() != nullptr) return std::to_string(*json->integer());
  if (json->number()) return to_decimal(*json->number());
  keys.fail("last_p", "must be a string or a number");
}

std::vector<int> read_heads(const JsonKeys& keys, int n_heads) {
  std::vector<int> heads;
  const Json* json = keys.find("selection_heads");
  if (json == nullptr) return heads;
  if (json->array() == nullptr) keys.fail("selection_heads", "must be an array of head numbers");
  for (const Json& item : *json->array()) {
    const int64_t* head = item.integer();
    if (head == nullptr || *head < 0 || *head >= n_heads) keys.fail("selection_heads", "must hold numbers from 0 to " + std::to_string(n_heads - 1));
    heads.push_back(static_cast<int>(*head));
  }
  return heads;
}

TreeConfig read_tree(const JsonKeys& keys, Semantics semantics, SlotKind slot_kind, const ModelConfig& upper) {
  constexpr std::pair<std::string_view, Semantics> kSemantics[] = {
      {"released", Semantics::kReleased}, {"corrected", Semantics::kCorrected}, {"paper", Semantics::kPaper}, {"nested", Semantics::kNested}};
  constexpr std::pair<std::string_view, SlotKind> kSlotKinds[] = {{"strided", SlotKind::kStrided}, {"mean", SlotKind::kMean}};
  TreeConfig tree;
  tree.semantics = read_choice(keys, "semantics", semantics, kSemantics);
  tree.slot_kind = read_choice(keys, "slot_kind", slot_kind, kSlotKinds);
  const int64_t n_layers = keys.integer("num_cross_attn_layers", -kMaxInt, kMaxInt);
  if (n_layers > 0) {
    keys.fail("num_cross_attn_layers",
        "is positive, which in the released code puts the parameters into the top layers but the memory into the lowest; "
        "write -M to inject into the lowest M layers");
  }
  if (n_layers == 0) keys.fail("num_cross_attn_layers", "is 0: nothing would be injected");
  if (-n_layers > upper.n_layers) {
    keys.fail("num_cross_attn_layers", "asks for " + std::to_string(-n_layers) + " layers but the base has " + std::to_string(upper.n_layers));
  }
  tree.n_injected_layers = static_cast<int>(-n_layers);
  tree.depth = static_cast<int>(keys.integer_or("segment_tree_depth", 1, kMaxInt, tree.depth));
  tree.chunk_size = static_cast<int>(keys.integer_or("chunk_size", 1, kMaxInt, tree.chunk_size));
  tree.do_retrieval = keys.boolean_or("do_retrieval", tree.do_retrieval);
  constexpr std::pair<std::string_view, SelectionRule> kRules[] = {{"cosine", SelectionRule::kCosine}, {"token_keys", SelectionRule::kTokenKeys}};
  tree.selection = read_choice(keys, "selection", tree.selection, kRules);
  if (tree.selection == SelectionRule::kTokenKeys) {
    tree.selection_layer = static_cast<int>(keys.integer("selection_layer", 0, tree.n_injected_layers - 1));
    tree.selection_heads = read_heads(keys, upper.n_heads);
  }
  constexpr std::pair<std::string_view, Positions> kPositions[] = {{"sum", Positions::kSum}, {"banded", Positions::kBanded}};
  tree.positions = read_choice(keys, "positions", tree.positions, kPositions);
  tree.slot_budget = keys.integer_or("slot_budget", 0, kMaxInt, tree.slot_budget);
  constexpr std::pair<std::string_view, BudgetUnit> kUnits[] = {{"chunk", BudgetUnit::kChunk}, {"group", BudgetUnit::kGroup}};
  tree.budget_unit = read_choice(keys, "budget_unit", tree.budget_unit, kUnits);
  try {
    tree.keep = parse_keep(read_last_p(keys));
  } catch (const Error& error) { keys.fail("last_p", std::string("is refused: ") + error.what()); }
  check_tree(tree, keys.file());
  return tree;
}

// By what they compute: a GGUF file tells the scaling of Llama 3.1 as a table of float32 divisors. The order of pairs is not compared.
bool is_same_rope(const ModelConfig& a, const ModelConfig& b) {
  float a_magnitude = 0, b_magnitude = 0;
  const std::vector<float> a_frequencies = rope_frequencies(a.rope, a.head_dim, &a_magnitude);
  const std::vector<float> b_frequencies = rope_frequencies(b.rope, b.head_dim, &b_magnitude);
  const auto is_near = [](float x, float y) { return std::abs(x - y) <= 1e-5f * std::abs(x); };
  return is_near(a_magnitude, b_magnitude) &&
         std::equal(a_frequencies.begin(), a_frequencies.end(), b_frequencies.begin(), b_frequencies.end(), is_near);
}

// Mistral GGUF files call themselves llama.
bool is_same_family(const std::string& a, const std::string& b) {
  const auto is_llama = [](const std::string& name) { return name == "llama" || name == "mistral"; };
  return a == b || (is_llama(a) && is_llama(b));
}

// A lower model made of the upper one's weights must be described like it.
void check_agreement(const JsonKeys& keys, const ModelConfig& lower, const ModelConfig& upper) {
  const auto require = [&](bool is_equal, const char* key) {
    if (!is_equal) keys.fail("encoder_config", std::string("has another ") + key + " than the base, whose weights the lower model shares");
  };
  require(is_same_family(lower.architecture, upper.architecture), "model_type");
  require(lower.dim == upper.dim, "hidden_size");
  require(lower.ffn_dim == upper.ffn_dim, "intermediate_size");
  require(lower.n_heads == upper.n_heads, "num_attention_heads");
  require(lower.n_kv_heads == upper.n_kv_heads, "num_key_value_heads");
  require(lower.head_dim == upper.head_dim, "head_dim");
  require(lower.vocab_size == upper.vocab_size, "vocab_size");
  require(lower.norm_eps == upper.norm_eps, "rms_norm_eps");
  require(is_same_rope(lower, upper), "rotary embedding (rope_theta, rope_scaling)");
}

// What the injected keys and values of an own lower model must have in common with the upper one (sharedllm-semantics.md, section 2).
void check_fit(const JsonKeys& keys, const TreeConfig& tree, const ModelConfig& lower, const ModelConfig& upper) {
  const auto require = [&](bool is_true, const std::string& what) {
    if (!is_true) keys.fail("encoder_config", what);
  };
  require(
      lower.head_dim == upper.head_dim, "has head size " + std::to_string(lower.head_dim) + " but the base has " + std::to_string(upper.head_dim));
  require(upper.n_heads % lower.n_kv_heads == 0, "has " + std::to_string(lower.n_kv_heads) + " key/value heads, which do not divide the base's " +
                                                     std::to_string(upper.n_heads) + " query heads");
  require(!tree.do_retrieval || lower.dim == upper.dim, "has hidden_size " + std::to_string(lower.dim) + " but the base has " +
                                                            std::to_string(upper.dim) + ": with do_retrieval their vectors are compared");
  require(lower.vocab_size >= upper.vocab_size, "has a smaller vocab_size than the base");
}

// The number N for which layers 0..N-1 begin to be stored.
int count_lower_layers(const TensorTable& tensors) {
  int n_layers = 0;
  while (tensors.contains(std::string(kLowerPrefix) + "layers." + std::to_string(n_layers) + ".input_layernorm.weight")) ++n_layers;
  return n_layers;
}

bool has_lower_tensors(const TensorTable& tensors) {
  const auto at = tensors.lower_bound(std::string(kLowerPrefix));
  return at != tensors.end() && at->first.starts_with(kLowerPrefix);
}

void read_lower(const JsonKeys& keys, const TensorTable& tensors, const ModelConfig& upper, AdapterConfig& adapter) {
  const int n_injected = adapter.tree.n_injected_layers;
  const std::optional<JsonKeys> lower_keys = keys.object("encoder_config");
  ModelConfig lower = upper;
  if (lower_keys) lower = read_huggingface_config(*lower_keys, &upper);
  if (lower_keys && lower.n_layers < n_injected) {
    keys.fail("encoder_config", "has " + std::to_string(lower.n_layers) + " layers, fewer than num_cross_attn_layers asks for");
  }
  if (adapter.lower_kind != LowerKind::kOwn) {
    if (lower_keys) check_agreement(keys, lower, upper);
    adapter.lower = upper;
  } else {
    const int n_stored = count_lower_layers(tensors);
    if (n_stored < n_injected) {
      throw Error(Code::kBadAdapter, adapter.file + ": num_cross_attn_layers asks for " + std::to_string(n_injected) + " lower layers but " +
                                         std::to_string(n_stored) + " are stored (encoder.layers." + std::to_string(n_stored) +
                                         ".input_layernorm.weight is missing)");
    }
    check_fit(keys, adapter.tree, lower, upper);
    adapter.lower = std::move(lower);
    adapter.lower.rope.is_interleaved = false;  // safetensors; the base may be a GGUF file
  }
  adapter.lower.n_layers = n_injected;
}

constexpr std::pair<std::string_view, LowerKind> kLowerKinds[] = {
    {"shared", LowerKind::kShared}, {"own", LowerKind::kOwn}, {"lora", LowerKind::kLora}};

void read_lora(const JsonKeys& keys, AdapterConfig& adapter) {
  if (adapter.lower_kind != LowerKind::kLora) return;
  adapter.lora_rank = static_cast<int>(keys.integer("lora_rank", 1, kMaxInt));
  if (!keys.has("lora_alpha")) keys.fail("lora_alpha", "is missing");
  adapter.lora_alpha = keys.number_or("lora_alpha", 0);
  if (!std::isfinite(static_cast<float>(adapter.lora_alpha))) keys.fail("lora_alpha", "must be a finite float32");
}

// The authors' keys; `tensors` decides whether the lower model is stored.
AdapterConfig read_authors_adapter(const JsonKeys& keys, const TensorTable& tensors, const ModelConfig& upper) {
  AdapterConfig adapter;
  adapter.file = keys.file();
  adapter.tree = read_tree(keys, Semantics::kReleased, SlotKind::kStrided, upper);
  constexpr std::pair<std::string_view, LowerKind> kWeights[] = {{"shared", LowerKind::kShared}, {"own", LowerKind::kOwn}};
  adapter.lower_kind = read_choice(keys, "encoder_weights", has_lower_tensors(tensors) ? LowerKind::kOwn : LowerKind::kShared, kWeights);
  adapter.lower_kind = read_choice(keys, "lower", adapter.lower_kind, kLowerKinds);  // our key, where theirs has no name for it
  read_lora(keys, adapter);
  read_lower(keys, tensors, upper, adapter);
  return adapter;
}

void check_base(const JsonKeys& base, const ModelConfig& upper) {
  const std::string type = base.string_or("model_type", upper.architecture);
  if (!is_same_family(type, upper.architecture)) {
    base.fail(Code::kAdapterMismatch, "model_type", "is \"" + type + "\" but the model is \"" + upper.architecture + "\"");
  }
  const std::pair<std::string_view, int> kSizes[] = {
      {"hidden_size", upper.dim}, {"num_hidden_layers", upper.n_layers}, {"vocab_size", upper.vocab_size}};
  for (const auto& [key, value] : kSizes) {
    if (const int64_t wanted = base.integer_or(key, 0, kMaxInt, value); wanted != value) {
      base.fail(Code::kAdapterMismatch, key, "is " + std::to_string(wanted) + " but the model has " + std::to_string(value));
    }
  }
}

// The head of our own format: whose adapter it is, and of which base.
Method read_own_method(const JsonKeys& keys, const ModelConfig& upper) {
  if (keys.string_or("format", "") != "banyan-adapter") keys.fail("format", "must be \"banyan-adapter\"");
  if (keys.integer("version", 1, kMaxInt) != 1) keys.fail(Code::kUnsupportedModel, "version", "is newer than 1");
  const std::string method = keys.string_or("method", "");
  if (method != "sharedllm" && method != "focusllm") keys.fail("method", "must be \"sharedllm\" or \"focusllm\"");
  if (const std::optional<JsonKeys> base = keys.object("base")) check_base(*base, upper);
  return method == "focusllm" ? Method::kFocus : Method::kShared;
}

AdapterConfig read_own_adapter(const JsonKeys& keys, const TensorTable& tensors, const ModelConfig& upper) {
  if (!keys.has("semantics")) keys.fail("semantics", "is missing");
  AdapterConfig adapter;
  adapter.file = keys.file();
  adapter.tree = read_tree(keys, Semantics::kPaper, SlotKind::kStrided, upper);
  adapter.lower_kind = read_choice(keys, "lower", LowerKind::kShared, kLowerKinds);
  read_lora(keys, adapter);
  read_lower(keys, tensors, upper, adapter);
  return adapter;
}

// "N.rest" -> rest, if N is a plain number below the limit.
std::optional<std::string_view> after_layer(std::string_view name, int64_t n_layers) {
  int64_t layer = -1;
  const auto [end, status] = std::from_chars(name.data(), name.data() + name.size(), layer);
  const std::string_view digits = name.substr(0, static_cast<size_t>(end - name.data()));
  const bool is_plain = status == std::errc() && digits.front() != '-' && (digits.size() == 1 || digits.front() != '0');
  if (!is_plain || layer >= n_layers) return std::nullopt;
  name.remove_prefix(digits.size());
  if (!name.starts_with('.')) return std::nullopt;
  return name.substr(1);
}

// `name` begins behind "encoder."
bool is_lora_tensor(std::string_view name, int64_t n_layers) {
  constexpr std::string_view kLayers = "layers.", kEndings[] = {".lora_a.weight", ".lora_b.weight"};
  if (!name.starts_with(kLayers)) return false;
  const auto rest = after_layer(name.substr(kLayers.size()), n_layers);
  if (!rest) return false;
  for (const std::string_view ending : kEndings) {
    if (!rest->ends_with(ending)) continue;
    const std::string_view role = rest->substr(0, rest->size() - ending.size());
    return std::find(std::begin(kLoraRoles), std::end(kLoraRoles), role) != std::end(kLoraRoles);
  }
  return false;
}

bool is_used(std::string_view name, const AdapterConfig& adapter) {
  constexpr std::string_view kCross[] = {"cross_attn.layernorm.weight", "cross_attn.q_proj.weight", "cross_attn.o_proj.weight"};
  constexpr std::string_view kBlock[] = {"input_layernorm", "post_attention_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
      "self_attn.o_proj", "self_attn.q_norm", "self_attn.k_norm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
  constexpr std::string_view kUpperLayers = "model.layers.";
  if (name.starts_with(kUpperLayers)) {
    const auto rest = after_layer(name.substr(kUpperLayers.size()), adapter.tree.n_injected_layers);
    return rest && std::find(std::begin(kCross), std::end(kCross), *rest) != std::end(kCross);
  }
  if (adapter.lower_kind == LowerKind::kShared || !name.starts_with(kLowerPrefix)) return false;
  name.remove_prefix(kLowerPrefix.size());
  if (adapter.lower_kind == LowerKind::kLora) return is_lora_tensor(name, adapter.tree.n_injected_layers);
  if (name == "embed_tokens.weight" || name == "norm.weight") return true;
  if (!name.starts_with("layers.")) return false;
  const auto rest = after_layer(name.substr(7), kMaxInt);  // layers beyond M may be stored
  if (!rest) return false;
  const size_t dot = rest->rfind('.');
  if (dot == std::string_view::npos || (rest->substr(dot) != ".weight" && rest->substr(dot) != ".bias")) return false;
  return std::find(std::begin(kBlock), std::end(kBlock), rest->substr(0, dot)) != std::end(kBlock);
}

}  // namespace

AdapterConfig read_checkpoint_adapter(const Json& config, const std::string& config_path, const TensorTable& tensors, const ModelConfig& upper) {
  const JsonKeys keys(config, config_path, Code::kBadAdapter);
  const int64_t n_layers = keys.integer_or("num_cross_attn_layers", -kMaxInt, kMaxInt, 0);
  if (n_layers != 0 && keys.boolean_or("do_cross_attention", true)) return read_authors_adapter(keys, tensors, upper);
  if (!keys.has("num_cross_attn_layers")) {
    for (const auto& [name, tensor] : tensors) {
      if (name.find(".cross_attn.") != std::string::npos) {
        throw Error(Code::kBadAdapter, config_path + ": key \"num_cross_attn_layers\" is missing but tensor " + name + " is stored");
      }
    }
  }
  return {};
}

AdapterFiles open_adapter(const std::string& path, const ModelConfig& upper) {
  const bool is_in_directory = is_directory(path);
  const std::string directory = is_in_directory ? path : parent_path(path);
  const std::string own_config = join_path(directory, "adapter_config.json");
  const bool is_own = path_exists(own_config);
  const std::string config_path = is_own ? own_config : join_path(directory, "config.json");
  std::string weights_path = path;
  if (is_in_directory) {
    weights_path = join_path(path, "adapter.safetensors");
    if (!is_own && !path_exists(weights_path)) weights_path = join_path(path, "model.safetensors");
  }
  if (!is_in_directory && !path_exists(path)) throw Error(Code::kFileNotFound, path + ": there is no such adapter");
  if (!is_own && !path_exists(config_path)) throw Error(Code::kFileNotFound, directory + ": has neither adapter_config.json nor config.json");

  const Json json = read_json_file(config_path, Code::kBadAdapter);
  const JsonKeys keys(json, config_path, Code::kBadAdapter);
  Safetensors weights = read_safetensors(weights_path, Code::kBadAdapter);
  TensorTable tensors;
  add_tensors(weights, tensors, Code::kBadAdapter);
  if (!is_own) check_base(keys, upper);
  AdapterFiles files{Method::kShared, {}, {}, std::move(weights)};
  files.method = is_own ? read_own_method(keys, upper) : has_focus(keys, tensors) ? Method::kFocus : Method::kShared;
  if (files.method == Method::kFocus) files.focus = read_focus(keys);
  else files.config = is_own ? read_own_adapter(keys, tensors, upper) : read_authors_adapter(keys, tensors, upper);
  for (const auto& [name, tensor] : tensors) {
    if (!(files.method == Method::kFocus ? is_focus_tensor(name, upper) : is_used(name, files.config)))
      throw Error(Code::kBadAdapter, weights_path + ": tensor " + name + " is none of this adapter");
  }
  return files;
}

}  // namespace banyan
