// oracle: the whole method once more, in straight loops, from its description alone (sharedllm-semantics 4 to 9; the paper's own halves). Every
// token of every node goes through all layers, nothing is shared or saved. Real is double for the truth, float for the error of naive code.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "drive.h"
#include "toy.h"

namespace banyan::test {

struct OracleDocument {
  Ids ids;
  int chunk_size = 0;
};

// All numbers widened to double.
struct OracleResult {
  std::vector<double> logits, greedy_logits, query_vector, keys, values;
  Ids greedy;
  std::vector<OpenedNode> nodes;
  std::vector<int64_t> slot_positions;
  double margin = 1e9;  // the closest decision between two halves
};

// As a cache of that type holds it: F32, F16, or Q8_0 in blocks of 32.
template <class Real> std::vector<Real> rounded(std::vector<Real> row, DType type) {
  if (type == DType::kF16) {
    for (Real& x : row) x = static_cast<Real>(f16_to_f32(f32_to_f16(static_cast<float>(x))));
  } else if (type == DType::kQ8_0) {
    for (size_t at = 0; at < row.size(); at += 32) {
      Real largest = 0;
      for (size_t i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(row[at + i]));
      const Real step = static_cast<Real>(f16_to_f32(f32_to_f16(static_cast<float>(largest / 127))));
      for (size_t i = 0; i < 32; ++i) row[at + i] = step > 0 ? std::round(row[at + i] / step) * step : 0;
    }
  }
  return row;
}

template <class Real> class Oracle {
 public:
  using Row = std::vector<Real>;
  using Rows = std::vector<Row>;

  // kv_dtype: of slots, memory and local cache, which are rounded so.
  explicit Oracle(const Toy& toy, DType kv_dtype = DType::kF32) : toy_(toy), spec_(toy.spec), kv_dtype_(kv_dtype) {}
  virtual ~Oracle() = default;

  OracleResult run(const std::vector<OracleDocument>& documents, const Ids& ids, int64_t query_index, int n_new, bool recompute) {
    OracleResult result;
    memory_ = {};
    retrieve(documents, ids, query_index < 0 ? ids.size() - 1 : static_cast<size_t>(query_index), result);
    const bool is_released = spec_.semantics == Semantics::kReleased;
    std::vector<Layer> cache(toy_.upper.layers.size());
    Row last;
    for (const Row& row : upper(cache, ids, 0, is_released && ids.size() == 1)) {
      last = row;
      result.logits.insert(result.logits.end(), row.begin(), row.end());
    }
    Ids all = ids;
    for (int i = 0; i < n_new; ++i) {
      const auto best = static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin());
      result.greedy.push_back(best);
      result.greedy_logits.insert(result.greedy_logits.end(), last.begin(), last.end());
      all.push_back(best);
      if (recompute) {
        std::vector<Layer> fresh(cache.size());
        last = upper(fresh, all, 0, false).back();
      } else {
        last = upper(cache, {best}, all.size() - 1, is_released).back();
      }
    }
    return result;
  }

 protected:
  // Keys and values of one layer, by token; `plain` are the keys before rotation.
  struct Layer {
    Rows plain, k, v;
  };
  struct Span {
    int begin, end;
    int size() const { return end - begin; }
  };
  struct Node {
    int chunk, level;
    Span span;  // within the chunk
    bool is_leaf;
    double score;
  };
  struct Chunk {
    int document, index, begin;
    Ids ids;
    int depth = 0;
    Span open{};
    std::vector<double> token_scores{};  // token keys only
    double score = std::numeric_limits<double>::quiet_NaN();
    std::vector<Node> rejected{}, leaves{};
  };
  struct Memory {
    std::vector<Rows> k, v;  // [M][slot]
    int query_position = 0;
    int fast_position = -1;  // of the fast half of the pairs, if not the same
  };

  Row stored(const Row& row) const { return rounded(row, kv_dtype_); }

  static Row multiply(const Matrix& w, const Row& x, const std::vector<float>& bias = {}) {
    Row out(static_cast<size_t>(w.rows));
    for (size_t i = 0; i < out.size(); ++i) {
      Real sum = 0;
      for (size_t j = 0; j < x.size(); ++j) sum += static_cast<Real>(w.data[i * x.size() + j]) * x[j];
      out[i] = bias.empty() ? sum : sum + static_cast<Real>(bias[i]);
    }
    return out;
  }

