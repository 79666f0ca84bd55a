// decoder: one model as the engine runs it: configuration, weights and rotation frequencies, on a device.
#pragma once

#include <algorithm>
#include <vector>

#include "device/buffer.h"
#include "model/config.h"
#include "model/weights.h"

namespace banyan {

// How queries and keys turn with their positions.
struct Rotation {
  Rotation(Device& device, const RopeConfig& rope, int head_dim) {
    const std::vector<float> frequencies = rope_frequencies(rope, head_dim, &magnitude);
    const auto put = [&](Buffer& to, const std::vector<float>& values) {
      to = Buffer(device, values.size() * sizeof(float));
      device.to_device(to.as<float>(), values.data(), values.size() * sizeof(float));
    };
    put(inv_freq, frequencies);
    std::vector<float> fast_half = frequencies, slow_half = frequencies;
    const auto half = static_cast<std::ptrdiff_t>(frequencies.size() / 2);
    std::fill(fast_half.begin() + half, fast_half.end(), 0.0f);
    std::fill(slow_half.begin(), slow_half.begin() + half, 0.0f);
    put(fast, fast_half);
    put(slow, slow_half);
  }
  Buffer inv_freq;      // [C / 2]
  Buffer fast, slow;    // [C / 2] banded positions: the first floor(C / 4) of them and the rest, zeros elsewhere, which turn nothing
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
