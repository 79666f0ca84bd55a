// weights: the tensors of a model by role, as views into mapped files. Loading checks presence, element type and shape of each.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "model/config.h"
#include "tensor/tensor.h"

namespace banyan {

// A small vector (norm, bias) is always float32 (converted at load where the file has F16/BF16); nullptr where the family has none.
struct LayerWeights {
  const float* attn_norm = nullptr;  // [D]
  WeightView q, k, v, o;             // [H*C, D], [G*C, D], [G*C, D], [D, H*C]
  const float *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr, *o_bias = nullptr;
  const float *q_norm = nullptr, *k_norm = nullptr;  // [C], qwen3
  const float* mlp_norm = nullptr;                   // [D]
  WeightView gate, up, down;                         // [F, D], [F, D], [D, F]
  const float *gate_bias = nullptr, *up_bias = nullptr, *down_bias = nullptr;
};

// Of one injected upper layer: model.layers.N.cross_attn.{layernorm,q_proj,o_proj}.weight
struct CrossWeights {
  const float* norm = nullptr;  // [D]
  WeightView q, o;              // [H*C, D], [D, H*C]; q rows are in the pair order of the lower model's rope
};

// FocusLLM: the candidate's projections of one layer; the plain ones where the adapter has none.
struct CandidateWeights {
  WeightView q, k, v, o;  // [H*C, D], [G*C, D], [G*C, D], [D, H*C]
  const float *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr, *o_bias = nullptr;
};

struct DecoderWeights {
  WeightView embedding;               // [V, D]
  std::vector<LayerWeights> layers;   // lower model: only what runs, min(M, stored)
  const float* final_norm = nullptr;  // [D]
  WeightView head;                    // [V, D]; the embedding if tied; empty for a lower model
};

// GGUF tokenizer.* metadata, handed to the SDK. Strings are the file's bytes and are valid UTF-8 or rejected.
struct TokenizerData {
  std::string model, pre, chat_template;
  std::vector<std::string> tokens, merges;
  std::vector<float> scores;
  std::vector<int32_t> token_types;
  std::optional<int64_t> bos_id, eos_id, unk_id, pad_id, eot_id;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
};

struct LoadPaths {
  LoadPaths() = default;
  // `adapter` may be empty: none.
  LoadPaths(std::string model, std::string adapter = "") : model(std::move(model)) {
    if (!adapter.empty()) adapters.push_back(std::move(adapter));
  }
  std::string model;  // a .gguf file, or a directory with config.json and *.safetensors (one or model.safetensors.index.json's shards)
  std::vector<std::string> adapters;  // each a directory with adapter_config.json + adapter.safetensors, or that .safetensors file; one a method
};

// Called once with all files of weights: when every header is sound and every tensor is there, before the tensors' values are looked at (but those that an
// adapter turns or adds to). A file that is first read here and there lies in small pages afterwards (huge_pages.h), so this is where to read it from end
// to end. May throw, which ends the opening.
using ReadFiles = std::function<void(const std::deque<MappedFile>& files)>;

// Everything of a loaded model that does not change. Owns the mappings and converted vectors; views live as long as it does.
class ModelFiles {
 public:
  // Throws Error: kInvalidArgument (a .safetensors file as model), kFileNotFound, kIo, kBadModelFile, kUnsupportedModel, kMissingTensor,
  // kBadTensor, kBadAdapter, kAdapterMismatch.
  // Messages name the file, the tensor or key, and for torn or lying files the byte offset. has_8_bit_adapter: see requantize.h.
  static std::unique_ptr<ModelFiles> open(const LoadPaths& paths, bool has_8_bit_adapter = false, const ReadFiles& read = {});
  virtual ~ModelFiles() = default;

  ModelConfig upper_config;
  ModelConfig lower_config;  // equals upper_config (with n_layers = M) when the lower model is shared
  TreeConfig tree;           // n_injected_layers = 0: no adapter
  DecoderWeights upper;
  DecoderWeights lower;  // views of `upper` where shared
  bool is_lower_shared = true;
  std::vector<CrossWeights> cross;  // M entries
  FocusConfig focus;
  std::vector<CandidateWeights> candidates;  // one a layer; empty: no FocusLLM
  std::optional<TokenizerData> tokenizer;    // GGUF only
  std::string fingerprint;                   // 32 hex digits: of the configuration, every tensor's name, type and shape, and samples of its
                                             // bytes (first, middle, last 4 KiB), of model and adapter as stored; independent of the file's path
  uint64_t n_parameters = 0;                 // upper model
  uint64_t n_bytes = 0;                      // mapped
};

}  // namespace banyan
