#include "model/fingerprint.h"

#include <cstddef>

#include "base/hash.h"

namespace banyan {

namespace {

constexpr size_t kSampleBytes = 4096;  // of each tensor's beginning, middle and end

// Everything that changes what the weights compute. Token ids with a meaning and the window do not.
void hash_config(const ModelConfig& config, Hash& hash) {
  const RopeConfig& rope = config.rope;
  hash.update_text(config.architecture);
  for (const int value : {config.n_layers, config.dim, config.ffn_dim, config.n_heads, config.n_kv_heads, config.head_dim, config.vocab_size}) {
    hash.update_value(value);
  }
  for (const bool flag : {config.is_tied, config.has_qkv_bias, config.has_o_bias, config.has_mlp_bias, config.has_qk_norm, rope.is_interleaved}) {
    hash.update_value(flag);
  }
  hash.update_value(config.norm_eps);
  hash.update_value(config.sliding_window);
  hash.update_value(rope.scaling);
  hash.update_value(rope.original_window);
  for (const double value :
      {rope.theta, rope.factor, rope.low_freq_factor, rope.high_freq_factor, rope.beta_fast, rope.beta_slow, rope.attention_factor}) {
    hash.update_value(value);
  }
  for (const float factor : rope.freq_factors) hash.update_value(factor);
}

void hash_tree(const TreeConfig& tree, bool is_lower_shared, Hash& hash) {
  hash.update_value(tree.semantics);
  hash.update_value(tree.slot_kind);
  hash.update_value(tree.selection);
  hash.update_value(tree.selection_layer);
  for (const int head : tree.selection_heads) hash.update_value(head);
  for (const int value : {tree.n_injected_layers, tree.depth, tree.chunk_size}) hash.update_value(value);
  for (const bool flag : {tree.do_retrieval, tree.keep.is_fraction, is_lower_shared}) hash.update_value(flag);
  hash.update_value(tree.keep.is_fraction ? 0 : tree.keep.count);
  hash.update_value(tree.keep.is_fraction ? tree.keep.fraction : 0.0);
  // budgets change what is read of a document, not the document
  if (tree.positions != Positions::kSum) hash.update_value(tree.positions);
}

void hash_focus(const FocusConfig& focus, Hash& hash) {
  for (const bool flag : {focus.is_present, focus.has_q, focus.has_k, focus.has_v, focus.has_o}) hash.update_value(flag);
  for (const int value : {focus.chunk_size, focus.query_cap}) hash.update_value(value);
}

void hash_tensors(const TensorTable& table, Hash& hash) {
  hash.update_value(static_cast<uint64_t>(table.size()));
  for (const auto& [name, tensor] : table) {
    const TensorView& view = tensor.view;
    hash.update_text(name);
    hash.update_text(tensor.refused_type.empty() ? traits(view.dtype).name : tensor.refused_type);
    hash.update_value(view.n_dims);
    for (int i = 0; i < view.n_dims; ++i) hash.update_value(view.shape[static_cast<size_t>(i)]);
    if (view.data == nullptr) continue;
    const size_t n_bytes = row_bytes(view.dtype, element_count(view));
    const auto* data = static_cast<const std::byte*>(view.data);
    if (n_bytes <= 3 * kSampleBytes) {
      hash.update(data, n_bytes);
      continue;
    }
    for (const size_t begin : {size_t{0}, (n_bytes - kSampleBytes) / 2, n_bytes - kSampleBytes}) hash.update(data + begin, kSampleBytes);
  }
}

}  // namespace

std::string fingerprint_of(const ModelFiles& model, float lora_scale, const std::vector<TensorTable>& added, const TensorTable& tensors) {
  Hash hash;
  hash.update_text("banyan model 1");
  for (const TensorTable& table : added) hash_tensors(table, hash);
  hash_config(model.upper_config, hash);
  hash_config(model.lower_config, hash);
  hash_tree(model.tree, model.is_lower_shared, hash);
  if (lora_scale != 0) hash.update_value(lora_scale);
  hash_focus(model.focus, hash);
  hash_tensors(tensors, hash);
  return hash.hex();
}

}  // namespace banyan
