// compare: a model's runs against the oracle of its semantics: opened nodes, positions, keys and values, logits, greedy tokens.
#pragma once

#include <functional>

#include "engine/document.h"
#include "engine/session.h"
#include "nested_oracle.h"
#include "run.h"

namespace banyan::test {

// Where documents and sessions come from: a model loaded from files, or an engine in memory.
struct Place {
  std::function<std::shared_ptr<Document>(int chunk_size)> document;
  std::function<std::shared_ptr<Session>()> session;
};

inline Place place_of(std::shared_ptr<Model> model) {
  return {[model](int chunk_size) { return model->create_document({chunk_size, {}}); }, [model] { return model->create_session(); }};
}

inline Place place_of(std::shared_ptr<Engine> engine) {
  return {[engine](int chunk_size) {
            TreeConfig tree = engine->tree;
            tree.chunk_size = chunk_size;
            return std::make_shared<DocumentState>(engine, tree, Method::kShared, std::vector<uint8_t>());
          },
      [engine] { return std::make_shared<SessionState>(engine, MethodOptions{}); }};
}

struct Question {
  std::vector<int> document_tokens = {43, 7, 1, 16};  // 16 + 16 + 11, a short chunk, one token, one full chunk
  int chunk_size = 0;                                 // 0: the model's
  int n_local = 9, n_new = 4;
  int64_t query_index = -1;
  bool recompute = false;
};

inline bool is_same_score(float a, float b, float tolerance) { return std::isnan(a) ? std::isnan(b) : std::fabs(a - b) < tolerance; }

// f32: no more than 2e-4 of the largest value, for sums of some hundred terms of order 1; f16 rounds three times to 2^-11, 8 bits to 1/254 of a block's largest.
inline void compare(Run& run, const Toy& toy, const Place& place, DType kv_dtype, const Question& question, const std::string& what) {
  const int chunk_size = question.chunk_size > 0 ? question.chunk_size : toy.spec.chunk_size;
  std::vector<OracleDocument> oracle_documents;
  std::vector<std::shared_ptr<Document>> documents;
  for (size_t d = 0; d < question.document_tokens.size(); ++d) {
    const Ids ids = text_of(question.document_tokens[d], toy.spec.vocab, static_cast<uint32_t>(100 * toy.spec.seed + d));
    oracle_documents.push_back({ids, chunk_size});
    documents.push_back(place.document(chunk_size));
    append(*documents.back(), ids);
  }
  const Ids local = text_of(question.n_local, toy.spec.vocab, static_cast<uint32_t>(toy.spec.seed + 5000));
  const bool is_exact = kv_dtype == DType::kF32, is_block = kv_dtype == DType::kQ8_0;
  const OracleResult exact =
      make_oracle<double>(toy, DType::kF32)->run(oracle_documents, local, question.query_index, question.n_new, question.recompute);
  const OracleResult naive =
      make_oracle<float>(toy, kv_dtype)->run(oracle_documents, local, question.query_index, question.n_new, question.recompute);
  // token keys are stored in the type of slots; their scores are standard deviations
  const float score_tolerance = is_exact || toy.spec.selection != SelectionRule::kTokenKeys ? 1e-4f : is_block ? 1e-1f : 5e-3f;
  if (exact.margin <= 2 * score_tolerance) {  // rounding may choose otherwise; then nothing can be compared
    run.check(!is_exact, what + ": the halves are too alike, take another seed");
    return;
  }

  const auto session = place.session();
  session->set_documents(documents);
  TraceRequest request;
  request.ids = local;
  request.query_index = question.query_index;
  request.max_new_tokens = question.n_new;
  request.recompute = question.recompute;
  const Trace got = trace(*session, request);

  bool is_same_tree = got.retrieval.nodes.size() == exact.nodes.size();
  for (size_t i = 0; i < exact.nodes.size() && is_same_tree; ++i) {
    const OpenedNode &a = got.retrieval.nodes[i], &b = exact.nodes[i];
    is_same_tree = a.document == b.document && a.chunk == b.chunk && a.level == b.level && a.begin == b.begin && a.end == b.end &&
                   a.n_slots == b.n_slots && a.is_finest == b.is_finest && is_same_score(a.score, b.score, score_tolerance);
  }
  run.check(is_same_tree, what + ": the opened nodes");
  run.check(got.slot_positions == exact.slot_positions, what + ": the slots' positions");
  run.equal(got.retrieval.n_slots, static_cast<int64_t>(exact.slot_positions.size()), what + ": number of slots");
  const double cap = is_exact ? 2e-4 : is_block ? 2e-1 : 3e-2, kv_cap = is_exact ? 2e-4 : is_block ? 5e-2 : 4e-3;
  run.near(got.query_vector, exact.query_vector, naive.query_vector, 2e-4, what + ": query vector");
  run.near(got.keys, exact.keys, naive.keys, kv_cap, what + ": keys");
  run.near(got.values, exact.values, naive.values, kv_cap, what + ": values");
  run.near(got.logits, exact.logits, naive.logits, cap, what + ": logits");
  // Tokens may differ only where the two best logits are closer than the rounding; then so may everything after.
  const auto vocab = static_cast<size_t>(toy.spec.vocab);
  bool is_clear = true;
  for (size_t i = 0; i < exact.greedy.size() && is_clear; ++i) {
    std::vector<double> row(exact.greedy_logits.begin() + static_cast<std::ptrdiff_t>(i * vocab),
        exact.greedy_logits.begin() + static_cast<std::ptrdiff_t>((i + 1) * vocab));
    std::nth_element(row.begin(), row.begin() + 1, row.end(), std::greater<>());
    is_clear = row[0] - row[1] > 2 * cap * std::max(1.0, std::fabs(row[0]));
    if (is_clear) run.check(i < got.greedy.size() && got.greedy[i] == exact.greedy[i], what + ": greedy token " + std::to_string(i));
  }
  if (got.greedy == exact.greedy && naive.greedy == exact.greedy)
    run.near(got.greedy_logits, exact.greedy_logits, naive.greedy_logits, cap, what + ": logits of the greedy steps");
}

inline const char* name_of(Semantics semantics) {
  static constexpr const char* kNames[] = {"released", "corrected", "paper", "nested"};
  return kNames[static_cast<int>(semantics)];
}

// As files and in memory would be the same; the layouts take turns.
inline void compare_loaded(Run& run, const ToySpec& spec, const Question& question, const std::string& what, DType kv_dtype = DType::kF32) {
  const Toy toy(spec);
  const Layout layout = spec.seed % 2 == 0 ? Layout::kCheckpoint : Layout::kAdapter;
  const auto model = load_toy(toy, layout, kv_dtype);
  run.equal(model->info().is_lower_shared, !spec.lower.has_value() && spec.lora_rank == 0, what + ": shared lower model");
  compare(run, toy, place_of(model), kv_dtype, question,
      what +
          (kv_dtype == DType::kF16       ? ", f16"
              : kv_dtype == DType::kQ8_0 ? ", q8"
                                         : "") +
          (layout == Layout::kCheckpoint ? ", checkpoint" : ", adapter"));
}

// A lower model of another build: kv heads, width of the MLP, base of the rotation, more layers than run.
inline Shape own_lower(const Shape& upper) {
  Shape lower = upper;
  lower.ffn_dim = 28;
  lower.n_kv_heads = upper.n_kv_heads == 1 ? 2 : 1;
  lower.theta = 500;
  lower.n_layers = upper.n_layers + 1;
  return lower;
}

}  // namespace banyan::test
