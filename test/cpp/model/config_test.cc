#include <cmath>

#include "check.h"
#include "device/ops.h"
#include "model/config.h"

namespace banyan::test {
namespace {

void check_frequencies(const RopeConfig& rope, int head_dim, const std::vector<std::pair<size_t, double>>& expected, double magnitude = 1.0) {
  float got_magnitude = 0;
  const std::vector<float> got = rope_frequencies(rope, head_dim, &got_magnitude);
  CHECK_EQUAL(got.size(), static_cast<size_t>(head_dim / 2));
  CHECK_NEAR(got_magnitude, magnitude, 1e-6);
  for (const auto& [m, value] : expected) CHECK_NEAR(got[m], value, 1e-6 * value);
}

// The numbers below were computed in float64 from the formulas of transformers' modeling_rope_utils.py.
TEST(rope_plain_and_scaled) {
  check_frequencies({}, 8, {{0, 1.0}, {1, 0.1}, {2, 0.01}, {3, 0.001}});
  check_frequencies({.scaling = RopeScaling::kLinear, .factor = 4}, 8, {{0, 0.25}, {3, 0.00025}});
  check_frequencies({.scaling = RopeScaling::kDynamicNtk, .factor = 4}, 8, {{0, 1.0}, {3, 0.001}});
  check_frequencies({.scaling = RopeScaling::kNtk, .factor = 2}, 8, {{0, 1.0}, {1, 0.07937005259840997}, {2, 0.006299605249474365}, {3, 0.0005}});
  check_frequencies({.freq_factors = {1, 2, 4, 8}}, 8, {{0, 1.0}, {1, 0.05}, {2, 0.0025}, {3, 0.000125}});
  CHECK_EQUAL(rope_frequencies({}, 2, nullptr).size(), 1u);
  CHECK_EQUAL(rope_frequencies({.scaling = RopeScaling::kNtk, .factor = 2}, 2, nullptr)[0], 1.0f);
}

TEST(rope_llama3) {
  const RopeConfig rope = {
      .theta = 5e5, .scaling = RopeScaling::kLlama3, .factor = 8, .original_window = 8192, .low_freq_factor = 1, .high_freq_factor = 4};
  check_frequencies(rope, 128,
      {{0, 1.0}, {1, 0.8146172338565447}, {10, 0.12868737343265052}, {25, 0.005940730375674967}, {28, 0.0032114459947525913},
          {29, 0.002166570763503359}, {30, 0.0013718935677611381}, {32, 0.0005248461609929547}, {34, 0.00017850781276799638},
          {35, 9.556212353964683e-05}, {36, 7.78465527393245e-05}, {40, 3.428102195952591e-05}, {63, 3.068925988914511e-07}});
}

TEST(rope_yarn) {
  const RopeConfig rope = {.theta = 1e6, .scaling = RopeScaling::kYarn, .factor = 4, .original_window = 32768};
  check_frequencies(rope, 128,
      {{0, 1.0}, {10, 0.1154781984689458}, {23, 0.006978305848598663}, {24, 0.005375321490790102}, {28, 0.001848276564706878},
          {32, 0.0006029411764705882}, {36, 0.00017984115587395423}, {39, 6.490394320837028e-05}, {40, 4.445698525097307e-05},
          {50, 5.133812566142866e-06}, {63, 3.102344401879299e-07}},
      1.1386294361119891);
  RopeConfig given = rope;
  given.attention_factor = 1.5;
  check_frequencies(given, 128, {}, 1.5);
  check_frequencies({.scaling = RopeScaling::kYarn, .factor = 4, .original_window = 512}, 8, {{0, 1.0}, {1, 0.0625}, {2, 0.0025}, {3, 0.00025}},
      1.1386294361119891);
}

TEST(keep_parses) {
  const auto is_count = [](const char* text, int64_t count) {
    const Keep keep = parse_keep(text);
    return !keep.is_fraction && keep.count == count;
  };
  const auto is_fraction = [](const char* text, double fraction) {
    const Keep keep = parse_keep(text);
    return keep.is_fraction && keep.fraction == fraction;
  };
  CHECK(is_count("32", 32) && is_count("32,32", 32) && is_count("8, 0.5", 8) && is_count("-1", -1) && is_count("0", 0) && is_count("+4", 4) &&
        is_count(" 7 ", 7));
  CHECK(is_count("\"32\"", 32) && is_count("'32,16'", 32) && is_count("32,", 32));
  CHECK(
      is_fraction("0.25", 0.25) && is_fraction("1.0", 1.0) && is_fraction("\"0.5\"", 0.5) && is_fraction(".5,1", 0.5) && is_fraction("25e-2", 0.25));
  for (const char* bad : {"", " ", "\"\"", "\"", "\"\"32\"\"", "a", "32a", "3 2", ",32", "32,,8", "32,x", "(32,32)", "[32]", "0x20", "1e999", "nan",
           "inf", "0.0", "-0.5", "1.5", "64.0", "99999999999999999999", "2**3", "__import__('os')", "--1", "+-1", "+"}) {
    CHECK_THROWS(kBadAdapter, "last_p", parse_keep(bad));
  }
}

TEST(tree_is_checked) {
  const auto check = [](int depth, int chunk_size, Semantics semantics = Semantics::kReleased) {
    TreeConfig tree;
    tree.semantics = semantics, tree.depth = depth, tree.chunk_size = chunk_size;
    check_tree(tree, "f");
  };
  check(4, 37, Semantics::kPaper), check(3, 1, Semantics::kPaper), check(4, 37, Semantics::kNested);
  check(1, 2), check(1, 33), check(3, 100), check(3, 1024), check(4, 64);
  CHECK_THROWS(kBadAdapter, "segment_tree_depth", check(0, 64));
  CHECK_THROWS(kBadAdapter, "segment_tree_depth", check(17, 1 << 20));
  CHECK_THROWS(kBadAdapter, "chunk_size", check(3, 0));
  CHECK_THROWS(kBadAdapter, "chunk_size", check(3, -4));
  CHECK_THROWS(kBadAdapter, "cannot be halved", check(3, 33));
  CHECK_THROWS(kBadAdapter, "cannot be halved", check(3, 4));
  CHECK_THROWS(kBadAdapter, "cannot be halved", check(1, 1));
}

TEST(positions_and_budget_are_checked) {
  const auto conflict = [](auto&& change) {
    TreeConfig tree;
    tree.semantics = Semantics::kNested, tree.selection = SelectionRule::kTokenKeys;
    tree.positions = Positions::kBanded, tree.slot_budget = 100, tree.budget_unit = BudgetUnit::kGroup;
    change(tree);
    return find_conflict(tree);
  };
  CHECK_EQUAL(conflict([](TreeConfig&) {}), "");
  CHECK(conflict([](TreeConfig& t) { t.semantics = Semantics::kPaper; }).starts_with("positions"));
  CHECK(conflict([](TreeConfig& t) { t.semantics = Semantics::kPaper, t.positions = Positions::kSum; }).starts_with("budget_unit"));
  CHECK_EQUAL(
      conflict([](TreeConfig& t) { t.semantics = Semantics::kReleased, t.positions = Positions::kSum, t.budget_unit = BudgetUnit::kChunk; }), "");
  CHECK(conflict([](TreeConfig& t) { t.selection = SelectionRule::kCosine; }).starts_with("budget_unit"));
  CHECK(conflict([](TreeConfig& t) { t.do_retrieval = false; }).starts_with("slot_budget"));
  CHECK(conflict([](TreeConfig& t) { t.slot_budget = -1; }).starts_with("slot_budget"));
  const auto by_cosine = [&](int depth, int64_t budget) {
    return conflict(
        [&](TreeConfig& t) { t.selection = SelectionRule::kCosine, t.budget_unit = BudgetUnit::kChunk, t.depth = depth, t.slot_budget = budget; });
  };
  CHECK(by_cosine(1, 7).starts_with("slot_budget"));
  CHECK_EQUAL(by_cosine(1, 0), "");
  CHECK_EQUAL(by_cosine(2, 7), "");
}

TEST(config_is_checked) {
  const ModelConfig good = {.architecture = "llama",
      .n_layers = 2,
      .dim = 32,
      .ffn_dim = 64,
      .n_heads = 4,
      .n_kv_heads = 2,
      .head_dim = 8,
      .vocab_size = 24,
      .window = 512};
  check_config(good, "f", Code::kBadModelFile);
  const auto refuses = [&](const char* part, auto&& change) {
    ModelConfig bad = good;
    change(bad);
    CHECK_THROWS(kBadModelFile, part, check_config(bad, "f", Code::kBadModelFile));
  };
  refuses("number of layers", [](ModelConfig& c) { c.n_layers = 0; });
  refuses("number of layers", [](ModelConfig& c) { c.n_layers = 1 << 20; });
  refuses("model width", [](ModelConfig& c) { c.dim = 1 << 30; });
  refuses("feed-forward", [](ModelConfig& c) { c.ffn_dim = -1; });
  refuses("no multiple", [](ModelConfig& c) { c.n_kv_heads = 3; });
  refuses("is odd", [](ModelConfig& c) { c.head_dim = 7; });
  refuses("head size", [](ModelConfig& c) { c.head_dim = 4096; });
  refuses("heads times head size", [](ModelConfig& c) { c.n_heads = 1 << 20; });
  refuses("vocabulary", [](ModelConfig& c) { c.vocab_size = 0; });
  refuses("vocabulary", [](ModelConfig& c) { c.vocab_size = kMaxVocabulary + 1; });
  refuses("window", [](ModelConfig& c) { c.window = 0; });
  refuses("epsilon", [](ModelConfig& c) { c.norm_eps = NAN; });
  refuses("rope base", [](ModelConfig& c) { c.rope.theta = 1; });
  refuses("rope base", [](ModelConfig& c) { c.rope.theta = INFINITY; });
  refuses("factor must be positive", [](ModelConfig& c) { c.rope.factor = 0; });
  refuses("original window", [](ModelConfig& c) { c.rope.scaling = RopeScaling::kYarn; });
  refuses("rising", [](ModelConfig& c) { c.rope.scaling = RopeScaling::kLlama3, c.rope.original_window = 1, c.rope.low_freq_factor = 4; });
  refuses("betas", [](ModelConfig& c) { c.rope.scaling = RopeScaling::kYarn, c.rope.original_window = 1, c.rope.beta_fast = 1; });
  refuses("do not fit", [](ModelConfig& c) { c.rope.freq_factors = {1}; });
  refuses("factors must be positive", [](ModelConfig& c) { c.rope.freq_factors = {1, 1, 0, 1}; });
}

}  // namespace
}  // namespace banyan::test
