// decoder: one model as the engine runs it: configuration, weights and rotation frequencies, on a device.
#pragma once

#include "device/buffer.h"
#include "model/config.h"
#include "model/weights.h"

namespace banyan {

struct Decoder {
  Decoder(Device& device, const ModelConfig& config, const DecoderWeights& weights) : config(config), weights(weights) {
    const std::vector<float> frequencies = rope_frequencies(config.rope, config.head_dim, &rope_magnitude);
    inv_freq = Buffer(device, frequencies.size() * sizeof(float));
    device.to_device(inv_freq.as<float>(), frequencies.data(), frequencies.size() * sizeof(float));
  }
  int q_dim() const { return config.n_heads * config.head_dim; }
  int kv_dim() const { return config.n_kv_heads * config.head_dim; }

  const ModelConfig& config;
  const DecoderWeights& weights;
  Buffer inv_freq;           // [C / 2]
  float rope_magnitude = 1;  // YaRN
};

}  // namespace banyan
