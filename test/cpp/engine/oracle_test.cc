// Whole models, loaded from files, against the oracle: every semantics, slot kind, number of injected layers, kind of lower model; ragged documents.
#include "oracle.h"

#include <functional>

#include "engine/document.h"
#include "engine/session.h"
#include "run.h"

namespace banyan::test {

namespace {

// Where documents and sessions come from: a model loaded from files, or an engine in memory.
struct Place {
  std::function<std::shared_ptr<Document>(int chunk_size)> document;
  std::function<std::shared_ptr<Session>()> session;
};

Place place_of(std::shared_ptr<Model> model) {
  return {[model](int chunk_size) { return model->create_document({chunk_size, {}}); }, [model] { return model->create_session(); }};
}

Place place_of(std::shared_ptr<Engine> engine) {
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

bool is_same_score(float a, float b, float tolerance) { return std::isnan(a) ? std::isnan(b) : std::fabs(a - b) < tolerance; }

// f32: no more than 2e-4 of the largest value, for sums of some hundred terms of order 1; f16 rounds three times to 2^-11.
void compare(Run& run, const Toy& toy, const Place& place, DType kv_dtype, const Question& question, const std::string& what) {
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
  const bool is_half = kv_dtype == DType::kF16;
  const OracleResult exact = Oracle<double>(toy, false).run(oracle_documents, local, question.query_index, question.n_new, question.recompute);
  const OracleResult naive = Oracle<float>(toy, is_half).run(oracle_documents, local, question.query_index, question.n_new, question.recompute);
  // token keys are stored in the type of slots; their scores are standard deviations
  const float score_tolerance = is_half && toy.spec.selection == SelectionRule::kTokenKeys ? 5e-3f : 1e-4f;
  if (exact.margin <= 2 * score_tolerance) {  // rounding may choose otherwise; then nothing can be compared
    run.check(is_half, what + ": the halves are too alike, take another seed");
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
  const double cap = is_half ? 3e-2 : 2e-4;
  run.near(got.query_vector, exact.query_vector, naive.query_vector, 2e-4, what + ": query vector");
  run.near(got.keys, exact.keys, naive.keys, is_half ? 4e-3 : 2e-4, what + ": keys");
  run.near(got.values, exact.values, naive.values, is_half ? 4e-3 : 2e-4, what + ": values");
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

const char* name_of(Semantics semantics) {
  static constexpr const char* kNames[] = {"released", "corrected", "paper"};
  return kNames[static_cast<int>(semantics)];
}

constexpr Semantics kAll[] = {Semantics::kReleased, Semantics::kCorrected, Semantics::kPaper};

// As files and in memory would be the same; the layouts take turns.
void compare_loaded(Run& run, const ToySpec& spec, const Question& question, const std::string& what, DType kv_dtype = DType::kF32) {
  const Toy toy(spec);
  const Layout layout = spec.seed % 2 == 0 ? Layout::kCheckpoint : Layout::kAdapter;
  const auto model = load_toy(toy, layout, kv_dtype);
  run.equal(model->info().is_lower_shared, !spec.lower.has_value(), what + ": shared lower model");
  compare(run, toy, place_of(model), kv_dtype, question,
      what + (kv_dtype == DType::kF16 ? ", f16" : "") + (layout == Layout::kCheckpoint ? ", checkpoint" : ", adapter"));
}

// A lower model of another build: kv heads, width of the MLP, base of the rotation, more layers than run.
Shape own_lower(const Shape& upper) {
  Shape lower = upper;
  lower.ffn_dim = 28;
  lower.n_kv_heads = upper.n_kv_heads == 1 ? 2 : 1;
  lower.theta = 500;
  lower.n_layers = upper.n_layers + 1;
  return lower;
}

}  // namespace

TEST(oracle_grid) {
  Run run;
  uint64_t seed = 10;
  for (const Semantics semantics : kAll) {
    for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
      for (int n_injected = 1; n_injected <= 4; ++n_injected) {
        for (const bool is_own : {false, true}) {
          ToySpec spec;
          spec.semantics = semantics;
          spec.slot_kind = slot_kind;
          spec.n_injected = n_injected;
          spec.seed = ++seed / 2 + (is_own ? 1 : 0);
          if (is_own) spec.lower = own_lower(spec.upper);
          const std::string what = std::string(name_of(semantics)) + (slot_kind == SlotKind::kMean ? ", mean" : ", strided") +
                                   ", M = " + std::to_string(n_injected) + (is_own ? ", own" : ", shared");
          compare_loaded(run, spec, {}, what, DType::kF32);
          if (n_injected % 2 == 0) compare_loaded(run, spec, {}, what, DType::kF16);
        }
      }
    }
  }
  std::printf("  oracle_grid: %d checks, worst error / tolerance %.2f\n", run.n_checks, run.worst);
}

TEST(oracle_trees) {
  Run run;
  uint64_t seed = 100;
  for (const Semantics semantics : kAll) {
    for (const char* last_p : {"1", "3", "-1", "0.25", "100"}) {
      for (int depth = 1; depth <= 4; ++depth) {
        ToySpec spec;
        spec.upper.n_layers = 2;
        spec.n_injected = 2;
        spec.semantics = semantics;
        spec.slot_kind = depth % 2 == 0 ? SlotKind::kMean : SlotKind::kStrided;
        spec.depth = depth;
        spec.last_p = last_p;
        spec.seed = ++seed;
        Question question;
        question.document_tokens = {35, 19};
        question.n_new = 2;
        compare_loaded(run, spec, question, std::string(name_of(semantics)) + ", depth " + std::to_string(depth) + ", last_p " + last_p);
      }
    }
    ToySpec spec;
    spec.semantics = semantics;
    spec.do_retrieval = false;
    spec.seed = ++seed;
    compare_loaded(run, spec, {}, std::string(name_of(semantics)) + ", no retrieval");
  }
  for (const int chunk_size : {1, 2, 3, 5, 13, 17, 100}) {  // the paper halves anything
    ToySpec spec;
    spec.upper.n_layers = 3;
    spec.n_injected = 3;
    spec.seed = ++seed;
    Question question;
    question.document_tokens = {37};
    question.chunk_size = chunk_size;
    for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
      spec.slot_kind = slot_kind;
      compare_loaded(run, spec, question, "paper, chunks of " + std::to_string(chunk_size));
    }
  }
  std::printf("  oracle_trees: %d checks, worst error / tolerance %.2f\n", run.n_checks, run.worst);
}

TEST(oracle_token_keys) {
  Run run;
  uint64_t seed = 200;
  for (const Semantics semantics : {Semantics::kCorrected, Semantics::kPaper}) {
    for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
      for (int layer = 0; layer < 3; ++layer) {
        for (const bool is_own : {false, true}) {
          ToySpec spec;
          spec.n_injected = 3;
          spec.semantics = semantics;
          spec.slot_kind = slot_kind;
          spec.selection = SelectionRule::kTokenKeys;
          spec.selection_layer = layer;
          spec.seed = ++seed;
          if (is_own) spec.lower = own_lower(spec.upper);
          const std::string what =
              std::string("token keys of layer ") + std::to_string(layer) + ", " + name_of(semantics) + (is_own ? ", own" : ", shared");
          Question question;
          question.query_index = layer == 1 ? 4 : -1;
          compare_loaded(run, spec, question, what, DType::kF32);
          compare_loaded(run, spec, question, what, DType::kF16);
          spec.selection_heads = {spec.upper.n_heads - 1};
          compare_loaded(run, spec, question, what + ", last head");
        }
      }
    }
  }
  for (int depth = 1; depth <= 4; ++depth) {
    ToySpec spec;
    spec.selection = SelectionRule::kTokenKeys;
    spec.selection_layer = 1;
    spec.depth = depth;
    spec.seed = ++seed;
    Question question;
    question.document_tokens = {53, 1};
    compare_loaded(run, spec, question, "token keys, depth " + std::to_string(depth));
    spec.do_retrieval = false;
    compare_loaded(run, spec, question, "token keys without retrieval, depth " + std::to_string(depth));
  }
}

TEST(oracle_questions) {
  Run run;
  uint64_t seed = 300;
  for (const Semantics semantics : kAll) {
    ToySpec spec;
    spec.semantics = semantics;
    spec.seed = ++seed;
    const std::string name = name_of(semantics);
    Question one;
    one.n_local = 1;
    compare_loaded(run, spec, one, name + ", a prompt of one token");
    compare_loaded(run, spec, one, name + ", a prompt of one token", DType::kF16);
    Question early;
    early.query_index = 2;
    compare_loaded(run, spec, early, name + ", the third token asks");
    Question again;
    again.recompute = true;
    compare_loaded(run, spec, again, name + ", recomputed");
    Question bare;
    bare.document_tokens = {};
    compare_loaded(run, spec, bare, name + ", no documents");
    Question empty;
    empty.document_tokens = {0, 40, 0};
    compare_loaded(run, spec, empty, name + ", empty documents beside another");
    Question many;
    many.document_tokens = {160, 3, 16};  // 12 rows: the released rotation by row is not the identity for short rows
    compare_loaded(run, spec, many, name + ", 12 chunks");
    spec.last_p = "1";
    spec.depth = 2;
    compare_loaded(run, spec, many, name + ", 12 rows of 3 slots");
    Question longer;
    longer.n_local = 70;
    longer.n_new = 1;
    compare_loaded(run, spec, longer, name + ", 70 local tokens");
  }
}

TEST(oracle_families) {
  Run run;
  uint64_t seed = 400;
  for (const char* family : {"llama", "qwen2", "qwen3", "mistral"}) {
    for (const bool is_own : {false, true}) {
      ToySpec spec;
      spec.upper.family = family;
      if (spec.upper.family == "qwen3") spec.upper.head_dim = 10;  // heads x head size is not the model width
      spec.upper.n_heads = 6;
      spec.upper.n_kv_heads = 3;
      if (is_own) {
        spec.lower = spec.upper;
        spec.lower->n_kv_heads = 2;
        spec.lower->n_heads = 4;
      }
      spec.seed = ++seed;
      for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
        spec.slot_kind = slot_kind;
        compare_loaded(run, spec, {}, std::string(family) + (is_own ? ", own" : ", shared"));
      }
    }
  }
  for (const auto& [n_heads, n_kv_heads] : {std::pair{1, 1}, {4, 4}, {8, 1}, {8, 4}}) {
    ToySpec spec;
    spec.upper.n_heads = n_heads;
    spec.upper.n_kv_heads = n_kv_heads;
    spec.upper.head_dim = 2 + 2 * (n_heads % 3);
    spec.upper.dim = 26;
    spec.seed = ++seed;
    compare_loaded(run, spec, {}, std::to_string(n_heads) + " heads, " + std::to_string(n_kv_heads) + " kv heads");
  }
  ToySpec window;
  window.upper.family = "mistral";
  window.upper.sliding_window = 1000;
  window.seed = ++seed;
  compare_loaded(run, window, {}, "a window wider than the text");
}

