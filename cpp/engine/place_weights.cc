#include "engine/place_weights.h"

#include <algorithm>
#include <functional>
#include <map>

#include "base/memory_info.h"
#include "engine/decoder.h"

namespace banyan {

namespace {

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

// Calls `move` for pieces of n_bytes, of which `done` of `total` bytes in all are done.
void in_slices(
    uint64_t n_bytes, uint64_t total, uint64_t& done, const LoadOptions& options, const std::function<void(uint64_t at, uint64_t n)>& move) {
  for (uint64_t at = 0; at < n_bytes; at += kSlice) {
    const uint64_t n = std::min(kSlice, n_bytes - at);
    move(at, n);
    done += n;
    if (options.cancel && *options.cancel) throw Error(Code::kAborted, "aborted");
    if (options.on_progress && done % kSlice < n) options.on_progress(done, total);
  }
}

}  // namespace

void read_files(const std::deque<MappedFile>& files, const LoadOptions& options) {
  uint64_t done = 0, total = 0;
  for (const MappedFile& file : files) total += file.bytes().size();
  for (const MappedFile& file : files) {
    in_slices(file.bytes().size(), total, done, options, [&](uint64_t at, uint64_t n) { file.read(at, n); });
  }
  if (options.on_progress) options.on_progress(total, total);
}

std::vector<Buffer> place_weights(ModelFiles& files, Device& device, const LoadOptions& options) {
  if (device.is_host()) return {};
  const Parts parts(files);
  const uint64_t total = parts.n_bytes();
  require_memory(total, device.available_bytes(), "keeping the weights on " + device.name());
  std::vector<Buffer> owned;
  uint64_t done = 0;
  for (const auto& [data, part] : parts.all()) {
    const auto* from = static_cast<const std::byte*>(data);
    auto* to = owned.emplace_back(device, part.n_bytes).as<std::byte>();
    in_slices(part.n_bytes, total, done, options, [&](uint64_t at, uint64_t n) { device.to_device(to + at, from + at, n); });
    for (const auto& point_at : part.views) point_at(to);
  }
  device.sync();
  if (options.on_progress) options.on_progress(total, total);
  return owned;
}

}  // namespace banyan
