#include "engine/place_weights.h"

#include <algorithm>
#include <functional>
#include <map>

#include "base/memory_info.h"
#include "engine/decoder.h"

namespace banyan {

namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kSlice = uint64_t{16} << 20;  // between looks at the flag: under 100 ms even from a slow disk

// One tensor and all the views of it: a lower model's, a tied head's, a candidate's where the adapter has none are the upper model's own.
struct Part {
  uint64_t n_bytes = 0;
  std::vector<std::function<void(const void*)>> views;  // each points one at another place
};

class Parts {
 public:
  explicit Parts(ModelFiles& files) {
    add_decoder(files.upper, files.upper_config);
    add_decoder(files.lower, files.lower_config);
    for (CrossWeights& cross : files.cross) {
      add(cross.norm, files.upper_config.dim);
      add(cross.q);
      add(cross.o);
    }
    for (CandidateWeights& layer : files.candidates) {
      add(layer.q, layer.q_bias);
      add(layer.k, layer.k_bias);
      add(layer.v, layer.v_bias);
      add(layer.o, layer.o_bias);
    }
  }
  const std::map<const void*, Part>& all() const { return parts_; }
  uint64_t n_bytes() const {
    uint64_t total = 0;
    for (const auto& [data, part] : parts_) total += part.n_bytes;
    return total;
  }

 private:
  void add(WeightView& w) {
    if (!w) return;
    Part& part = parts_[w.data];
    part.n_bytes = std::max<uint64_t>(part.n_bytes, row_bytes(w.dtype, w.cols) * static_cast<uint64_t>(w.rows));
    part.views.emplace_back([&w](const void* data) { w.data = data; });
  }
  void add(const float*& vector, int64_t n) {
    if (vector == nullptr) return;
    Part& part = parts_[vector];
    part.n_bytes = static_cast<uint64_t>(n) * sizeof(float);
    part.views.emplace_back([&vector](const void* data) { vector = static_cast<const float*>(data); });
  }
  void add(WeightView& w, const float*& bias) {
    add(bias, w.rows);
    add(w);
  }
  void add_decoder(DecoderWeights& weights, const ModelConfig& config) {
    add(weights.embedding);
    for (LayerWeights& layer : weights.layers) {
      add(layer.attn_norm, config.dim);
      add(layer.q, layer.q_bias);
      add(layer.k, layer.k_bias);
      add(layer.v, layer.v_bias);
      add(layer.o, layer.o_bias);
      add(layer.q_norm, config.head_dim);
      add(layer.k_norm, config.head_dim);
      add(layer.mlp_norm, config.dim);
      add(layer.gate, layer.gate_bias);
      add(layer.up, layer.up_bias);
      add(layer.down, layer.down_bias);
    }
    add(weights.final_norm, config.dim);
    add(weights.head);
  }
  std::map<const void*, Part> parts_;  // by address, as they lie in the files
};

void touch(const std::byte* data, uint64_t n_bytes) {
  volatile std::byte sink{};
  for (uint64_t at = 0; at < n_bytes; at += kPage) sink = data[at];
  (void)sink;
}

}  // namespace

std::vector<Buffer> place_weights(ModelFiles& files, Device& device, const LoadOptions& options) {
  const Parts parts(files);
  const uint64_t total = parts.n_bytes();
  if (!device.is_host()) require_memory(total, device.available_bytes(), "keeping the weights on " + device.name());
  std::vector<Buffer> owned;
  uint64_t done = 0;
  for (const auto& [data, part] : parts.all()) {
    const auto* from = static_cast<const std::byte*>(data);
    std::byte* to = nullptr;
    if (!device.is_host()) {
      owned.emplace_back(device, part.n_bytes);
      to = owned.back().as<std::byte>();
    }
    for (uint64_t at = 0; at < part.n_bytes; at += kSlice) {
      const uint64_t n = std::min(kSlice, part.n_bytes - at);
      if (to == nullptr) touch(from + at, n);
      else device.to_device(to + at, from + at, n);
      done += n;
      if (options.cancel && *options.cancel) throw Error(Code::kAborted, "aborted");
      if (options.on_progress && done % kSlice < n) options.on_progress(done, total);
    }
    if (to == nullptr) continue;
    for (const auto& point_at : part.views) point_at(to);
  }
  device.sync();
  if (options.on_progress) options.on_progress(total, total);
  return owned;
}

}  // namespace banyan