  static void norm(Real* x, const std::vector<float>& weight) {
    Real sum = 0;
    for (size_t i = 0; i < weight.size(); ++i) sum += x[i] * x[i];
    const Real scale = 1 / std::sqrt(sum / static_cast<Real>(weight.size()) + static_cast<Real>(1e-5f));
    for (size_t i = 0; i < weight.size(); ++i) x[i] *= scale * static_cast<Real>(weight[i]);
  }
  static Row normed(Row x, const std::vector<float>& weight) {
    norm(x.data(), weight);
    return x;
  }

  // Turns every head of the row. `common` >= 0: all pairs by the angle of that one pair.
  static void rotate(Row& x, const Shape& s, int position, int common = -1) {
    const auto d = static_cast<size_t>(s.head_dim), half = d / 2;
    for (size_t head = 0; head < x.size(); head += d) {
      for (size_t m = 0; m < half; ++m) {
        const double pair = common >= 0 ? common : static_cast<double>(m);
        const Real angle = static_cast<Real>(position) * static_cast<Real>(std::pow(s.theta, -2.0 * pair / s.head_dim));
        Real& a = x[head + (s.is_interleaved ? 2 * m : m)];
        Real& b = x[head + (s.is_interleaved ? 2 * m + 1 : m + half)];
        const Real c = std::cos(angle), t = std::sin(angle), was = a;
        a = a * c - b * t;
        b = b * c + was * t;
      }
    }
  }

  // The fast half of the pairs by one position, the slow half by another.
  static void rotate_apart(Row& x, const Shape& s, int fast, int slow) {
    const int half = s.head_dim / 2, d = s.head_dim;
    for (size_t head = 0; head < x.size(); head += static_cast<size_t>(d)) {
      for (int m = 0; m < half; ++m) {
        const Real angle = static_cast<Real>(m < half / 2 ? fast : slow) * static_cast<Real>(std::pow(s.theta, -2.0 * m / d));
        Real& a = x[head + static_cast<size_t>(s.is_interleaved ? 2 * m : m)];
        Real& b = x[head + static_cast<size_t>(s.is_interleaved ? 2 * m + 1 : m + half)];
        const Real first = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = first;
      }
    }
  }

  // Attention of one query row over rows begin..end of keys and values.
  static Row attend(const Row& q, const Rows& k, const Rows& v, size_t begin, size_t end, int n_heads, int n_kv_heads, int head_dim) {
    Row out(q.size(), 0);
    const auto d = static_cast<size_t>(head_dim);
    for (size_t h = 0; h < static_cast<size_t>(n_heads); ++h) {
      const size_t g = h / static_cast<size_t>(n_heads / n_kv_heads);
      std::vector<Real> weights;
      Real largest = -std::numeric_limits<Real>::infinity(), total = 0;
      for (size_t t = begin; t < end; ++t) {
        Real score = 0;
        for (size_t i = 0; i < d; ++i) score += q[h * d + i] * k[t][g * d + i];
        weights.push_back(score / std::sqrt(static_cast<Real>(head_dim)));
        largest = std::max(largest, weights.back());
      }
      for (Real& w : weights) total += w = std::exp(w - largest);
      for (size_t t = begin; t < end; ++t) {
        for (size_t i = 0; i < d; ++i) out[h * d + i] += weights[t - begin] / total * v[t][g * d + i];
      }
    }
    return out;
  }

