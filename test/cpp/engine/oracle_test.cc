// Whole models, loaded from files, against the oracle: every semantics, slot kind, number of injected layers, kind of lower model; ragged documents.
#include "compare.h"

namespace banyan::test {

namespace {

constexpr Semantics kAll[] = {Semantics::kReleased, Semantics::kCorrected, Semantics::kPaper};

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

TEST(oracle_8_bits) {
  Run run;
  uint64_t seed = 900;
  for (const Semantics semantics : {Semantics::kReleased, Semantics::kPaper, Semantics::kNested}) {
    for (const SelectionRule selection : {SelectionRule::kCosine, SelectionRule::kTokenKeys}) {
      if (semantics == Semantics::kReleased && selection == SelectionRule::kTokenKeys) continue;
      for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
        ToySpec spec;
        spec.upper.head_dim = 32;
        spec.semantics = semantics;
        spec.selection = selection;
        spec.slot_kind = slot_kind;
        spec.n_injected = 2;
        spec.seed = ++seed;
        const std::string what = std::string(name_of(semantics)) + (slot_kind == SlotKind::kMean ? ", mean" : ", strided") +
                                 (selection == SelectionRule::kTokenKeys ? ", token keys" : ", cosine");
        compare_loaded(run, spec, {}, what, DType::kQ8_0);
      }
    }
  }
  std::printf("  oracle_8_bits: %d checks, worst error / tolerance %.2f\n", run.n_checks, run.worst);
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
