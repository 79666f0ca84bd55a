// Nested semantics against their oracle: slot kinds, positions, rules of selection, budgets, layers; chunks of odd lengths; saved, grown, shared documents.
#include "compare.h"

#include "model/config.h"

namespace banyan::test {

namespace {

ToySpec nested(uint64_t seed) {
  ToySpec spec;
  spec.semantics = Semantics::kNested;
  spec.seed = seed;
  return spec;
}

void by_tokens(ToySpec& spec, int layer) {
  spec.selection = SelectionRule::kTokenKeys;
  spec.selection_layer = layer;
}

std::string name_of(const ToySpec& spec) {
  std::string name = spec.slot_kind == SlotKind::kMean ? "mean" : "strided";
  name += spec.positions == Positions::kBanded ? ", banded" : ", sum";
  name += spec.selection == SelectionRule::kTokenKeys ? ", token keys of layer " + std::to_string(spec.selection_layer) : ", cosine";
  name += ", M = " + std::to_string(spec.n_injected) + ", depth " + std::to_string(spec.depth) + ", last_p " + spec.last_p;
  if (spec.slot_budget > 0)
    name += ", budget of " + std::to_string(spec.slot_budget) + (spec.budget_unit == BudgetUnit::kGroup ? " groups" : " slots");
  return name;
}

const char* const kLastP[] = {"2", "3", "-1", "0.3"};

}  // namespace

TEST(nested_grid) {
  Run run;
  uint64_t seed = 40;
  for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
    for (const Positions positions : {Positions::kSum, Positions::kBanded}) {
      for (int m = 1; m <= 4; ++m) {
        for (int rule = -1; rule < m; ++rule) {  // cosine, then each layer's token keys
          ToySpec spec = nested(++seed);
          spec.slot_kind = slot_kind;
          spec.positions = positions;
          spec.n_injected = m;
          spec.depth = 2 + static_cast<int>(seed % 3);
          spec.last_p = kLastP[seed % 4];
          if (rule >= 0) by_tokens(spec, rule);
          if (seed % 3 == 0) spec.lower = own_lower(spec.upper);
          compare_loaded(run, spec, {}, name_of(spec), DType::kF32);
          if (m == 2) compare_loaded(run, spec, {}, name_of(spec), DType::kF16);
        }
      }
    }
  }
  std::printf("  nested_grid: %d checks, worst error / tolerance %.2f\n", run.n_checks, run.worst);
}

TEST(nested_budgets) {
  Run run;
  uint64_t seed = 170;
  for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
    for (const Positions positions : {Positions::kSum, Positions::kBanded}) {
      for (const int64_t budget : {1, 5, 17, 40, 1000}) {
        for (const bool is_by_tokens : {false, true}) {
          ToySpec spec = nested(++seed);
          spec.slot_kind = slot_kind;
          spec.positions = positions;
          spec.slot_budget = budget;
          if (is_by_tokens) by_tokens(spec, 1);
          compare_loaded(run, spec, {}, name_of(spec));
          if (!is_by_tokens) continue;
          spec.budget_unit = BudgetUnit::kGroup;
          compare_loaded(run, spec, {}, name_of(spec));
          compare_loaded(run, spec, {}, name_of(spec), DType::kF16);
        }
      }
    }
  }
}

// Chunks that no power of two divides, and the shortest ones.
TEST(nested_lengths) {
  Run run;
  uint64_t seed = 240;
  for (int m = 1; m <= 3; ++m) {
    for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
      for (const bool is_by_tokens : {false, true}) {
        ToySpec spec = nested(++seed);
        spec.n_injected = m;
        spec.slot_kind = slot_kind;
        spec.positions = seed % 2 == 0 ? Positions::kSum : Positions::kBanded;
        spec.depth = 4;
        spec.last_p = seed % 3 == 0 ? "7" : "4";
        spec.chunk_size = 1000;
        if (is_by_tokens) by_tokens(spec, m - 1);
        Question question;
        question.document_tokens = {1000, 300, 1, 100, 7, 3, 2};
        question.n_new = 2;
        compare_loaded(run, spec, question, "long chunks, " + name_of(spec));
      }
    }
  }
  for (const int chunk_size : {1, 2, 3, 5, 7, 13, 17, 100}) {
    for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
      ToySpec spec = nested(++seed);
      spec.slot_kind = slot_kind;
      spec.depth = 1 + static_cast<int>(seed % 4);
      spec.last_p = kLastP[seed % 4];
      if (seed % 3 == 0) spec.positions = Positions::kBanded;
      Question question;
      question.document_tokens = {37, 103};
      question.chunk_size = chunk_size;  // not the adapter's: banded queries follow it
      compare_loaded(run, spec, question, "chunks of " + std::to_string(chunk_size) + ", " + name_of(spec));
    }
  }
}

