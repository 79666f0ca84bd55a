#include "engine/cache.h"

#include <algorithm>
#include <utility>

#include "base/memory_info.h"

namespace banyan {

namespace {
constexpr int kMaxGrowth = 8192;  // rows
}  // namespace

size_t Cache::side_bytes() const { return static_cast<size_t>(capacity_) * row_bytes(kv_dtype_, upper_.kv_dim()); }

KvView Cache::layer(int index) const {
  const int kv_dim = upper_.kv_dim(), head_dim = upper_.config.head_dim;
  std::byte *k = layers_.as<std::byte>() + 2 * static_cast<size_t>(index) * side_bytes(), *v = k + side_bytes();
  if (device_.keeps_heads_apart()) return {k, v, kv_dtype_, head_dim, int64_t{capacity_} * head_dim};
  return {k, v, kv_dtype_, kv_dim, head_dim};
}

// Staged, so that rows may overlap. Where heads lie apart, a row of theirs is what is moved.
void Cache::copy(Stream& s, const Cache& from, int first, int to, int n) {
  const int n_runs = device_.keeps_heads_apart() ? upper_.config.n_kv_heads : 1, dim = upper_.kv_dim() / n_runs, n_rows = n_runs * n;
  std::vector<int32_t> sources, targets;
  for (int run = 0; run < n_runs; ++run) {
    for (int row = 0; row < n; ++row) {
      sources.push_back(run * from.capacity_ + first + row);
      targets.push_back(run * capacity_ + to + row);
    }
  }
  indices_.clear();
  const size_t sources_at = indices_.add(sources), targets_at = indices_.add(targets);
  indices_.upload();
  staged_.reserve(static_cast<size_t>(n_rows) * static_cast<size_t>(dim) * sizeof(float));
  for (int i = 0; i < upper_.config.n_layers; ++i) {
    const KvView old = from.layer(i), view = layer(i);
    for (const auto& [source, target] : {std::pair{old.k, view.k}, std::pair{old.v, view.v}}) {
      gather(s, {staged_.as<float>(), source, kv_dtype_, indices_.at(sources_at), n_rows, dim});
      store(s, {target, kv_dtype_, dim, dim, staged_.as<float>(), indices_.at(targets_at), n_rows, 1, dim});
    }
  }
  device_.sync();
}

void Cache::reserve(Stream& s, int n_rows, int n_kept) {
  if (n_rows <= capacity_) return;
  // Half as much again, so that a session that grows token by token moves each row about twice in all; a long one moves more often, but never stands
  // in memory with half of it unused.
  const int capacity = std::max(n_rows, capacity_ + std::min(capacity_ / 2, kMaxGrowth));
  const int kv_dim = upper_.kv_dim();
  require_memory(2 * static_cast<uint64_t>(capacity) * static_cast<uint64_t>(upper_.config.n_layers) * row_bytes(kv_dtype_, kv_dim),
      device_.available_bytes(), "a cache of " + std::to_string(capacity) + " local tokens");
  Cache fresh(device_, upper_, kv_dtype_);
  fresh.capacity_ = capacity;
  fresh.layers_.reserve(2 * static_cast<size_t>(upper_.config.n_layers) * fresh.side_bytes());
  if (n_kept > 0) {
    fresh.copy(s, *this, 0, 0, n_kept);
    check_cancelled(s);
  }
  capacity_ = capacity;
  layers_ = std::move(fresh.layers_);
}

}  // namespace banyan