TEST(oracle_interleaved) {
  Run run;
  uint64_t seed = 500;
  for (const Semantics semantics : kAll) {
    for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
      for (const DType kv_dtype : {DType::kF32, DType::kF16}) {
        ToySpec spec;
        spec.upper.is_interleaved = true;
        spec.semantics = semantics;
        spec.slot_kind = slot_kind;
        spec.seed = ++seed;
        const Toy toy(spec);
        compare(run, toy, place_of(make_engine(toy, kv_dtype)), kv_dtype, {}, std::string("interleaved pairs, ") + name_of(semantics));
      }
    }
  }
}

// Each kernel variant, one and three threads.
TEST(oracle_variants) {
  Run run;
  ToySpec spec;
  spec.seed = 601;
  const Toy toy(spec);
  const TempDir directory;
  const LoadPaths paths = write_toy(toy, directory.path(), Layout::kAdapter);
  for (const std::string& variant : cpu_variants_here()) {
    for (const int n_threads : {1, 3}) {
      for (const DType kv_dtype : {DType::kF32, DType::kF16}) {
        LoadOptions options = toy_options(paths, kv_dtype);
        options.cpu_variant = variant;
        options.n_threads = n_threads;
        compare(run, toy, place_of(Model::load(options)), kv_dtype, {}, variant + ", " + std::to_string(n_threads) + " threads");
      }
    }
  }
}

// The options override what the adapter says.
TEST(oracle_overrides) {
  Run run;
  ToySpec stored;
  stored.seed = 701;
  const TempDir directory;
  const LoadPaths paths = write_toy(Toy(stored), directory.path(), Layout::kAdapter);
  ToySpec meant = stored;
  meant.semantics = Semantics::kReleased;
  meant.depth = 2;
  meant.last_p = "3";
  LoadOptions options = toy_options(paths);
  options.semantics = meant.semantics;
  options.depth = meant.depth;
  options.last_p = meant.last_p;
  compare(run, Toy(meant), place_of(Model::load(options)), DType::kF32, {}, "overridden semantics, depth and last_p");
}

}  // namespace banyan::test
