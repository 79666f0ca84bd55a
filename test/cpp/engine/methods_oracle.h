// methods_oracle: the methods that run the unchanged model, once more in straight loops and without state: every step computes everything again
// from the token ids. Real is double for the truth, float for the error of naive code.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>
#include <numeric>

#include "base/half.h"
#include "oracle.h"

namespace banyan::test {

struct MethodQuestion {
  std::vector<OracleDocument> documents;
  Ids prompt;
  Ids forced;  // what is fed instead of the greedy tokens, one a step
  MethodOptions options;
  int n_steps() const { return static_cast<int>(forced.size()); }
};

struct MethodResult {
  std::vector<double> logits, greedy_logits;  // of all rows of the first local pass; of the last row of every step
  Ids greedy;
  double margin = 1e9;  // FocusLLM: the closest decision which chunks are refreshed
};

// kv_type: of local caches, pool_type: of whole chunks; what the engine rounds to.
template <class Real> class MethodOracle {
 public:
  using Row = std::vector<Real>;
  using Rows = std::vector<Row>;

  explicit MethodOracle(const Toy& toy, DType kv_type = DType::kF32, DType pool_type = DType::kF32)
      : toy_(toy), spec_(toy.spec), s_(toy.spec.upper), kv_type_(kv_type), pool_type_(pool_type) {}

  MethodResult run(const MethodQuestion& question) {
    MethodResult result;
    set_rope(question);
    begin_focus();
    Ids fed;
    for (int step = 0; step < std::max(1, question.n_steps()); ++step) {
      const Rows rows = states(question, fed, result);
      const Row last = logits_of(rows.back());
      if (step == 0) {
        for (const Row& row : rows) append(result.logits, logits_of(row));
      }
      if (question.n_steps() == 0) break;
      append(result.greedy_logits, last);
      result.greedy.push_back(static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin()));
      fed.push_back(question.forced[static_cast<size_t>(step)]);
    }
    return result;
  }

 private:
  // Keys before rotation and values of every layer, by row; what reads them rounds them to `type` (keys when they are rotated).
  struct Bank {
    explicit Bank(DType type, size_t n_layers) : type(type), k(n_layers), v(n_layers) {}
    DType type;
    std::vector<Rows> k, v;
  };
  // Rows [begin, end) of a bank (null: of the rows that run), key i at position i + shift, seen from a position.
  struct Range {
    const Bank* bank;
    size_t begin, end;
    int shift, from, group = 0;
  };
  // Keys whose scores are divided by a temperature; the weight of all is exp(temperature ln(sum exp(score / temperature)) + log_scale).
  struct Group {
    Real temperature = 1, log_scale = 0;
  };
  struct Token {
    int32_t id;
    std::vector<Range> seen;
    bool is_candidate = false;
  };

  static void append(std::vector<double>& to, const Row& row) { to.insert(to.end(), row.begin(), row.end()); }

  static Row multiply(const Matrix& w, const Row& x, const std::vector<float>& bias = {}) {
    Row out(static_cast<size_t>(w.rows));
    for (size_t i = 0; i < out.size(); ++i) {
      Real sum = bias.empty() ? 0 : static_cast<Real>(bias[i]);
      for (size_t j = 0; j < x.size(); ++j) sum += static_cast<Real>(w.data[i * x.size() + j]) * x[j];
      out[i] = sum;
    }
    return out;
  }

  static void norm(Row& x, const std::vector<float>& weight) {  // of every head where the weight is as short as a head
    for (size_t at = 0; !weight.empty() && at < x.size(); at += weight.size()) {
      Real sum = 0;
      for (size_t i = 0; i < weight.size(); ++i) sum += x[at + i] * x[at + i];
      const Real scale = 1 / std::sqrt(sum / static_cast<Real>(weight.size()) + static_cast<Real>(1e-5f));
      for (size_t i = 0; i < weight.size(); ++i) x[at + i] *= scale * static_cast<Real>(weight[i]);
    }
  }

