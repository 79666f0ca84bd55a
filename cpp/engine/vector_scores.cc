#include "engine/vector_scores.h"

#include <limits>

namespace banyan {

VectorScores::VectorScores(Device& device, Stream& s, const std::vector<ChunkRef>& chunks, std::span<const float> query) {
  std::vector<const float*> vectors;
  for (const ChunkRef& ref : chunks) {
    first_.push_back(vectors.size());
    for (int i = 0; i < ref.chunk->tree.n_compared(); ++i) vectors.push_back(ref.chunk->vectors.data + static_cast<size_t>(i) * query.size());
  }
  if (vectors.empty()) return;
  Buffer rows(device, vectors.size() * sizeof(vectors[0])), asking(device, query.size_bytes()), scores(device, vectors.size() * sizeof(float));
  device.to_device(rows.as<const float*>(), vectors.data(), vectors.size() * sizeof(vectors[0]));
  device.to_device(asking.as<float>(), query.data(), query.size_bytes());
  cosine(s, {scores.as<float>(), rows.as<const float*>(), asking.as<float>(), static_cast<int>(vectors.size()), static_cast<int>(query.size())});
  device.sync();
  check_cancelled(s);
  scores_.resize(vectors.size());
  device.to_host(scores_.data(), scores.as<float>(), scores_.size() * sizeof(float));
}

float VectorScores::operator()(size_t chunk, int node) const {
  return node == 1 ? std::numeric_limits<float>::quiet_NaN() : scores_[first_[chunk] + static_cast<size_t>(node) - 2];
}

}  // namespace banyan
