#include "engine/pass.h"

#include <algorithm>

namespace banyan {

SeenKeys seen_locally(LayerKv kv, int n, int n_past, int64_t sliding_window) {
  SeenKeys seen;
  seen.kv = std::move(kv);
  for (int row = n_past; row < n_past + n; ++row) {
    seen.begin.push_back(sliding_window > 0 ? static_cast<int32_t>(std::max<int64_t>(0, row + 1 - sliding_window)) : 0);
    seen.end.push_back(row + 1);
  }
  return seen;
}

bool can_join(const Pass& pass) {
  return pass.ids.size() == 1 && pass.read == Pass::Read::kLast && pass.rotation == nullptr && !pass.is_released_step && pass.n_candidates == 0 &&
         pass.asked == nullptr && std::all_of(pass.seen.begin(), pass.seen.end(), [](const SeenKeys& seen) { return seen.positions.empty(); });
}

Pass join(std::span<Pass> passes) {
  Pass all;
  all.read = Pass::Read::kAll;
  for (Pass& pass : passes) {
    const auto row = static_cast<int>(all.ids.size());
    all.ids.push_back(pass.ids[0]);
    all.positions.push_back(pass.positions[0]);
    all.rows.push_back(pass.rows[0]);
    all.targets.push_back({std::move(pass.targets[0].kv), row, 1});
    for (SeenKeys& seen : pass.seen) {
      seen.first = row;
      all.seen.push_back(std::move(seen));
    }
    if (!pass.injected.empty()) all.injected.push_back({pass.injected[0].memory, row, 1});
  }
  return all;
}

}  // namespace banyan