  static void add(Row& x, const Row& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  // One block over rows x at positions n_past.., appending to kv. `injected`: the layer's index in the memory, or -1. stops_early: after the
  // self-attention.
  void block(const Net& net, size_t index, Rows& x, Layer& kv, size_t n_past, bool is_cached, int injected, bool is_one_angle,
      bool stops_early = false) const {
    const Shape& s = net.shape;
    const Block& b = net.layers[index];
    const auto norm_heads = [&](Row& row, const std::vector<float>& weight) {
      for (size_t at = 0; !weight.empty() && at < row.size(); at += weight.size()) norm(row.data() + at, weight);
    };
    for (size_t t = 0; t < x.size(); ++t) {
      const int position = static_cast<int>(n_past + t);
      const Row input = normed(x[t], b.attn_norm);
      Row q = multiply(b.q, input, b.q_bias), k = multiply(b.k, input, b.k_bias);
      const Row v = multiply(b.v, input, b.v_bias);
      norm_heads(q, b.q_norm);
      norm_heads(k, b.k_norm);
      kv.plain.push_back(k);
      rotate(q, s, position);
      rotate(k, s, position);
      kv.k.push_back(is_cached ? stored(k) : k);
      kv.v.push_back(is_cached ? stored(v) : v);
      const size_t end = n_past + t + 1, window = static_cast<size_t>(s.sliding_window);
      const size_t begin = window > 0 && end > window ? end - window : 0;
      add(x[t], multiply(b.o, attend(q, kv.k, kv.v, begin, end, s.n_heads, s.n_kv_heads, s.head_dim)));
      if (stops_early) continue;
      if (injected >= 0) {
        const auto i = static_cast<size_t>(injected);
        Row cross = multiply(toy_.cross[i].q, normed(x[t], toy_.cross[i].norm));
        const int half = s.head_dim / 2;
        if (memory_.fast_position >= 0) rotate_apart(cross, toy_.lower.shape, memory_.fast_position, memory_.query_position);
        else rotate(cross, toy_.lower.shape, memory_.query_position, is_one_angle ? memory_.query_position % half : -1);
        add(x[t], multiply(toy_.cross[i].o,
                      attend(cross, memory_.k[i], memory_.v[i], 0, memory_.k[i].size(), s.n_heads, toy_.lower.shape.n_kv_heads, s.head_dim)));
      }
      const Row mlp_input = normed(x[t], b.mlp_norm);
      Row gate = multiply(b.gate, mlp_input);
      const Row up = multiply(b.up, mlp_input);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      add(x[t], multiply(b.down, gate));
    }
  }

  static Rows embed(const Net& net, const Ids& ids) {
    Rows x;
    const auto dim = static_cast<size_t>(net.shape.dim);
    for (const int32_t id : ids) {
      const auto first = net.embedding.data.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(id) * dim);
      x.emplace_back(first, first + static_cast<std::ptrdiff_t>(dim));
    }
    return x;
  }

  // Logits of every row.
  Rows upper(std::vector<Layer>& cache, const Ids& ids, size_t n_past, bool is_one_angle) const {
    Rows x = embed(toy_.upper, ids);
    for (size_t i = 0; i < cache.size(); ++i) {
      block(toy_.upper, i, x, cache[i], n_past, true, !memory_.k.empty() && i < toy_.cross.size() ? static_cast<int>(i) : -1, is_one_angle);
    }
    for (Row& row : x) row = multiply(toy_.upper.head, normed(row, toy_.upper.final_norm));
    return x;
  }

  // Block 0 alone, the last token's output, the model's final norm.
  Row vector_of(const Net& net, const Ids& ids) const {
    Rows x = embed(net, ids);
    Layer kv;
    block(net, 0, x, kv, 0, false, -1, false);
    return normed(x.back(), net.final_norm);
  }