TEST(nested_questions) {
  Run run;
  uint64_t seed = 340;
  for (const char* family : {"llama", "qwen2", "qwen3"}) {
    ToySpec spec = nested(++seed);
    spec.upper.family = family;
    spec.slot_kind = seed % 2 == 0 ? SlotKind::kMean : SlotKind::kStrided;
    spec.positions = Positions::kBanded;
    Question early;
    early.query_index = 2;
    compare_loaded(run, spec, early, std::string(family) + ", the third token asks");
    Question again;
    again.recompute = true;
    compare_loaded(run, spec, again, std::string(family) + ", recomputed");
    Question one;
    one.n_local = 1;
    compare_loaded(run, spec, one, std::string(family) + ", a prompt of one token", DType::kF16);
    spec.do_retrieval = false;
    compare_loaded(run, spec, {}, std::string(family) + ", no retrieval");
    Question bare;
    bare.document_tokens = {};
    compare_loaded(run, spec, bare, std::string(family) + ", no documents");
  }
  for (const Positions positions : {Positions::kSum, Positions::kBanded}) {
    ToySpec spec = nested(++seed);
    spec.upper.is_interleaved = true;
    spec.positions = positions;
    const Toy toy(spec);
    compare(run, toy, place_of(make_engine(toy)), DType::kF32, {}, "interleaved pairs, " + name_of(spec));
  }
}

// A lower model of the base's layers and low-rank additions; the oracle has them added in float64.
TEST(lora_lower_model) {
  Run run;
  uint64_t seed = 400;
  for (const Semantics semantics : {Semantics::kPaper, Semantics::kNested}) {
    for (const int rank : {1, 4, 9}) {
      for (int layout = 0; layout < 2; ++layout) {  // adapter, checkpoint
        ToySpec spec;
        spec.semantics = semantics;
        spec.lora_rank = rank;
        spec.n_injected = 1 + rank % 3;
        spec.seed = ++seed;
        compare_loaded(run, spec, {}, "rank " + std::to_string(rank) + ", " + name_of(spec));
      }
    }
    ToySpec spec;
    spec.semantics = semantics;
    spec.lora_rank = 3;
    spec.seed = ++seed;
    const Toy toy(spec);
    const TempDir directory;
    const auto gguf = Model::load(toy_options(write_gguf_toy(toy, directory.path(), Layout::kAdapter)));
    run.check(!gguf->info().is_lower_shared, "GGUF base");
    compare(run, interleaved(toy), place_of(gguf), DType::kF32, {}, "GGUF base with interleaved pairs, " + name_of(spec));
  }
}

// The other semantics with a budget: what they select of the chunks that fit is as before.
TEST(budget_of_chunks) {
  Run run;
  uint64_t seed = 440;
  for (const Semantics semantics : {Semantics::kReleased, Semantics::kCorrected, Semantics::kPaper}) {
    ToySpec spec;
    spec.semantics = semantics;
    spec.seed = ++seed;
    const Toy toy(spec);
    const auto model = load_toy(toy);
    const auto document = model->create_document({});
    append(*document, text_of(160, spec.vocab, 3));
    TraceRequest request;
    request.ids = text_of(9, spec.vocab, 4);
    MethodOptions options;
    const auto ask = [&](int64_t budget) {
      options.slot_budget = budget;
      const auto session = model->create_session(options);
      session->set_documents({document});
      return trace(*session, request);
    };
    const Trace all = ask(0);
    for (const int64_t budget : {1, 9, 20, 45, 10000}) {
      const Trace some = ask(budget);
      const std::string what = "budget " + std::to_string(budget);
      // by hand: rank the chunks of the unlimited run
      std::vector<std::pair<float, int>> ranked(10, {-2.0f, 0});
      std::vector<int64_t> size(10, 0);
      for (int c = 0; c < 10; ++c) ranked[static_cast<size_t>(c)].second = c;
      for (const OpenedNode& node : all.retrieval.nodes) {
        auto& [best, chunk] = ranked[static_cast<size_t>(node.chunk)];
        best = std::max(best, node.score);
        size[static_cast<size_t>(chunk)] += node.n_slots;
      }
      std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
      std::vector<char> is_in(10, 0);
      int64_t left = budget;
      for (const auto& [best, chunk] : ranked) {
        if ((left -= size[static_cast<size_t>(chunk)]) < 0) break;
        is_in[static_cast<size_t>(chunk)] = 1;
      }
      size_t next = 0;
      bool is_same = true;
      for (const OpenedNode& node : all.retrieval.nodes) {
        if (is_in[static_cast<size_t>(node.chunk)] == 0) continue;
        is_same = is_same && next < some.retrieval.nodes.size() && some.retrieval.nodes[next].begin == node.begin;
        ++next;
      }
      run.check(is_same && next == some.retrieval.nodes.size(), what + ": the chunks that fit");
      // injected slots are the same numbers as in the unlimited memory, in the same order
      const size_t n_all = all.slot_positions.size(), n = some.slot_positions.size(), width = n_all == 0 ? 0 : all.keys.size() / (n_all * 2);
      size_t at = 0;
      for (size_t i = 0; i < n_all && at < n; ++i) {
        if (all.slot_positions[i] != some.slot_positions[at]) continue;
        is_same = is_same &&
                  std::equal(all.keys.begin() + static_cast<std::ptrdiff_t>(i * width),
                      all.keys.begin() + static_cast<std::ptrdiff_t>((i + 1) * width), some.keys.begin() + static_cast<std::ptrdiff_t>(at * width));
        ++at;
      }
      run.check(is_same && at == n, what + ": the same slots, turned as if all were there");
      run.check(static_cast<int64_t>(n) <= budget && static_cast<int64_t>(n) == some.retrieval.n_slots, what + ": it is kept");
      if (budget == 10000) run.check(some.logits == all.logits, what + ": nothing is left out");
      else run.check(some.logits != all.logits, what + ": something is left out");
    }
  }
}

