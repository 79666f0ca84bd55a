#include "engine/token_scores.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace banyan {

TokenScores::TokenScores(Device& device, Stream& s, const Decoder& upper, const Decoder& lower, DType kv_dtype, const std::vector<ChunkRef>& chunks,
    std::span<const float> query, const TreeConfig& tree)
    : chunks_(chunks) {
  const int heads = upper.config.n_heads, kv_heads = lower.config.n_kv_heads, head_dim = lower.config.head_dim, group = heads / kv_heads;
  const auto n_chunks = static_cast<int32_t>(chunks.size());
  size_t n_tokens = 0;
  std::vector<int32_t> positions;
  for (int32_t c = 0; c < n_chunks; ++c) {
    begin_.push_back(n_tokens);
    n_tokens += chunks[static_cast<size_t>(c)].chunk->tokens.size();
    positions.push_back(n_chunks + 1 - c);  // turning the query by less is turning the chunk's keys by its index
  }
  IndexTable indices(device);
  const size_t positions_at = indices.add(positions), fast_at = indices.add(std::vector<int32_t>(chunks.size(), tree.chunk_size)),
               zeros_at = indices.add(std::vector<int32_t>(chunks.size(), 0));
  indices.upload();
  Buffer first(device, query.size_bytes()), turned(device, chunks.size() * query.size_bytes());
  device.to_device(first.as<float>(), query.data(), query.size_bytes());
  gather(s, {turned.as<float>(), first.as<float>(), DType::kF32, indices.at(zeros_at), n_chunks, static_cast<int64_t>(query.size())});
  const auto turn = [&](size_t at, const Buffer& frequencies, float magnitude) {
    rope(s, {turned.as<float>(), indices.at(at), frequencies.as<float>(), n_chunks, heads, head_dim, magnitude, lower.config.rope.is_interleaved});
  };
  const bool is_banded = tree.positions == Positions::kBanded;
  turn(positions_at, is_banded ? lower.rotation.slow : lower.rotation.inv_freq, lower.rotation.magnitude);
  if (is_banded) turn(fast_at, lower.rotation.fast, 1.0f);

  // products per chunk, [H, n]: a kv head's keys are a matrix, the query heads that read it are its rows of input
  Buffer products(device, n_tokens * static_cast<size_t>(heads) * sizeof(float));
  for (size_t c = 0; c < chunks.size(); ++c) {
    const Chunk& chunk = *chunks[c].chunk;
    const auto n = static_cast<int64_t>(chunk.tokens.size());
    for (int g = 0; g < kv_heads; ++g) {
      const WeightView keys{chunk.token_keys.data + static_cast<size_t>(g * n) * row_bytes(kv_dtype, head_dim), kv_dtype, n, head_dim};
      gemm(s, {products.as<float>() + begin_[c] * static_cast<size_t>(heads) + static_cast<size_t>(g * group * n),
                  turned.as<float>() + c * query.size() + static_cast<size_t>(g * group * head_dim), keys, nullptr, group, false});
    }
  }
  device.sync();
  check_cancelled(s);
  std::vector<float> host(n_tokens * static_cast<size_t>(heads));
  device.to_host(host.data(), products.as<float>(), host.size() * sizeof(float));

  scores_.assign(n_tokens, -std::numeric_limits<float>::infinity());
  std::vector<int> matching = tree.selection_heads;
  if (matching.empty()) {
    matching.resize(static_cast<size_t>(heads));
    std::iota(matching.begin(), matching.end(), 0);
  }
  for (const int h : matching) {
    const auto each = [&](auto&& visit) {
      for (size_t c = 0; c < chunks.size(); ++c) {
        const size_t n = chunks[c].chunk->tokens.size();
        for (size_t t = 0; t < n; ++t) visit(host[begin_[c] * static_cast<size_t>(heads) + static_cast<size_t>(h) * n + t], begin_[c] + t);
      }
    };
    double sum = 0, squares = 0;
    each([&](float product, size_t) { sum += product; });
    const double mean = sum / static_cast<double>(n_tokens);
    each([&](float product, size_t) { squares += (product - mean) * (product - mean); });
    const double deviation = std::max(std::sqrt(squares / static_cast<double>(n_tokens)), 1e-6);
    each([&](float product, size_t token) { scores_[token] = std::max(scores_[token], static_cast<float>((product - mean) / deviation)); });
  }
}

float TokenScores::best(size_t chunk, Span span) const {
  const auto first = scores_.begin() + static_cast<std::ptrdiff_t>(begin_[chunk]);
  return *std::max_element(first + span.begin, first + span.end);
}

}  // namespace banyan
