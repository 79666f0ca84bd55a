// decoder: one model as the engine runs it: configuration, weights and rotation frequencies, on a device.
#pragma once

#include "device/buffer.h"
#include "model/config.h"
#include "model/weights.h"

namespace banyan {

// How queries and keys turn with their positions.
struct Rotation {
  Rotation(Device& device, const RopeConfig& rope, int head_dim) {
    const std::vector<float> frequencies = rope_frequencies(rope, head_dim, &magnitude);
    inv_freq = Buffer(device, frequencies.size() * sizeof(float));
    device.to_device(inv_freq.as<float>(), frequencies.data(), frequencies.size() * sizeof(float));
  }
  Buffer inv_freq;      // [C / 2]
  float magnitude = 1;  // YaRN
};

struct Decoder {
  Decoder(Device& device, const ModelConfig& config, const DecoderWeights& weights)
      : config(config), weights(weights), rotation(device, config.rope, config.head_dim) {}
  int q_dim() const { return config.n_heads * config.head_dim; }
  int kv_dim() const { return config.n_kv_heads * config.head_dim; }

  const ModelConfig& config;
  const DecoderWeights& weights;
  const Rotation rotation;
};

}  // namespace banyan
