// adapter: the trained extra weights of a method, from an adapter directory or from the authors' keys in a full checkpoint's config.json.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "model/tensor_table.h"

namespace banyan {

enum class LowerKind : uint8_t {
  kShared,  // the base's lowest layers
  kOwn,     // the tensors encoder.*
  kLora,    // the base's lowest layers, matrices plus (alpha / rank) lora_b lora_a of encoder.layers.*
};

// Which matrices of a block may have a LoRA pair, named as in safetensors.
inline constexpr std::string_view kLoraRoles[] = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};

struct AdapterConfig {  // SharedLLM
  std::string file;     // the configuration's path, for messages
  TreeConfig tree;      // n_injected_layers = 0: there is no adapter
  LowerKind lower_kind = LowerKind::kShared;
  ModelConfig lower;  // n_layers = M
  int lora_rank = 0;  // kLora
  double lora_alpha = 0;
};

// Of a full checkpoint: `config` is its config.json, `tensors` all its tensors. Throws Error, kBadAdapter for what is wrong with the added keys.
AdapterConfig read_checkpoint_adapter(const Json& config, const std::string& config_path, const TensorTable& tensors, const ModelConfig& upper);

struct AdapterFiles {
  Method method = Method::kShared;
  AdapterConfig config;  // sharedllm
  FocusConfig focus;     // focusllm
  Safetensors weights;
};

// A directory with adapter_config.json (or the authors' config.json) and adapter.safetensors, or the path of that .safetensors file. Every tensor in
// it must be one that the adapter uses. Throws Error: kFileNotFound, kIo, kBadAdapter, kAdapterMismatch, kUnsupportedModel.
AdapterFiles open_adapter(const std::string& path, const ModelConfig& upper);

}  // namespace banyan
