// adapter: the trained extra weights of a method, from an adapter directory or from the authors' keys in a full checkpoint's config.json.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "model/tensor_table.h"

namespace banyan {

struct AdapterConfig {          // SharedLLM
  std::string file;             // the configuration's path, for messages
  TreeConfig tree;              // n_injected_layers = 0: there is no adapter
  bool is_lower_shared = true;  // else the lower model is the tensors encoder.*
  ModelConfig lower;            // n_layers = M
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