  Row rotated(Row x, int position) const {
    const auto d = static_cast<size_t>(s_.head_dim), half = d / 2;
    for (size_t m = 0; m < half; ++m) {
      const Real angle = static_cast<Real>(position) * static_cast<Real>(inv_freq_[m]);
      const Real c = std::cos(angle) * static_cast<Real>(magnitude_), t = std::sin(angle) * static_cast<Real>(magnitude_);
      for (size_t head = 0; head < x.size(); head += d) {
        Real &a = x[head + (s_.is_interleaved ? 2 * m : m)], &b = x[head + (s_.is_interleaved ? 2 * m + 1 : m + half)];
        const Real was = a;
        a = a * c - b * t;
        b = b * c + was * t;
      }
    }
    return x;
  }

  // transformers' rotary embeddings, from their papers.
  void set_rope(const MethodQuestion& question) {
    const MethodOptions& options = question.options;
    const bool is_full = options.method == Method::kFull;
    const RopeScaling scaling = is_full ? options.rope_scaling : RopeScaling::kNone;
    const double c = s_.head_dim, factor = options.rope_factor, window = static_cast<double>(spec_.window);
    double theta = s_.theta;
    if (scaling == RopeScaling::kNtk) theta *= std::pow(factor, c / (c - 2));
    if (scaling == RopeScaling::kDynamicNtk) {
      const double length = std::max(window, static_cast<double>(text(question).size()) + question.n_steps());
      theta *= std::pow(factor * length / window - (factor - 1), c / (c - 2));
    }
    inv_freq_.clear();
    magnitude_ = 1;
    for (int m = 0; m < s_.head_dim / 2; ++m) inv_freq_.push_back(std::pow(theta, -2.0 * m / c));
    if (scaling == RopeScaling::kLinear) {
      for (double& f : inv_freq_) f /= factor;
    }
    if (scaling != RopeScaling::kYarn) return;
    const auto turning = [&](double turns) { return c * std::log(window / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta)); };
    const double low = std::max(std::floor(turning(32)), 0.0);
    double high = std::min(std::ceil(turning(1)), c - 1);
    if (low == high) high += 0.001;
    for (size_t m = 0; m < inv_freq_.size(); ++m) {
      const double ramp = std::clamp((static_cast<double>(m) - low) / (high - low), 0.0, 1.0);
      inv_freq_[m] = inv_freq_[m] / factor * ramp + inv_freq_[m] * (1 - ramp);
    }
    magnitude_ = 0.1 * std::log(factor) + 1;
  }

  // All layers; `own` receives the rows' keys and values. The last row's queries stay in asked_.
  Rows forward(const std::vector<Token>& tokens, const std::vector<Group>& groups, Bank& own) {
    const auto d = static_cast<size_t>(s_.head_dim), heads = static_cast<size_t>(s_.n_heads), per_kv = heads / static_cast<size_t>(s_.n_kv_heads);
    Rows x;
    for (const Token& token : tokens) {
      const auto first = toy_.upper.embedding.data.begin() + static_cast<std::ptrdiff_t>(token.id) * s_.dim;
      x.emplace_back(first, first + s_.dim);
    }
    asked_.clear();
    for (size_t layer = 0; layer < toy_.upper.layers.size(); ++layer) {
      const Block& b = toy_.upper.layers[layer];
      Rows q;
      for (size_t t = 0; t < x.size(); ++t) {
        const bool is_candidate = tokens[t].is_candidate;
        Row input = x[t];
        norm(input, b.attn_norm);
        q.push_back(multiply(is_candidate ? toy_.candidates[layer].q : b.q, input, b.q_bias));
        Row k = multiply(is_candidate ? toy_.candidates[layer].k : b.k, input, b.k_bias);
        norm(q.back(), b.q_norm);
        norm(k, b.k_norm);
        own.k[layer].push_back(k);
        own.v[layer].push_back(multiply(is_candidate ? toy_.candidates[layer].v : b.v, input, b.v_bias));
      }
      asked_.push_back(q.back());
      std::map<std::pair<const Bank*, int>, std::pair<Rows, Rows>> turned;  // by bank and shift
      for (size_t t = 0; t < x.size(); ++t) {
        Row out(q[t].size(), 0);
        std::vector<const std::pair<Rows, Rows>*> kv;
        std::vector<Row> queries;
        for (const Range& range : tokens[t].seen) {
          const Bank& bank = range.bank == nullptr ? own : *range.bank;
          auto& entry = turned[{range.bank, range.shift}];
          for (size_t i = entry.first.size(); i < bank.k[layer].size(); ++i) {
            entry.first.push_back(rounded(rotated(bank.k[layer][i], static_cast<int>(i) + range.shift), bank.type));
            entry.second.push_back(rounded(bank.v[layer][i], bank.type));
          }
          kv.push_back(&entry);
          queries.push_back(rotated(q[t], range.from));
        }
        for (size_t h = 0; h < heads; ++h) attend(tokens[t].seen, kv, queries, groups, h * d, h / per_kv * d, out);
        const Row added = multiply(tokens[t].is_candidate ? toy_.candidates[layer].o : b.o, out);
        for (size_t i = 0; i < added.size(); ++i) x[t][i] += added[i];
        Row input = x[t];
        norm(input, b.mlp_norm);
        Row gate = multiply(b.gate, input);
        const Row up = multiply(b.up, input);
        for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
        const Row mlp = multiply(b.down, gate);
        for (size_t i = 0; i < mlp.size(); ++i) x[t][i] += mlp[i];
      }
    }
    return x;
  }

  // One head: every group's own softmax, mixed by the softmax of their weights.
  void attend(const std::vector<Range>& seen, const std::vector<const std::pair<Rows, Rows>*>& kv, const std::vector<Row>& queries,
      const std::vector<Group>& groups, size_t q_at, size_t kv_at, Row& out) const {
    const auto d = static_cast<size_t>(s_.head_dim);
    Rows outputs(groups.size(), Row(d, 0));
    Row log_weights(groups.size(), -std::numeric_limits<Real>::infinity());
    for (size_t g = 0; g < groups.size(); ++g) {
      std::vector<std::pair<Real, const Real*>> items;  // score / temperature, value
      Real largest = -std::numeric_limits<Real>::infinity(), total = 0;
      for (size_t r = 0; r < seen.size(); ++r) {
        if (static_cast<size_t>(seen[r].group) != g) continue;
        for (size_t i = seen[r].begin; i < seen[r].end; ++i) {
          Real score = 0;
          for (size_t c = 0; c < d; ++c) score += queries[r][q_at + c] * kv[r]->first[i][kv_at + c];
          items.emplace_back(score / std::sqrt(static_cast<Real>(s_.head_dim)) / groups[g].temperature, kv[r]->second[i].data() + kv_at);
          largest = std::max(largest, items.back().first);
        }
      }
      if (items.empty()) continue;
      for (auto& [score, value] : items) total += score = std::exp(score - largest);
      for (const auto& [weight, value] : items) {
        for (size_t c = 0; c < d; ++c) outputs[g][c] += weight / total * value[c];
      }
      log_weights[g] = groups[g].temperature * (largest + std::log(total)) + groups[g].log_scale;
    }
    const Real largest = *std::max_element(log_weights.begin(), log_weights.end());
    Real total = 0;
    for (Real& w : log_weights) total += w = std::exp(w - largest);
    for (size_t g = 0; g < groups.size(); ++g) {
      for (size_t c = 0; c < d; ++c) out[q_at + c] += log_weights[g] / total * outputs[g][c];
    }
  }

  Row logits_of(Row row) const {
    norm(row, toy_.upper.final_norm);
    return multiply(toy_.upper.head, row);
  }

  Ids with_bos(Ids ids) const {
    if (spec_.bos_id >= 0 && (ids.empty() || ids[0] != spec_.bos_id)) ids.insert(ids.begin(), spec_.bos_id);
    return ids;
  }

  // What full and streaming attention read.
  Ids text(const MethodQuestion& question) const {
    Ids ids;
    auto rest = question.prompt.begin();
    if (spec_.bos_id >= 0 && !question.documents.empty() && *rest == spec_.bos_id) ids.push_back(*rest++);
    for (const OracleDocument& document : question.documents) ids.insert(ids.end(), document.ids.begin(), document.ids.end());
    ids.insert(ids.end(), rest, question.prompt.end());
    return ids;
  }

  static std::vector<Ids> chunks_of(const MethodQuestion& question) {
    std::vector<Ids> chunks;
    for (const OracleDocument& document : question.documents) {
      for (size_t begin = 0; begin < document.ids.size(); begin += static_cast<size_t>(document.chunk_size)) {
        const size_t end = std::min(document.ids.size(), begin + static_cast<size_t>(document.chunk_size));
        chunks.emplace_back(document.ids.begin() + static_cast<std::ptrdiff_t>(begin), document.ids.begin() + static_cast<std::ptrdiff_t>(end));
      }
    }
    return chunks;
  }

  Bank bank(DType type) const { return Bank(type, toy_.upper.layers.size()); }

  static std::vector<Token> causal(const Ids& ids, int shift) {
    std::vector<Token> tokens;
    for (size_t t = 0; t < ids.size(); ++t) tokens.push_back({ids[t], {{nullptr, 0, t + 1, shift, static_cast<int>(t) + shift}}});
    return tokens;
  }

  // Hidden states of the local tokens after `fed` was generated.
  Rows states(const MethodQuestion& question, const Ids& fed, MethodResult& result) {
    switch (question.options.method.value()) {
      case Method::kFull: return full(question, fed);
      case Method::kStreaming: return streaming(question, fed);
      case Method::kParallel: return parallel(question, fed);
      default: return focus(question, fed, result);
    }
  }

  Rows full(const MethodQuestion& question, const Ids& fed) {
    Ids ids = text(question);
    ids.insert(ids.end(), fed.begin(), fed.end());
    Bank own = bank(kv_type_);
    return forward(causal(ids, 0), {{}}, own);
  }

  Rows streaming(const MethodQuestion& question, const Ids& fed) {
    Ids ids = text(question);
    ids.insert(ids.end(), fed.begin(), fed.end());
    const int n_sinks = question.options.n_sinks;
    const int window = static_cast<int>(question.options.window > 0 ? question.options.window : spec_.window);
    std::vector<Token> tokens;
    for (int p = 0; p < static_cast<int>(ids.size()); ++p) {
      Token token{ids[static_cast<size_t>(p)], {}};
      token.seen.push_back({nullptr, 0, static_cast<size_t>(std::min(n_sinks, p + 1)), 0, std::min(p, window - 1)});
      const int first = std::max(n_sinks, p - (window - n_sinks) + 1);
      if (first <= p) token.seen.push_back({nullptr, static_cast<size_t>(first), static_cast<size_t>(p) + 1, 0, p});
      tokens.push_back(token);
    }
    Bank own = bank(kv_type_);
    return forward(tokens, {{}}, own);
  }

  Rows parallel(const MethodQuestion& question, const Ids& fed) {
    const int n_bos = spec_.bos_id >= 0 ? 1 : 0;
    std::vector<Bank> banks;
    size_t longest = 0;
    for (Ids ids : chunks_of(question)) {
      longest = std::max(longest, ids.size());
      if (n_bos == 1) ids.insert(ids.begin(), spec_.bos_id);
      banks.push_back(bank(pool_type_));
      forward(causal(ids, 0), {{}}, banks.back());
    }
    Ids ids = with_bos(question.prompt);
    ids.insert(ids.end(), fed.begin(), fed.end());
    const int shift = static_cast<int>(longest);  // of the tokens behind BOS, and of all where there is none
    std::vector<Token> tokens;
    for (size_t t = 0; t < ids.size(); ++t) {
      Token token{ids[t], {}};
      const auto first = static_cast<size_t>(n_bos);
      const int from = t < first ? 0 : static_cast<int>(t) + shift;
      if (n_bos == 1) token.seen.push_back({nullptr, 0, 1, 0, from, 1});
      if (t >= first) {
        token.seen.push_back({nullptr, first, t + 1, shift, from, 1});
        for (const Bank& chunk : banks) token.seen.push_back({&chunk, first, chunk.k[0].size(), 0, from, 0});
      }
      tokens.push_back(token);
    }
    Bank own = bank(kv_type_);
    const auto temperature = static_cast<Real>(question.options.context_temperature), scale = static_cast<Real>(question.options.context_scale);
    return forward(tokens, {{temperature, std::log(scale)}, {}}, own);
  }

  void begin_focus() {
    n_refreshed_ = -1;
    candidates_.reset();
  }

  Rows focus(const MethodQuestion& question, const Ids& fed, MethodResult& result) {
    const std::vector<Ids> chunks = chunks_of(question);
    size_t n_query = question.prompt.size();
    const int cap = question.options.query_cap > 0 ? question.options.query_cap : spec_.focus->query_cap;
    n_query = std::min(n_query, static_cast<size_t>(cap));
    for (const OracleDocument& document : question.documents) n_query = std::min(n_query, static_cast<size_t>(document.chunk_size));
    const int n_fed = static_cast<int>(fed.size()), m = static_cast<int>(chunks.size());
    if (n_refreshed_ < 0 || n_fed - n_refreshed_ >= question.options.refresh_every) {
      std::vector<size_t> chosen(chunks.size());
      std::iota(chosen.begin(), chosen.end(), size_t{0});
      const auto n_chosen = static_cast<size_t>(question.options.refresh_chunks);
      if (n_refreshed_ >= 0 && n_chosen > 0 && n_chosen < chunks.size()) {
        const std::vector<double> mass = masses();
        std::sort(chosen.begin(), chosen.end(), [&](size_t a, size_t b) { return mass[a] > mass[b]; });
        result.margin = std::min(result.margin, mass[chosen[n_chosen - 1]] - mass[chosen[n_chosen]]);
        chosen.resize(n_chosen);
      }
      if (!candidates_) {
        candidates_.emplace(bank(DType::kF32));
        for (size_t layer = 0; layer < candidates_->k.size(); ++layer) {
          candidates_->k[layer].resize(chunks.size());
          candidates_->v[layer].resize(chunks.size());
        }
      }
      const Ids query = with_bos({question.prompt.end() - static_cast<std::ptrdiff_t>(n_query), question.prompt.end()});
      for (const size_t c : chosen) {
        Ids ids = chunks[c];
        ids.insert(ids.end(), query.begin(), query.end());
        ids.insert(ids.end(), fed.begin(), fed.end());
        std::vector<Token> tokens = causal(ids, 0);
        tokens.back().is_candidate = true;
        Bank own = bank(pool_type_);
        forward(tokens, {{}}, own);
        for (size_t layer = 0; layer < own.k.size(); ++layer) {
          candidates_->k[layer][c] = own.k[layer].back();
          candidates_->v[layer][c] = own.v[layer].back();
        }
      }
      n_refreshed_ = n_fed;
    }
    Ids ids = with_bos(question.prompt);
    ids.insert(ids.end(), fed.begin(), fed.end());
    std::vector<Token> tokens = causal(ids, m);
    for (Token& token : tokens) token.seen.push_back({&*candidates_, 0, chunks.size(), 0, token.seen[0].from});
    Bank own = bank(kv_type_);
    Rows rows = forward(tokens, {{}}, own);
    asked_from_ = m + static_cast<int>(ids.size()) - 1;
    return rows;
  }

  // What the last local token saw of every candidate, over all layers and heads.
  std::vector<double> masses() const {
    const auto d = static_cast<size_t>(s_.head_dim), heads = static_cast<size_t>(s_.n_heads), per_kv = heads / static_cast<size_t>(s_.n_kv_heads);
    std::vector<double> mass(candidates_->k[0].size(), 0);
    for (size_t layer = 0; layer < asked_.size(); ++layer) {
      const Row q = rotated(asked_[layer], asked_from_);
      for (size_t h = 0; h < heads; ++h) {
        std::vector<double> weights;
        double total = 0;
        for (size_t c = 0; c < mass.size(); ++c) {
          const Row k = rotated(candidates_->k[layer][c], static_cast<int>(c));
          double score = 0;
          for (size_t i = 0; i < d; ++i) score += static_cast<double>(q[h * d + i]) * static_cast<double>(k[h / per_kv * d + i]);
          weights.push_back(std::exp(score / std::sqrt(static_cast<double>(d))));
          total += weights.back();
        }
        for (size_t c = 0; c < mass.size(); ++c) mass[c] += weights[c] / total;
      }
    }
    return mass;
  }

  const Toy& toy_;
  const ToySpec& spec_;
  const Shape& s_;
  const DType kv_type_, pool_type_;
  std::vector<double> inv_freq_;
  double magnitude_ = 1;
  Rows asked_;  // [layer], before rotation
  int asked_from_ = 0, n_refreshed_ = -1;
  std::optional<Bank> candidates_;
};

}  // namespace banyan::test