TEST(budget_of_a_session) {
  Run run;
  ToySpec spec = nested(461);
  by_tokens(spec, 1);
  spec.slot_budget = 12;
  const auto model = load_toy(Toy(spec));
  run.check(model->info().tree.slot_budget == 12 && model->info().tree.budget_unit == BudgetUnit::kChunk, "the adapter's budget");
  const auto document = model->create_document({});
  append(*document, text_of(120, spec.vocab, 3));
  const auto ask = [&](const MethodOptions& options) {
    const auto session = model->create_session(options);
    session->set_documents({document});
    TraceRequest request;
    request.ids = text_of(9, spec.vocab, 4);
    return trace(*session, request);
  };
  const auto n_slots = [&](std::optional<int64_t> budget, std::optional<BudgetUnit> unit = {}) {
    MethodOptions options;
    options.slot_budget = budget;
    options.budget_unit = unit;
    return ask(options).retrieval.n_slots;
  };
  run.check(n_slots({}) > 0 && n_slots({}) <= 12, "without a word: the adapter's");
  run.check(n_slots(0) > 12, "0 lifts it");
  run.equal(n_slots({}, BudgetUnit::kGroup), int64_t{12}, "12 groups");
  run.equal(n_slots(33, BudgetUnit::kGroup), int64_t{33}, "33 groups");
  run.equal(n_slots(1, BudgetUnit::kChunk), int64_t{0}, "nothing fits: nothing is injected");
  run.throws(
      Code::kInvalidArgument, [&] { n_slots(-1); }, "a negative budget");
  MethodOptions parallel;
  parallel.method = Method::kParallel;
  parallel.slot_budget = -1;
  model->create_session(parallel);  // settings of other methods are ignored

  for (const auto& [change, what] : std::vector<std::pair<std::function<void(ToySpec&)>, std::string>>{
           {[](ToySpec& s) { s.selection = SelectionRule::kCosine; }, "groups by cosine"},
           {[](ToySpec& s) { s.semantics = Semantics::kPaper; }, "groups of paper"}}) {
    ToySpec other = spec;
    change(other);
    const auto coarse = load_toy(Toy(other));
    MethodOptions options;
    options.budget_unit = BudgetUnit::kGroup;
    run.throws(
        Code::kInvalidArgument, [&] { coarse->create_session(options); }, what);
  }
  ToySpec blind = nested(462);
  blind.do_retrieval = false;
  MethodOptions options;
  options.slot_budget = 5;
  run.throws(
      Code::kInvalidArgument, [&] { load_toy(Toy(blind))->create_session(options); }, "a budget without scores");
  blind.do_retrieval = true;
  blind.depth = 1;
  run.throws(
      Code::kInvalidArgument, [&] { load_toy(Toy(blind))->create_session(options); }, "a budget without halves to compare");
}

// YaRN multiplies keys once, whatever the positions; raw keys of layer 0 depend on the token alone, so that the pairs' lengths tell.
TEST(nested_yarn_magnitude) {
  Run run;
  for (const Positions positions : {Positions::kSum, Positions::kBanded}) {
    ToySpec spec = nested(470);
    spec.n_injected = 1;
    spec.do_retrieval = false;
    spec.positions = positions;
    const auto keys = [&](const std::string& scaling) {
      spec.rope_scaling = scaling;
      const auto model = load_toy(Toy(spec));
      const auto document = model->create_document({});
      append(*document, text_of(60, spec.vocab, 3));
      const auto session = model->create_session();
      session->set_documents({document});
      TraceRequest request;
      request.ids = text_of(5, spec.vocab, 4);
      return trace(*session, request).keys;
    };
    const std::vector<float> plain = keys(""), scaled = keys(R"({"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":2048})");
    const double magnitude = 0.1 * std::log(4.0) + 1;
    const size_t d = static_cast<size_t>(spec.upper.head_dim), half = d / 2;
    double worst = 0;
    for (size_t head = 0; head < plain.size(); head += d) {
      for (size_t m = head; m < head + half; ++m) {
        const double before = std::hypot(plain[m], plain[m + half]), after = std::hypot(scaled[m], scaled[m + half]);
        worst = std::max(worst, std::fabs(after - magnitude * before));
      }
    }
    run.check(!plain.empty() && plain.size() == scaled.size() && plain != scaled && worst < 1e-5, "magnitude once: off by " + std::to_string(worst));
  }
}

}  // namespace banyan::test
