// Keys and tensor names of the authors: FocusLLM's released code, configuration and modeling files.
#include "model/focus_adapter.h"

#include <algorithm>
#include <charconv>
#include <string>

namespace banyan {
namespace {

constexpr int64_t kMaxChunk = 1 << 24;
constexpr std::string_view kUnusedEmbedding = "model.beacon_embed_tokens.weight";

// Several sizes are what training draws from; reading needs one, and the largest costs the fewest candidates.
int read_chunk_size(const JsonKeys& keys, int fallback) {
  if (keys.has("chunk_size")) return static_cast<int>(keys.integer("chunk_size", 1, kMaxChunk));
  const Json* stride = keys.find("memory_stride");
  if (stride == nullptr) return fallback;
  if (stride->array() == nullptr) return static_cast<int>(keys.integer("memory_stride", 1, kMaxChunk));
  int64_t largest = 0;
  for (const Json& item : *stride->array()) {
    const int64_t* size = item.integer();
    if (size == nullptr || *size < 1 || *size > kMaxChunk) keys.fail("memory_stride", "must hold chunk sizes of at least 1");
    largest = std::max(largest, *size);
  }
  if (largest == 0) keys.fail("memory_stride", "is empty");
  return static_cast<int>(largest);
}

}  // namespace

bool has_focus(const JsonKeys& keys, const TensorTable& tensors) {
  if (keys.has("beacon_param")) return true;
  return std::any_of(tensors.begin(), tensors.end(), [](const auto& entry) { return entry.first.find(".self_attn.beacon_") != std::string::npos; });
}

FocusConfig read_focus(const JsonKeys& keys) {
  FocusConfig focus;
  focus.is_present = true;
  if (const Json* names = keys.find("beacon_param"); names != nullptr) {
    if (names->array() == nullptr) keys.fail("beacon_param", "must be an array of projections");
    focus.has_q = focus.has_k = focus.has_v = focus.has_o = false;
    for (const Json& item : *names->array()) {
      const std::string* name = item.string();
      bool* flag = name == nullptr ? nullptr : *name == "q" ? &focus.has_q : *name == "k" ? &focus.has_k : *name == "v" ? &focus.has_v : nullptr;
      if (name != nullptr && *name == "o") flag = &focus.has_o;
      if (flag == nullptr && name != nullptr && *name == "mlp")
        keys.fail(Code::kUnsupportedModel, "beacon_param", "names mlp, which is not supported");
      if (flag == nullptr) keys.fail("beacon_param", "must hold some of q, k, v, o");
      *flag = true;
    }
  }
  focus.chunk_size = read_chunk_size(keys, focus.chunk_size);
  focus.query_cap = static_cast<int>(keys.integer_or("query_cap", 1, kMaxChunk, focus.query_cap));
  return focus;
}

bool is_focus_tensor(std::string_view name, const ModelConfig& upper) {
  constexpr std::string_view kLayers = "model.layers.", kMiddle = ".self_attn.beacon_";
  if (name == kUnusedEmbedding) return true;
  if (!name.starts_with(kLayers)) return false;
  name.remove_prefix(kLayers.size());
  int layer = -1;
  const auto [end, status] = std::from_chars(name.data(), name.data() + name.size(), layer);
  if (status != std::errc() || layer < 0 || layer >= upper.n_layers) return false;
  name.remove_prefix(static_cast<size_t>(end - name.data()));
  if (!name.starts_with(kMiddle)) return false;
  name.remove_prefix(kMiddle.size());
  return !name.empty() && std::string_view("qkvo").find(name.front()) != std::string_view::npos &&
         (name.substr(1) == "_proj.weight" || name.substr(1) == "_proj.bias");
}

}  // namespace banyan
