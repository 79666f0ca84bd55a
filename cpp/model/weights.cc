// Roles -> tensors, and ModelFiles::open, which puts a model together.
#include "model/weights.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string_view>
#include <utility>

#include "base/aligned.h"
#include "base/error.h"
#include "base/path.h"
#include "model/adapter.h"
#include "model/fingerprint.h"
#include "model/focus_adapter.h"
#include "model/gguf.h"
#include "model/gguf_config.h"
#include "model/huggingface.h"
#include "model/lora.h"
#include "model/requantize.h"
#include "model/tensor_table.h"

namespace banyan {
namespace {

// What the two kinds of files call the same tensors; ".weight" and ".bias" follow.
struct Names {
  std::string_view embedding, final_norm, layer;
  std::string_view attn_norm, q, k, v, o, q_norm, k_norm, mlp_norm, gate, up, down;
};
constexpr Names kHuggingFaceNames = {"embed_tokens", "norm", "layers.", "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
    "self_attn.o_proj", "self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
constexpr Names kGgufNames = {"token_embd", "output_norm", "blk.", "attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm",
    "attn_k_norm", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"};

// A norm or bias; its floats are filled in when all files have been read.
struct Vector {
  TensorView stored;
  std::vector<float> floats;
};

struct LoadedFiles : ModelFiles {
  std::deque<MappedFile> files;
  std::deque<Vector> vectors;
  std::deque<AlignedBytes> rows;  // permuted query projections, matrices with their LoRA pair, in 8 bits
  float lora_scale = 0;           // alpha / rank; 0: no LoRA
};

std::string shape_text(const TensorView& view) {
  std::string text = "[";
  for (int i = 0; i < view.n_dims; ++i) text += (i == 0 ? "" : ", ") + std::to_string(view.shape[static_cast<size_t>(i)]);
  return text + "]";
}

class Binder {
 public:
  // `path` names the model or adapter where a tensor is in none of its files.
  Binder(const TensorTable& table, std::string path, LoadedFiles& storage) : table_(table), path_(std::move(path)), storage_(storage) {}

  bool has(const std::string& name) const { return table_.contains(name); }

  WeightView matrix(const std::string& name, int64_t n_rows, int64_t n_cols) const {
    const StoredTensor& tensor = find(name);
    const TensorView& view = tensor.view;
    if (view.n_dims != 2 || view.shape[0] != n_rows || view.shape[1] != n_cols) {
      throw Error(Code::kBadTensor, tensor.file + ": tensor " + name + " has shape " + shape_text(view) + " but must have [" +
                                        std::to_string(n_rows) + ", " + std::to_string(n_cols) + "]");
    }
    if (!is_weight_dtype(view.dtype) || n_cols % traits(view.dtype).block_size != 0) bad_type(name, tensor);
    return {view.data, view.dtype, n_rows, n_cols};
  }

  const float* vector(const std::string& name, int64_t n_elements) const {
    const StoredTensor& tensor = find(name);
    if (tensor.view.n_dims != 1 || tensor.view.shape[0] != n_elements) {
      throw Error(Code::kBadTensor,
          tensor.file + ": tensor " + name + " has shape " + shape_text(tensor.view) + " but must have [" + std::to_string(n_elements) + "]");
    }
    if (!is_float_vector(tensor.view)) bad_type(name, tensor);
    return storage_.vectors.emplace_back(Vector{tensor.view, std::vector<float>(static_cast<size_t>(n_elements))}).floats.data();
  }

 private:
  const StoredTensor& find(const std::string& name) const {
    const auto at = table_.find(name);
    if (at == table_.end()) throw Error(Code::kMissingTensor, path_ + ": tensor " + name + " is missing");
    if (!at->second.refused_type.empty()) {
      throw Error(
          Code::kUnsupportedModel, at->second.file + ": tensor " + name + " has the type " + at->second.refused_type + ", which is not supported");
    }
    return at->second;
  }

  [[noreturn]] static void bad_type(const std::string& name, const StoredTensor& tensor) {
    throw Error(Code::kBadTensor,
        tensor.file + ": tensor " + name + " has elements of type " + traits(tensor.view.dtype).name + ", which cannot be used here");
  }

  const TensorTable& table_;
  const std::string path_;
  LoadedFiles& storage_;
};

LayerWeights bind_layer(const Binder& binder, const Names& names, const std::string& prefix, const ModelConfig& config) {
  const int64_t n_q = int64_t{config.n_heads} * config.head_dim, n_kv = int64_t{config.n_kv_heads} * config.head_dim;
  const auto weight = [&](std::string_view role) { return prefix + std::string(role) + ".weight"; };
  const auto bias = [&](bool has_bias, std::string_view role, int64_t n) {
    return has_bias ? binder.vector(prefix + std::string(role) + ".bias", n) : nullptr;
  };
  LayerWeights layer;
  layer.attn_norm = binder.vector(weight(names.attn_norm), config.dim);
  layer.q = binder.matrix(weight(names.q), n_q, config.dim);
  layer.k = binder.matrix(weight(names.k), n_kv, config.dim);
  layer.v = binder.matrix(weight(names.v), n_kv, config.dim);
  layer.o = binder.matrix(weight(names.o), config.dim, n_q);
  layer.q_bias = bias(config.has_qkv_bias, names.q, n_q);
  layer.k_bias = bias(config.has_qkv_bias, names.k, n_kv);
  layer.v_bias = bias(config.has_qkv_bias, names.v, n_kv);
  layer.o_bias = bias(config.has_o_bias, names.o, config.dim);
  if (config.has_qk_norm) {
    layer.q_norm = binder.vector(weight(names.q_norm), config.head_dim);
    layer.k_norm = binder.vector(weight(names.k_norm), config.head_dim);
  }
  layer.mlp_norm = binder.vector(weight(names.mlp_norm), config.dim);
  layer.gate = binder.matrix(weight(names.gate), config.ffn_dim, config.dim);
  layer.up = binder.matrix(weight(names.up), config.ffn_dim, config.dim);
  layer.down = binder.matrix(weight(names.down), config.dim, config.ffn_dim);
  layer.gate_bias = bias(config.has_mlp_bias, names.gate, config.ffn_dim);
  layer.up_bias = bias(config.has_mlp_bias, names.up, config.ffn_dim);
  layer.down_bias = bias(config.has_mlp_bias, names.down, config.dim);
  return layer;
}

std::vector<LayerWeights> bind_layers(const Binder& binder, const Names& names, const std::string& prefix, const ModelConfig& config) {
  std::vector<LayerWeights> layers;
  for (int i = 0; i < config.n_layers; ++i) {
    layers.push_back(bind_layer(binder, names, prefix + std::string(names.layer) + std::to_string(i) + ".", config));
  }
  return layers;
}

DecoderWeights bind_upper(const Binder& binder, const Names& names, const std::string& prefix, const std::string& head, const ModelConfig& config) {
  DecoderWeights upper;
  upper.embedding = binder.matrix(prefix + std::string(names.embedding) + ".weight", config.vocab_size, config.dim);
  upper.final_norm = binder.vector(prefix + std::string(names.final_norm) + ".weight", config.dim);
  upper.layers = bind_layers(binder, names, prefix, config);
  upper.head = config.is_tied ? upper.embedding : binder.matrix(head, config.vocab_size, config.dim);
  return upper;
}

// An own lower model. Embedding and final norm may be the upper model's if their sizes agree.
DecoderWeights bind_lower(const Binder& binder, const ModelConfig& config, const DecoderWeights& upper, const ModelConfig& upper_config) {
  const std::string prefix = "encoder.", embedding = prefix + "embed_tokens.weight", norm = prefix + "norm.weight";
  DecoderWeights lower;
  const bool has_upper_embedding = !binder.has(embedding) && config.dim == upper_config.dim && config.vocab_size == upper_config.vocab_size;
  lower.embedding = has_upper_embedding ? upper.embedding : binder.matrix(embedding, config.vocab_size, config.dim);
  lower.final_norm = !binder.has(norm) && config.dim == upper_config.dim ? upper.final_norm : binder.vector(norm, config.dim);
  lower.layers = bind_layers(binder, kHuggingFaceNames, prefix, config);
  return lower;
}

DecoderWeights share_lower(const DecoderWeights& upper, int n_layers) {
  DecoderWeights lower = upper;
  lower.layers.resize(static_cast<size_t>(n_layers));
  lower.head = {};
  return lower;
}

// Adapters store query rows in the order of safetensors: in each head, row m turns with row m + C/2. Where the lower model's keys have interleaved pairs
// (2m, 2m + 1), as the converter made them for GGUF, the rows of q must follow the keys.
WeightView interleave(const WeightView& q, int head_dim, LoadedFiles& storage) {
  const size_t n_bytes = row_bytes(q.dtype, q.cols), n_pairs = static_cast<size_t>(head_dim) / 2;
  const auto* from = static_cast<const std::byte*>(q.data);
  AlignedBytes& rows = storage.rows.emplace_back(static_cast<size_t>(q.rows) * n_bytes);
  for (size_t row = 0; row < static_cast<size_t>(q.rows); ++row) {
    const size_t in_head = row % (2 * n_pairs);
    const size_t source = row - in_head + in_head / 2 + (in_head % 2) * n_pairs;
    std::memcpy(rows.data() + row * n_bytes, from + source * n_bytes, n_bytes);
  }
  return {rows.data(), q.dtype, q.rows, q.cols};
}

// The base's layers with what the adapter adds. Its rows are in the order of safetensors; q and k of a GGUF base may have their pairs interleaved.
DecoderWeights bind_lora(const Binder& binder, const AdapterConfig& adapter, LoadedFiles& model) {
  DecoderWeights lower = share_lower(model.upper, adapter.lower.n_layers);
  model.lora_scale = static_cast<float>(adapter.lora_alpha / adapter.lora_rank);
  const std::unique_ptr<Device> device = make_cpu_device(0, "");
  for (size_t i = 0; i < lower.layers.size(); ++i) {
    LayerWeights& layer = lower.layers[i];
    WeightView* const weights[] = {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down};
    static_assert(std::size(weights) == std::size(kLoraRoles));
    for (size_t role = 0; role < std::size(kLoraRoles); ++role) {
      const std::string name = "encoder.layers." + std::to_string(i) + "." + std::string(kLoraRoles[role]);
      const std::string a_name = name + ".lora_a.weight", b_name = name + ".lora_b.weight";
      if (!binder.has(a_name) && !binder.has(b_name)) continue;
      WeightView& weight = *weights[role];
      const WeightView a = binder.matrix(a_name, adapter.lora_rank, weight.cols);
      WeightView b = binder.matrix(b_name, weight.rows, adapter.lora_rank);
      const bool is_turned = &weight == &layer.q || &weight == &layer.k;
      if (is_turned && adapter.lower.rope.is_interleaved) b = interleave(b, adapter.lower.head_dim, model);
      const AlignedBytes& rows = model.rows.emplace_back(add_lora(*device, weight, a, b, model.lora_scale));
      weight = {rows.data(), lora_dtype(weight.dtype), weight.rows, weight.cols};
    }
  }
  return lower;
}

std::vector<CrossWeights> bind_cross(const Binder& binder, const ModelConfig& upper, const ModelConfig& lower, LoadedFiles& storage) {
  const int64_t n_q = int64_t{upper.n_heads} * upper.head_dim;
  std::vector<CrossWeights> cross;
  for (int i = 0; i < lower.n_layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".cross_attn.";
    CrossWeights layer;
    layer.norm = binder.vector(prefix + "layernorm.weight", upper.dim);
    layer.q = binder.matrix(prefix + "q_proj.weight", n_q, upper.dim);
    layer.o = binder.matrix(prefix + "o_proj.weight", upper.dim, n_q);
    if (lower.rope.is_interleaved) layer.q = interleave(layer.q, upper.head_dim, storage);
    cross.push_back(layer);
  }
  return cross;
}

void bind_shared(const Binder& binder, const AdapterConfig& adapter, LoadedFiles& model) {
  model.tree = adapter.tree;
  model.lower_config = adapter.lower;
  model.is_lower_shared = adapter.lower_kind == LowerKind::kShared;
  switch (adapter.lower_kind) {
    case LowerKind::kShared: model.lower = share_lower(model.upper, adapter.lower.n_layers); break;
    case LowerKind::kOwn: model.lower = bind_lower(binder, model.lower_config, model.upper, model.upper_config); break;
    case LowerKind::kLora: model.lower = bind_lora(binder, adapter, model); break;
  }
  model.cross = bind_cross(binder, model.upper_config, model.lower_config, model);
}

// A bias that the adapter leaves out is the plain projection's: the authors' code does not copy it, but a converted model needs it.
void bind_focus(const Binder& binder, LoadedFiles& model) {
  const ModelConfig& upper = model.upper_config;
  const int64_t n_q = int64_t{upper.n_heads} * upper.head_dim, n_kv = int64_t{upper.n_kv_heads} * upper.head_dim;
  for (int i = 0; i < upper.n_layers; ++i) {
    const LayerWeights& plain = model.upper.layers[static_cast<size_t>(i)];
    const std::string prefix = "model.layers." + std::to_string(i) + ".self_attn.beacon_";
    CandidateWeights layer{plain.q, plain.k, plain.v, plain.o, plain.q_bias, plain.k_bias, plain.v_bias, plain.o_bias};
    const auto bind = [&](bool is_stored, const char* role, int64_t n_rows, int64_t n_cols, bool is_turned, WeightView& weight, const float*& bias) {
      if (!is_stored) return;
      weight = binder.matrix(prefix + role + "_proj.weight", n_rows, n_cols);
      // adapters are in the order of safetensors; a GGUF base has its pairs interleaved
      if (is_turned && upper.rope.is_interleaved) weight = interleave(weight, upper.head_dim, model);
      const std::string name = prefix + role + "_proj.bias";
      if (!binder.has(name)) return;
      if (is_turned && upper.rope.is_interleaved) throw Error(Code::kUnsupportedModel, "tensor " + name + " beside a base with interleaved pairs");
      bias = binder.vector(name, n_rows);
    };
    bind(model.focus.has_q, "q", n_q, upper.dim, true, layer.q, layer.q_bias);
    bind(model.focus.has_k, "k", n_kv, upper.dim, true, layer.k, layer.k_bias);
    bind(model.focus.has_v, "v", n_kv, upper.dim, false, layer.v, layer.v_bias);
    bind(model.focus.has_o, "o", upper.dim, n_q, false, layer.o, layer.o_bias);
    model.candidates.push_back(layer);
  }
}

uint64_t count_parameters(const DecoderWeights& weights, const ModelConfig& config) {
  const auto size = [](const WeightView& view) { return static_cast<uint64_t>(view.rows) * static_cast<uint64_t>(view.cols); };
  const auto dim = static_cast<uint64_t>(config.dim), n_kv = static_cast<uint64_t>(config.n_kv_heads) * static_cast<uint64_t>(config.head_dim);
  const auto n_q = static_cast<uint64_t>(config.n_heads) * static_cast<uint64_t>(config.head_dim), ffn_dim = static_cast<uint64_t>(config.ffn_dim);
  uint64_t n = size(weights.embedding) + dim + (config.is_tied ? 0 : size(weights.head));
  for (const LayerWeights& layer : weights.layers) {
    for (const WeightView* view : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) n += size(*view);
    n += 2 * dim + (config.has_qkv_bias ? n_q + 2 * n_kv : 0) + (config.has_o_bias ? dim : 0) + (config.has_mlp_bias ? 2 * ffn_dim + dim : 0);
    n += config.has_qk_norm ? 2 * static_cast<uint64_t>(config.head_dim) : 0;
  }
  return n;
}

}  // namespace

std::unique_ptr<ModelFiles> ModelFiles::open(const LoadPaths& paths, bool has_8_bit_adapter, const ReadFiles& read) {
  auto model = std::make_unique<LoadedFiles>();
  TensorTable tensors;
  AdapterConfig adapter;
  const Names* names = &kHuggingFaceNames;
  std::string prefix = "model.", head = "lm_head.weight";
  if (is_directory(paths.model)) {
    HuggingFaceModel files = open_huggingface(paths.model);
    model->upper_config = std::move(files.model);
    tensors = std::move(files.tensors);
    std::move(files.files.begin(), files.files.end(), std::back_inserter(model->files));
    const JsonKeys keys(files.config, files.config_path, Code::kBadAdapter);
    adapter = read_checkpoint_adapter(files.config, files.config_path, tensors, model->upper_config);
    if (has_focus(keys, tensors)) model->focus = read_focus(keys);
  } else if (paths.model.ends_with(".safetensors")) {
    throw Error(Code::kInvalidArgument, paths.model + ": a model in safetensors is named by its directory, where its config.json is");
  } else {
    Gguf gguf = read_gguf(paths.model);
    model->upper_config = read_gguf_config(gguf);
    model->tokenizer = read_gguf_tokenizer(gguf);
    tensors = gguf_tensors(gguf);
    model->files.push_back(std::move(gguf.file));
    names = &kGgufNames, prefix = "", head = "output.weight";
  }
  const Binder binder(tensors, paths.model, *model);
  model->upper = bind_upper(binder, *names, prefix, head, model->upper_config);

  model->lower_config = model->upper_config;
  model->lower_config.n_layers = 0;
  if (adapter.tree.n_injected_layers > 0) bind_shared(binder, adapter, *model);
  if (model->focus.is_present) bind_focus(binder, *model);

  std::vector<TensorTable> added;  // by each adapter
  for (const std::string& path : paths.adapters) {
    AdapterFiles files = open_adapter(path, model->upper_config);
    const char* method = kMethodNames[static_cast<int>(files.method)];
    if (files.method == Method::kShared ? model->tree.n_injected_layers > 0 : model->focus.is_present) {
      throw Error(Code::kBadAdapter, path + ": the model has " + method + " weights already, of its own or of another adapter");
    }
    add_tensors(files.weights, added.emplace_back(), Code::kBadAdapter);
    model->files.push_back(std::move(files.weights.file));
    const Binder adding(added.back(), path, *model);
    if (files.method == Method::kShared) {
      bind_shared(adding, files.config, *model);
    } else {
      model->focus = files.focus;
      bind_focus(adding, *model);
    }
  }
  if (read) read(model->files);

  for (Vector& vector : model->vectors) std::ranges::copy(to_floats(vector.stored), vector.floats.begin());
  model->fingerprint = fingerprint_of(*model, model->lora_scale, added, tensors);
  if (has_8_bit_adapter) requantize_adapter(*model, model->rows);
  model->n_parameters = count_parameters(model->upper, model->upper_config);
  for (const MappedFile& file : model->files) model->n_bytes += file.bytes().size();
  return model;
}

}  // namespace banyan
