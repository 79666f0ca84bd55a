#include "engine/token_scores.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

namespace banyan {

namespace {

// Mean and standard deviation in one pass. Differences from some value of the data are summed, so that the squares do not cancel where the mean is large;
// in kSums places at once, because one sum would wait for itself.
class Spread {
 public:
  explicit Spread(float pivot) : pivot_(static_cast<double>(pivot)) {}
  void add(const float* x, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      const double difference = static_cast<double>(x[i]) - pivot_;
      sums_[i % kSums] += difference;
      squares_[i % kSums] += difference * difference;
    }
    n_ += static_cast<double>(n);
  }
  double mean() const { return pivot_ + total(sums_) / n_; }
  double deviation() const {
    const double shift = total(sums_) / n_;
    return std::sqrt(std::max(0.0, total(squares_) / n_ - shift * shift));
  }

 private:
  static constexpr size_t kSums = 8;
  using Sums = std::array<double, kSums>;
  static double total(const Sums& sums) { return std::accumulate(sums.begin(), sums.end(), 0.0); }
  double pivot_, n_ = 0;
  Sums sums_{}, squares_{};
};

}  // namespace

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

  std::vector<int> matching = tree.selection_heads;
  if (matching.empty()) {
    matching.resize(static_cast<size_t>(heads));
    std::iota(matching.begin(), matching.end(), 0);
  }
  std::vector<int> part_of(static_cast<size_t>(kv_heads), -1);  // of a kv head's products; only those that some matching head reads are computed
  int n_wanted = 0;
  for (const int h : matching) {
    int& of_group = part_of[static_cast<size_t>(h / group)];
    if (of_group < 0) of_group = n_wanted++;
  }

  // products [wanted kv heads][group][all tokens' chunks]: a kv head's keys of a chunk are a matrix, the query heads that read it are its rows of input
  const size_t n_head = static_cast<size_t>(group) * n_tokens;  // of a kv head
  Buffer products(device, n_head * static_cast<size_t>(n_wanted) * sizeof(float));
  for (size_t c = 0; c < chunks.size(); ++c) {
    const Chunk& chunk = *chunks[c].chunk;
    const auto n = static_cast<int64_t>(chunk.tokens.size());
    for (int g = 0; g < kv_heads; ++g) {
      const int at = part_of[static_cast<size_t>(g)];
      if (at < 0) continue;
      const WeightView keys{chunk.token_keys.data + static_cast<size_t>(g * n) * row_bytes(kv_dtype, head_dim), kv_dtype, n, head_dim};
      gemm(s, {products.as<float>() + static_cast<size_t>(at) * n_head + begin_[c] * static_cast<size_t>(group),
                  turned.as<float>() + c * query.size() + static_cast<size_t>(g * group * head_dim), keys, nullptr, group, false});
    }
  }
  device.sync();
  check_cancelled(s);
  std::vector<float> host(n_head * static_cast<size_t>(n_wanted));
  device.to_host(host.data(), products.as<float>(), host.size() * sizeof(float));

  scores_.assign(n_tokens, -std::numeric_limits<float>::infinity());
  for (const int h : matching) {
    const float* of_group = host.data() + static_cast<size_t>(part_of[static_cast<size_t>(h / group)]) * n_head;
    const auto each_chunk = [&](auto&& visit) {
      for (size_t c = 0; c < chunks.size(); ++c) {
        const size_t n = chunks[c].chunk->tokens.size();
        visit(of_group + begin_[c] * static_cast<size_t>(group) + static_cast<size_t>(h % group) * n, n, scores_.data() + begin_[c]);
      }
    };
    Spread spread(of_group[0]);
    each_chunk([&](const float* x, size_t n, const float*) { spread.add(x, n); });
    const double mean = spread.mean(), scale = 1 / std::max(spread.deviation(), 1e-6);
    each_chunk([&](const float* x, size_t n, float* scores) {
      for (size_t i = 0; i < n; ++i) scores[i] = std::max(scores[i], static_cast<float>((x[i] - mean) * scale));
    });
  }
}

float TokenScores::best(size_t chunk, Span span) const {
  const auto first = scores_.begin() + static_cast<std::ptrdiff_t>(begin_[chunk]);
  return *std::max_element(first + span.begin, first + span.end);
}

}  // namespace banyan
