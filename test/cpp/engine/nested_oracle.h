// nested_oracle: nested semantics once more, in straight loops, from its description alone (docs/methods.md): every token of a chunk goes through all M
// layers, nothing is shared, saved or skipped. What a layer computes is the other oracle's.
#pragma once

#include <memory>

#include "oracle.h"

namespace banyan::test {

template <class Real> class NestedOracle : public Oracle<Real> {
  using Base = Oracle<Real>;
  using Base::memory_;
  using Base::spec_;
  using Base::stored;
  using Base::toy_;
  using typename Base::Layer;
  using typename Base::Row;
  using typename Base::Rows;

 public:
  using Base::Base;

 private:
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

  // Half open ranges of fine groups.
  struct Piece {
    int chunk, level, begin, end;
    bool is_leaf;
    double score;
    int groups_per_slot;
  };
  struct Read {
    int document, index, begin, n;  // first token in the document
    int depth = 0, step = 1, n_groups = 0;
    std::vector<Rows> k{}, v{};  // [M][group]
    Rows after_first{};          // layer 0's output
    std::vector<double> token_scores{};
    std::vector<Piece> pieces{};
  };

  Rows means(const Rows& rows, int step) const {
    Rows out;
    const bool is_mean = spec_.slot_kind == SlotKind::kMean;
    for (size_t begin = 0; begin < rows.size(); begin += static_cast<size_t>(step)) {
      const size_t end = is_mean ? std::min(rows.size(), begin + static_cast<size_t>(step)) : begin + 1;
      Row sum(rows[0].size(), 0);
      for (size_t t = begin; t < end; ++t) Base::add(sum, rows[t]);
      for (Real& value : sum) value /= static_cast<Real>(end - begin);
      out.push_back(sum);
    }
    return out;
  }

  Read read(int document, int index, int begin, const Ids& ids) const {
    Read chunk{document, index, begin, static_cast<int>(ids.size())};
    const int n = chunk.n;
    chunk.depth = std::min(spec_.depth, static_cast<int>(std::floor(std::log2(n))));
    const int leaf = n >> chunk.depth;
    const Keep keep = spec_.keep();
    const int64_t kept = keep.is_fraction ? static_cast<int64_t>(leaf * keep.fraction) : keep.count > 0 ? keep.count : leaf;
    chunk.step = leaf / static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(kept, leaf)));
    chunk.n_groups = (n + chunk.step - 1) / chunk.step;
    Rows x = Base::embed(toy_.lower, ids);
    for (size_t i = 0; i < toy_.cross.size(); ++i) {
      Layer kv;
      this->block(toy_.lower, i, x, kv, 0, false, -1, false);
      if (i == 0) chunk.after_first = x;
      chunk.k.push_back(means(kv.plain, chunk.step));
      chunk.v.push_back(means(kv.v, chunk.step));
      for (Rows* rows : {&chunk.k.back(), &chunk.v.back()}) {
        for (Row& row : *rows) row = stored(row);
      }
    }
    return chunk;
  }

  double score(const Read& chunk, const Row& query, int begin, int end, bool is_whole) const {
    if (!spec_.do_retrieval) return kNone;
    const int first = begin * chunk.step, last = std::min(end * chunk.step, chunk.n) - 1;
    if (this->is_by_tokens()) return *std::max_element(chunk.token_scores.begin() + first, chunk.token_scores.begin() + last + 1);
    if (is_whole) return kNone;
    return Base::cosine(Base::normed(chunk.after_first[static_cast<size_t>(last)], toy_.lower.final_norm), query);
  }

  void open(Read& chunk, int c, const Row& query, OracleResult& result) const {
    int begin = 0, end = chunk.n_groups;
    double open_score = score(chunk, query, begin, end, true);
    for (int level = 1; level < chunk.depth; ++level) {
      const int middle = begin + (end - begin) / 2;
      const double left = score(chunk, query, begin, middle, false), right = score(chunk, query, middle, end, false);
      const bool is_left = spec_.do_retrieval && left >= right;
      if (spec_.do_retrieval) result.margin = std::min(result.margin, std::fabs(left - right));
      const int per_slot = 1 << (chunk.depth - level);
      if (is_left) chunk.pieces.push_back({c, level, middle, end, false, right, per_slot});
      else chunk.pieces.push_back({c, level, begin, middle, false, left, per_slot});
      (is_left ? end : begin) = middle;
      open_score = is_left ? left : right;
    }
    if (chunk.depth == 0) {
      chunk.pieces.push_back({c, 0, begin, end, true, open_score, 1});
    } else {
      const int middle = begin + (end - begin) / 2;
      chunk.pieces.push_back({c, chunk.depth, begin, middle, true, open_score, 1});
      chunk.pieces.push_back({c, chunk.depth, middle, end, true, open_score, 1});
    }
    std::sort(chunk.pieces.begin(), chunk.pieces.end(), [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
  }

  static int n_slots(const Piece& piece) { return (piece.end - piece.begin + piece.groups_per_slot - 1) / piece.groups_per_slot; }

  // Chunks in the order of their best piece, as long as they fit.
  void keep_best_chunks(std::vector<Read>& chunks, OracleResult& result) const {
    int64_t left = spec_.slot_budget;
    std::vector<char> is_seen(chunks.size(), 0);
    bool is_full = false;
    double before = 1e9;
    for (size_t rank = 0; rank < chunks.size(); ++rank) {
      size_t best = 0;
      double best_score = -std::numeric_limits<double>::infinity();
      bool is_any = false;
      for (size_t c = 0; c < chunks.size(); ++c) {
        if (is_seen[c]) continue;
        double of_chunk = -std::numeric_limits<double>::infinity();
        for (const Piece& piece : chunks[c].pieces) of_chunk = std::isnan(piece.score) ? of_chunk : std::max(of_chunk, piece.score);
        if (is_any && of_chunk <= best_score) continue;
        is_any = true;
        best = c;
        best_score = of_chunk;
      }
      if (best_score > -1e300) result.margin = std::min(result.margin, before - best_score);
      before = best_score;
      is_seen[best] = 1;
      int64_t n = 0;
      for (const Piece& piece : chunks[best].pieces) n += n_slots(piece);
      is_full = is_full || n > left;
      if (is_full) chunks[best].pieces.clear();
      else left -= n;
    }
  }

  void take_groups(std::vector<Read>& chunks, const Row& query, OracleResult& result) const {
    std::vector<double> all;
    for (const Read& chunk : chunks) {
      for (int g = 0; g < chunk.n_groups; ++g) all.push_back(score(chunk, query, g, g + 1, false));
    }
    std::sort(all.begin(), all.end(), std::greater<>());
    const auto n = std::min(all.size(), static_cast<size_t>(spec_.slot_budget));
    const double lowest = all[n - 1];
    if (n < all.size()) result.margin = std::min(result.margin, lowest - all[n]);
    for (size_t c = 0; c < chunks.size(); ++c) {
      for (int g = 0; g < chunks[c].n_groups; ++g) {
        const double own = score(chunks[c], query, g, g + 1, false);
        if (own < lowest) continue;
        std::vector<Piece>& runs = chunks[c].pieces;
        if (runs.empty() || runs.back().end != g) {
          runs.push_back({static_cast<int>(c), chunks[c].depth, g, g + 1, true, own, 1});
        } else {
          runs.back().end = g + 1;
          runs.back().score = std::max(runs.back().score, own);
        }
      }
    }
  }

  void inject(const Read& chunk, const Piece& piece, OracleResult& result) {
    const Shape& s = toy_.lower.shape;
    const bool is_mean = spec_.slot_kind == SlotKind::kMean;
    for (int group = piece.begin; group < piece.end; group += piece.groups_per_slot) {
      const int offset = group * chunk.step, end = is_mean ? std::min(group + piece.groups_per_slot, piece.end) : group + 1;
      result.slot_positions.push_back(chunk.begin + offset);
      for (size_t i = 0; i < toy_.cross.size(); ++i) {
        Row k(chunk.k[i][0].size(), 0), v = k;
        for (int g = group; g < end; ++g) {
          Base::add(k, chunk.k[i][static_cast<size_t>(g)]);
          Base::add(v, chunk.v[i][static_cast<size_t>(g)]);
        }
        for (Row* row : {&k, &v}) {
          for (Real& value : *row) value /= static_cast<Real>(end - group);
        }
        if (spec_.positions == Positions::kBanded) {
          Base::rotate_apart(k, s, offset, piece.chunk);
        } else {
          Base::rotate(k, s, offset);
          Base::rotate(k, s, piece.chunk);
        }
        memory_.k[i].push_back(stored(k));
        memory_.v[i].push_back(stored(v));
      }
    }
  }

  void retrieve(const std::vector<OracleDocument>& documents, const Ids& ids, size_t query_index, OracleResult& result) override {
    std::vector<Read> chunks;
    std::vector<typename Base::Chunk> plain;  // for the token scores, which are those of the other semantics
    int largest = 0;
    for (size_t d = 0; d < documents.size(); ++d) {
      const int n = static_cast<int>(documents[d].ids.size()), size = documents[d].chunk_size;
      for (int begin = 0, index = 0; begin < n; begin += size, ++index) {
        const Ids part = Base::part(documents[d].ids, {begin, std::min(n, begin + size)});
        chunks.push_back(read(static_cast<int>(d), index, begin, part));
        plain.push_back({static_cast<int>(d), index, begin, part});
        largest = std::max(largest, size);
      }
    }
    if (chunks.empty()) return;
    Row query;
    if (spec_.do_retrieval) {
      const Ids question = Base::part(ids, {0, static_cast<int>(query_index) + 1});
      query = this->is_by_tokens() ? this->cross_query(question) : this->vector_of(toy_.upper, question);
      result.query_vector.assign(query.begin(), query.end());
      if (this->is_by_tokens()) this->score_tokens(plain, query, spec_.positions == Positions::kBanded ? largest : -1);
    }
    for (size_t c = 0; c < chunks.size(); ++c) chunks[c].token_scores = plain[c].token_scores;
    if (spec_.slot_budget > 0 && spec_.budget_unit == BudgetUnit::kGroup) {
      take_groups(chunks, query, result);
    } else {
      for (size_t c = 0; c < chunks.size(); ++c) open(chunks[c], static_cast<int>(c), query, result);
      if (spec_.slot_budget > 0) keep_best_chunks(chunks, result);
    }
    memory_.k.resize(toy_.cross.size());
    memory_.v.resize(toy_.cross.size());
    memory_.query_position = static_cast<int>(chunks.size()) + 1;
    if (spec_.positions == Positions::kBanded) memory_.fast_position = largest;
    for (const Read& chunk : chunks) {
      for (const Piece& piece : chunk.pieces) {
        inject(chunk, piece, result);
        const int first = piece.begin * chunk.step, last = std::min(piece.end * chunk.step, chunk.n);
        result.nodes.push_back({chunk.document, chunk.index, piece.level, chunk.begin + first, chunk.begin + last, n_slots(piece), piece.is_leaf,
            static_cast<float>(piece.score)});
      }
    }
    for (const auto& [side, out] : {std::pair(&memory_.k, &result.keys), std::pair(&memory_.v, &result.values)}) {
      for (const Rows& rows : *side) {
        for (const Row& row : rows) out->insert(out->end(), row.begin(), row.end());
      }
    }
    if (result.slot_positions.empty()) memory_ = {};  // nothing fits the budget: nothing is injected
  }
};

// The oracle of the toy's semantics.
template <class Real> std::unique_ptr<Oracle<Real>> make_oracle(const Toy& toy, DType kv_dtype) {
  if (toy.spec.semantics == Semantics::kNested) return std::make_unique<NestedOracle<Real>>(toy, kv_dtype);
  return std::make_unique<Oracle<Real>>(toy, kv_dtype);
}

}  // namespace banyan::test