  static double cosine(const Row& a, const Row& b) {
    double dot = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      dot += static_cast<double>(a[i]) * b[i];
      aa += static_cast<double>(a[i]) * a[i];
      bb += static_cast<double>(b[i]) * b[i];
    }
    return dot / (std::max(std::sqrt(aa), 1e-6) * std::max(std::sqrt(bb), 1e-6));
  }

  bool is_by_tokens() const { return spec_.selection == SelectionRule::kTokenKeys; }

  // How well a span answers; the cosine rule knows halves only.
  double score_of(const Chunk& chunk, const Row& query, Span span, bool is_whole) const {
    if (!spec_.do_retrieval || (is_whole && !is_by_tokens())) return std::numeric_limits<double>::quiet_NaN();
    if (!is_by_tokens()) return cosine(vector_of(toy_.lower, part(chunk.ids, span)), query);
    return *std::max_element(chunk.token_scores.begin() + span.begin, chunk.token_scores.begin() + span.end);
  }

  // The question's cross query in the matching layer, without memory, before rotation.
  Row cross_query(const Ids& ids) const {
    const auto layer = static_cast<size_t>(spec_.selection_layer);
    Rows x = embed(toy_.upper, ids);
    for (size_t i = 0; i < layer; ++i) {
      Layer kv;
      block(toy_.upper, i, x, kv, 0, false, -1, false);
    }
    Layer kv;
    block(toy_.upper, layer, x, kv, 0, false, -1, false, true);
    return multiply(toy_.cross[layer].q, normed(x.back(), toy_.cross[layer].norm));
  }

  // Each chunk read as a whole; keys turned by the chunk's index, the query by chunks + 1. Per head standardized over all tokens; the best head counts, of those named.
  // `fast_position` >= 0: keys and query turn with the two halves of their pairs apart, the query's fast half by that.
  void score_tokens(std::vector<Chunk>& chunks, Row query, int fast_position = -1) const {
    const Shape& s = toy_.lower.shape;
    const auto layer = static_cast<size_t>(spec_.selection_layer), d = static_cast<size_t>(s.head_dim),
               heads = static_cast<size_t>(toy_.upper.shape.n_heads);
    const bool is_apart = fast_position >= 0;
    if (is_apart) rotate_apart(query, s, fast_position, static_cast<int>(chunks.size()) + 1);
    else rotate(query, s, static_cast<int>(chunks.size()) + 1);
    Rows keys;
    for (size_t c = 0; c < chunks.size(); ++c) {
      Rows x = embed(toy_.lower, chunks[c].ids);
      Layer kv;
      for (size_t i = 0; i <= layer; ++i) {
        kv = {};
        block(toy_.lower, i, x, kv, 0, false, -1, false);
      }
      for (size_t t = 0; t < kv.k.size(); ++t) {
        Row key = is_apart ? kv.plain[t] : kv.k[t];
        if (is_apart) rotate_apart(key, s, static_cast<int>(t), 0);
        key = stored(key);
        if (is_apart) rotate_apart(key, s, 0, static_cast<int>(c));
        else rotate(key, s, static_cast<int>(c));
        keys.push_back(key);
      }
    }
    std::vector<double> best(keys.size(), -std::numeric_limits<double>::infinity());
    for (size_t h = 0; h < heads; ++h) {
      const std::vector<int>& named = spec_.selection_heads;
      if (!named.empty() && std::find(named.begin(), named.end(), static_cast<int>(h)) == named.end()) continue;
      const size_t g = h / (heads / static_cast<size_t>(s.n_kv_heads));
      std::vector<double> products;
      double mean = 0, variance = 0;
      for (const Row& key : keys) {
        double sum = 0;
        for (size_t i = 0; i < d; ++i) sum += static_cast<double>(query[h * d + i]) * key[g * d + i];
        products.push_back(sum);
        mean += sum / static_cast<double>(keys.size());
      }
      for (const double p : products) variance += (p - mean) * (p - mean) / static_cast<double>(keys.size());
      for (size_t t = 0; t < keys.size(); ++t) best[t] = std::max(best[t], (products[t] - mean) / std::max(std::sqrt(variance), 1e-6));
    }
    auto next = best.begin();
    for (Chunk& chunk : chunks) {
      chunk.token_scores.assign(next, next + static_cast<std::ptrdiff_t>(chunk.ids.size()));
      next += static_cast<std::ptrdiff_t>(chunk.ids.size());
    }
  }

  static Ids part(const Ids& ids, Span span) { return {ids.begin() + span.begin, ids.begin() + span.end}; }

  // Offsets of the slots and the size of their groups (section 6).
  int step_of(int n) const {
    const Keep keep = spec_.keep();
    int64_t wanted = keep.count > 0 ? keep.count : n;
    if (keep.is_fraction) wanted = std::max(1, static_cast<int>(n * keep.fraction));
    return n / static_cast<int>(std::min<int64_t>(wanted, n));
  }

  virtual void retrieve(const std::vector<OracleDocument>& documents, const Ids& ids, size_t query_index, OracleResult& result) {
    std::vector<Chunk> chunks;
    for (size_t d = 0; d < documents.size(); ++d) {
      const OracleDocument& document = documents[d];
      const int n = static_cast<int>(document.ids.size());
      for (int begin = 0, index = 0; begin < n; begin += document.chunk_size, ++index) {
        Chunk chunk{static_cast<int>(d), index, begin, part(document.ids, {begin, std::min(n, begin + document.chunk_size)})};
        const int n_chunk = static_cast<int>(chunk.ids.size());
        while (chunk.depth < spec_.depth && (2 << chunk.depth) <= n_chunk) ++chunk.depth;
        chunk.open = {0, n_chunk};
        chunks.push_back(chunk);
      }
    }
    if (chunks.empty()) return;
    Row query;
    if (spec_.do_retrieval) {
      const Ids question = part(ids, {0, static_cast<int>(query_index) + 1});
      query = is_by_tokens() ? cross_query(question) : vector_of(toy_.upper, question);
      result.query_vector.assign(query.begin(), query.end());
      if (is_by_tokens()) score_tokens(chunks, query);
    }
    for (Chunk& chunk : chunks) chunk.score = score_of(chunk, query, chunk.open, true);
    for (int level = 0; level < spec_.depth - 1; ++level) choose(chunks, query, level, result);
    const bool is_paper = spec_.semantics == Semantics::kPaper;
    for (size_t c = 0; c < chunks.size(); ++c) {
      Chunk& chunk = chunks[c];
      Span span = chunk.open;
      if (chunk.depth == 0) {
        chunk.leaves = {{static_cast<int>(c), 0, span, true, chunk.score}};
        continue;
      }
      if (!is_paper && span.size() % 2 != 0) --span.end;
      const int middle = span.begin + span.size() / 2;
      chunk.leaves = {{static_cast<int>(c), chunk.depth, {span.begin, middle}, true, chunk.score},
          {static_cast<int>(c), chunk.depth, {middle, span.end}, true, chunk.score}};
    }
    assemble(chunks, result);
  }

  void choose(std::vector<Chunk>& chunks, const Row& query, int level, OracleResult& result) const {
    std::vector<Chunk*> open;
    for (Chunk& chunk : chunks) {
      if (level < chunk.depth - 1) open.push_back(&chunk);
    }
    const size_t n = open.size();
    std::vector<Span> halves(2 * n);
    std::vector<double> scores(2 * n, std::numeric_limits<double>::quiet_NaN());
    for (size_t i = 0; i < n; ++i) {
      const Span span = open[i]->open;
      const int middle = span.begin + span.size() / 2;
      halves[i] = {span.begin, middle};
      halves[n + i] = {middle, span.end};
    }
    for (size_t i = 0; i < 2 * n; ++i) scores[i] = score_of(*open[i % n], query, halves[i], false);
    for (size_t i = 0; i < n; ++i) {
      const bool is_released = spec_.semantics == Semantics::kReleased;
      const size_t a = is_released ? 2 * i : i, b = is_released ? 2 * i + 1 : n + i;
      const bool is_left = spec_.do_retrieval && scores[a] >= scores[b];
      if (spec_.do_retrieval) result.margin = std::min(result.margin, std::fabs(scores[a] - scores[b]));
      const size_t chosen = is_left ? i : n + i, rejected = is_left ? n + i : i;
      open[i]->rejected.push_back({static_cast<int>(open[i] - chunks.data()), level + 1, halves[rejected], false, scores[rejected]});
      open[i]->open = halves[chosen];
      open[i]->score = scores[chosen];
    }
  }

  // Order, rotations, and the encoded slots themselves.
  void assemble(const std::vector<Chunk>& chunks, OracleResult& result) {
    std::vector<std::pair<Node, int>> placed;  // with its row
    const size_t n = chunks.size();
    int n_rows = static_cast<int>(n);
    if (spec_.semantics == Semantics::kPaper) {
      for (size_t c = 0; c < n; ++c) {
        std::vector<Node> nodes = chunks[c].rejected;
        nodes.insert(nodes.end(), chunks[c].leaves.begin(), chunks[c].leaves.end());
        std::sort(nodes.begin(), nodes.end(), [](const Node& a, const Node& b) { return a.span.begin < b.span.begin; });
        for (const Node& node : nodes) placed.push_back({node, static_cast<int>(c)});
      }
    } else {
      std::vector<Node> leaves;
      for (const Chunk& chunk : chunks) leaves.insert(leaves.end(), chunk.leaves.begin(), chunk.leaves.end());
      if (spec_.depth == 1) n_rows = static_cast<int>(leaves.size());
      for (int r = 0; r < n_rows; ++r) {
        const auto row = static_cast<size_t>(r);
        placed.push_back({leaves[row], r});
        if (spec_.depth == 1) continue;
        if (row + n < leaves.size()) placed.push_back({leaves[row + n], r});
        for (size_t i = chunks[row].rejected.size(); i-- > 0;) placed.push_back({chunks[row].rejected[i], r});
      }
    }
    std::vector<int> row_of_slot;
    for (const auto& [node, row] : placed) {
      const int step = step_of(node.span.size());
      for (int offset = 0; offset < node.span.size(); offset += step) {
        row_of_slot.push_back(row);
        result.slot_positions.push_back(chunks[static_cast<size_t>(node.chunk)].begin + node.span.begin + offset);
      }
    }
    memory_.k.resize(toy_.cross.size());
    memory_.v.resize(toy_.cross.size());
    memory_.query_position = n_rows + 1;
    for (const auto& [node, row] : placed) {
      const Chunk& chunk = chunks[static_cast<size_t>(node.chunk)];
      const int position = spec_.semantics == Semantics::kPaper ? row : row_of_slot[std::min(static_cast<size_t>(row), row_of_slot.size() - 1)];
      inject_node(part(chunk.ids, node.span), position);
      OpenedNode opened;
      opened.document = chunk.document;
      opened.chunk = chunk.index;
      opened.level = node.level;
      opened.begin = chunk.begin + node.span.begin;
      opened.end = chunk.begin + node.span.end;
      opened.n_slots = (node.span.size() + step_of(node.span.size()) - 1) / step_of(node.span.size());
      opened.is_finest = node.is_leaf;
      opened.score = static_cast<float>(node.score);
      result.nodes.push_back(opened);
    }
    std::sort(result.nodes.begin(), result.nodes.end(),
        [](const OpenedNode& a, const OpenedNode& b) { return std::pair(a.document, a.begin) < std::pair(b.document, b.begin); });
    for (const Rows& rows : memory_.k) {
      for (const Row& row : rows) result.keys.insert(result.keys.end(), row.begin(), row.end());
    }
    for (const Rows& rows : memory_.v) {
      for (const Row& row : rows) result.values.insert(result.values.end(), row.begin(), row.end());
    }
  }

  // Encodes the node alone and adds its slots, turned to `position`.
  void inject_node(const Ids& ids, int position) {
    const Shape& s = toy_.lower.shape;
    const int n = static_cast<int>(ids.size()), step = step_of(n);
    Rows x = embed(toy_.lower, ids);
    for (size_t i = 0; i < toy_.cross.size(); ++i) {
      Layer kv;
      block(toy_.lower, i, x, kv, 0, false, -1, false);
      for (int offset = 0; offset < n; offset += step) {
        Row k = kv.k[static_cast<size_t>(offset)], v = kv.v[static_cast<size_t>(offset)];
        if (spec_.slot_kind == SlotKind::kMean) {
          const int end = std::min(offset + step, n);
          k.assign(k.size(), 0);
          v.assign(v.size(), 0);
          for (int t = offset; t < end; ++t) {
            add(k, kv.plain[static_cast<size_t>(t)]);
            add(v, kv.v[static_cast<size_t>(t)]);
          }
          for (Real& value : k) value /= static_cast<Real>(end - offset);
          for (Real& value : v) value /= static_cast<Real>(end - offset);
          rotate(k, s, offset);
        }
        k = stored(k);
        rotate(k, s, position);
        memory_.k[i].push_back(stored(k));
        memory_.v[i].push_back(stored(v));
      }
    }
  }

  const Toy& toy_;
  const ToySpec& spec_;
  const DType kv_dtype_;
  Memory memory_;
};

}  // namespace banyan::test
