#include "engine/cache.h"

#include <algorithm>
#include <numeric>

#include "base/memory_info.h"

namespace banyan {

namespace {
constexpr int kMaxGrowth = 8192;  // rows
}  // namespace

KvView Cache::layer(int index) const {
  const int kv_dim = upper_.kv_dim();
  std::byte* k = layers_[static_cast<size_t>(index)].as<std::byte>();
  return {k, k + static_cast<size_t>(capacity_) * row_bytes(kv_dtype_, kv_dim), kv_dtype_, kv_dim, upper_.config.head_dim};
}

void Cache::reserve(Stream& s, int n_rows, int n_kept) {
  if (n_rows <= capacity_) return;
  // Half as much again, so that a session that grows token by token moves each row about twice in all; a long one moves more often, but never stands
  // in memory with half of it unused.
  const int capacity = std::max(n_rows, capacity_ + std::min(capacity_ / 2, kMaxGrowth));
  const int kv_dim = upper_.kv_dim(), head_dim = upper_.config.head_dim, heads = upper_.config.n_kv_heads;
  require_memory(2 * static_cast<uint64_t>(capacity) * static_cast<uint64_t>(upper_.config.n_layers) * row_bytes(kv_dtype_, kv_dim),
      device_.available_bytes(), "a cache of " + std::to_string(capacity) + " local tokens");
  Cache fresh(device_, upper_, kv_dtype_);
  fresh.capacity_ = capacity;
  for (int i = 0; i < upper_.config.n_layers; ++i) {
    fresh.layers_.emplace_back(device_, 2 * static_cast<size_t>(capacity) * row_bytes(kv_dtype_, kv_dim));
  }
  if (n_kept > 0) {
    std::vector<int32_t> numbers(static_cast<size_t>(n_kept));
    std::iota(numbers.begin(), numbers.end(), 0);
    indices_.clear();
    const size_t at = indices_.add(numbers);
    indices_.upload();
    Buffer staged(device_, static_cast<size_t>(n_kept) * static_cast<size_t>(kv_dim) * sizeof(float));
    for (int i = 0; i < upper_.config.n_layers; ++i) {
      const KvView from = layer(i), to = fresh.layer(i);
      for (const auto& [source, target] : {std::pair{from.k, to.k}, std::pair{from.v, to.v}}) {
        gather(s, {staged.as<float>(), source, kv_dtype_, indices_.at(at), n_kept, kv_dim});
        store(s, {target, kv_dtype_, kv_dim, head_dim, staged.as<float>(), indices_.at(at), n_kept, heads, head_dim});
      }
    }
    check_cancelled(s);
    device_.sync();
  }
  capacity_ = capacity;
  layers_ = std::move(fresh.layers_);
}

}  // namespace banyan
