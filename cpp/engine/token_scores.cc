#include "engine/token_scores.h"

#include <numeric>

namespace banyan {

namespace {

// Of tokens, counted over all chunks.
struct Spans {
  std::vector<int32_t> begin, end;
};

Spans spans_of(const std::vector<ChunkRef>& chunks, const std::vector<int32_t>& chunk_begin, TokenScores::Of of, std::vector<size_t>& first) {
  Spans spans;
  for (size_t c = 0; c < chunks.size(); ++c) {
    const ChunkTree& tree = chunks[c].chunk->tree;
    first.push_back(spans.begin.size());
    const auto add = [&](Span span) {
      spans.begin.push_back(chunk_begin[c] + span.begin);
      spans.end.push_back(chunk_begin[c] + span.end);
    };
    if (of == TokenScores::Of::kNodes) {
      for (int node = 1; node <= 1 + tree.n_compared(); ++node) add(tree.span(node));
    } else {
      for (int g = 0; g < tree.fine().n_slots; ++g) add(tree.tokens_of({g, g + 1}));
    }
  }
  return spans;
}

}  // namespace

TokenScores::TokenScores(Device& device, Stream& s, const Decoder& upper, const Decoder& lower, DType kv_dtype, const std::vector<ChunkRef>& chunks,
    std::span<const float> query, const TreeConfig& tree, Of of) {
  const int heads = upper.config.n_heads, kv_heads = lower.config.n_kv_heads, head_dim = lower.config.head_dim, group = heads / kv_heads;
  const auto n_chunks = static_cast<int32_t>(chunks.size());
  std::vector<int32_t> begin = {0}, positions;  // of each chunk's tokens, and their end
  for (int32_t c = 0; c < n_chunks; ++c) {
    begin.push_back(begin.back() + chunks[static_cast<size_t>(c)].chunk->tree.n_tokens());
    positions.push_back(n_chunks + 1 - c);  // turning the query by less is turning the chunk's keys by its index
  }
  std::vector<int> matching = tree.selection_heads;
  if (matching.empty()) {
    matching.resize(static_cast<size_t>(heads));
    std::iota(matching.begin(), matching.end(), 0);
  }
  std::vector<int> part_of(static_cast<size_t>(kv_heads), -1);  // of a kv head's products; only those that some matching head reads are computed
  std::vector<int32_t> products_of;                             // of each matching head: which of the computed ones
  int n_parts = 0;
  for (const int h : matching) {
    int& part = part_of[static_cast<size_t>(h / group)];
    if (part < 0) part = n_parts++;
    products_of.push_back(part * group + h % group);
  }
  const Spans spans = spans_of(chunks, begin, of, first_);
  IndexTable indices(device);
  const size_t positions_at = indices.add(positions), fast_at = indices.add(std::vector<int32_t>(chunks.size(), tree.chunk_size)),
               zeros_at = indices.add(std::vector<int32_t>(chunks.size(), 0)), begin_at = indices.add(begin), heads_at = indices.add(products_of),
               span_begin_at = indices.add(spans.begin), span_end_at = indices.add(spans.end);
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

  // products [parts][chunk by chunk [group, its tokens]]: a kv head's keys of a chunk are a matrix, the query heads that read it are its rows of input
  const auto n_tokens = static_cast<size_t>(begin.back()), n_part = static_cast<size_t>(group) * n_tokens;
  Buffer products(device, n_part * static_cast<size_t>(n_parts) * sizeof(float)), best(device, n_tokens * sizeof(float)),
      sums(device, matching.size() * (chunks.size() + 1) * 2 * sizeof(double)), scores(device, spans.begin.size() * sizeof(float));
  for (size_t c = 0; c < chunks.size(); ++c) {
    const Chunk& chunk = *chunks[c].chunk;
    const auto n = static_cast<int64_t>(chunk.tokens.size());
    for (int g = 0; g < kv_heads; ++g) {
      const int part = part_of[static_cast<size_t>(g)];
      if (part < 0) continue;
      const WeightView keys{chunk.token_keys.data + static_cast<size_t>(g * n) * row_bytes(kv_dtype, head_dim), kv_dtype, n, head_dim};
      gemm(s, {products.as<float>() + static_cast<size_t>(part) * n_part + static_cast<size_t>(begin[c]) * static_cast<size_t>(group),
                  turned.as<float>() + c * query.size() + static_cast<size_t>(g * group * head_dim), keys, nullptr, group, false});
    }
  }
  standardize(s, {best.as<float>(), products.as<float>(), indices.at(begin_at), indices.at(heads_at), sums.as<double>(), n_chunks,
                     static_cast<int>(matching.size()), group, begin.back()});
  highest(s, {scores.as<float>(), best.as<float>(), indices.at(span_begin_at), indices.at(span_end_at), static_cast<int>(spans.begin.size())});
  device.sync();
  check_cancelled(s);
  scores_.resize(spans.begin.size());
  device.to_host(scores_.data(), scores.as<float>(), scores_.size() * sizeof(float));
}

}  // namespace banyan
