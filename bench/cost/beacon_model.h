// beacon_model: streaming condensation in the style of Activation Beacon (arXiv 2401.03462): windows of 1024 tokens are read one after the other, each
// with beacon tokens (one for 8) at its end that have projections of their own; only keys and values of beacons stay, in all layers.
#pragma once

#include "cost/cost_model.h"

namespace banyan::bench {

constexpr int kWindow = 1024;  // tokens read between two condensations
constexpr int kRatio = 8;      // tokens a beacon stands for

class BeaconModel : public CostModel {
 public:
  BeaconModel(Engine& engine, int n_local) : CostModel(engine, engine.upper, n_local) {
    const int64_t dim = engine.upper.config.dim, q_dim = engine.upper.q_dim(), kv_dim = engine.upper.kv_dim();
    for (int i = 0; i < engine.upper.config.n_layers; ++i) {
      beacons_.push_back({random_.matrix(q_dim, dim), random_.matrix(kv_dim, dim), random_.matrix(kv_dim, dim), random_.matrix(dim, q_dim)});
    }
  }

  void read_document(Stream& s, const std::vector<int32_t>& ids) override {
    n_document_rows_ = 0;
    const auto n_all = static_cast<int>(ids.size());
    cache_.reserve(s, n_beacons(n_all) + kWindow + kWindow / kRatio + n_local_, 0);
    for (int at = 0; at < n_all; at += kWindow) {
      const int n = std::min(kWindow, n_all - at), n_condensed = n_beacons(n);
      n_past_ = n_document_rows_;
      for (int done = 0; done < n;) {
        const int n_piece = std::min(e_.batch_rows.encode, n - done);
        std::vector<int32_t> piece(ids.begin() + at + done, ids.begin() + at + done + n_piece);
        done += n_piece;
        const bool is_end = done == n;
        if (is_end) piece.insert(piece.end(), static_cast<size_t>(n_condensed), 0);  // any token: its embedding is theirs
        run(s, piece, is_end ? n_condensed : 0, false);
        n_past_ += static_cast<int>(piece.size());
      }
      n_document_rows_ += n_condensed;
    }
  }

  uint64_t document_cost(uint64_t n_all) const override {
    const Cost c(e_.upper.config);
    uint64_t past = 0, cost = 0;
    for (uint64_t at = 0; at < n_all; at += kWindow) {
      const uint64_t n_tokens = std::min<uint64_t>(kWindow, n_all - at), n_kept = static_cast<uint64_t>(n_beacons(static_cast<int>(n_tokens)));
      const uint64_t n = n_tokens + n_kept;
      cost += c.layers * n * c.keys() + (c.layers - 1) * (n * c.rest() + c.seen(n * past + n * (n + 1) / 2));
      past += n_kept;
    }
    return cost;
  }
  uint64_t local_cost(uint64_t n, uint64_t n_before) const override {
    return Cost(e_.upper.config).local(n, static_cast<uint64_t>(n_document_rows_) + n_before, false, 0);
  }

 private:
  static int n_beacons(int n_tokens) { return (n_tokens + kRatio - 1) / kRatio; }
};

}  // namespace banyan::bench
