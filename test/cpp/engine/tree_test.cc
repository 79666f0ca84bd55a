// The shape of trees and what nodes keep: sharedllm-semantics 6 and 7, and the paper's own rule.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "run.h"
#include "engine/tree.h"

namespace banyan::test {

namespace {

TreeConfig config_of(Semantics semantics, int depth) {
  TreeConfig config;
  config.semantics = semantics;
  config.depth = depth;
  config.n_injected_layers = 1;
  return config;
}

int log2_floor(int n) {
  int log = 0;
  while ((2 << log) <= n) ++log;
  return log;
}

// Spans of one walk: at each level the rejected half, at the end both halves. `is_left(level)` chooses.
template <class Choose> std::vector<Span> walk(const ChunkTree& tree, Choose is_left) {
  if (tree.depth() == 0) return {tree.span(1)};
  std::vector<Span> spans;
  int node = 1;
  for (int level = 0; level < tree.depth() - 1; ++level) {
    const bool left = is_left(level);
    spans.push_back(tree.span(2 * node + (left ? 1 : 0)));
    node = 2 * node + (left ? 0 : 1);
  }
  spans.push_back(tree.span(2 * node));
  spans.push_back(tree.span(2 * node + 1));
  return spans;
}

void check_partition(Run& run, const ChunkTree& tree, std::vector<Span> spans, int n_missing_allowed, const std::string& what) {
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
  int covered = 0, at = 0;
  bool is_sound = true;
  for (const Span& span : spans) {
    is_sound = is_sound && span.size() >= 1 && span.begin >= at;
    at = span.end;
    covered += span.size();
  }
  is_sound = is_sound && at <= tree.n_tokens() && covered + n_missing_allowed >= tree.n_tokens();
  run.check(is_sound, what);
}

void check_paper_trees(Run& run) {
  std::mt19937 random(1);
  for (int n = 1; n <= 200; ++n) {
    for (int depth = 1; depth <= 6; ++depth) {
      const ChunkTree tree(n, config_of(Semantics::kPaper, depth));
      const std::string what = "paper, " + std::to_string(n) + " tokens, depth " + std::to_string(depth);
      run.equal(tree.depth(), std::min(depth, log2_floor(n)), what + ": effective depth");
      run.equal(tree.n_nodes(), (2 << tree.depth()) - 1, what + ": nodes");
      run.equal(tree.n_compared(), tree.depth() < 2 ? 0 : (1 << tree.depth()) - 2, what + ": compared nodes");
      // every node: left half = floor(size / 2), right half the rest
      bool is_halved = tree.span(1) == Span{0, n};
      for (int node = 1; node < (1 << tree.depth()); ++node) {
        const Span all = tree.span(node), left = tree.span(2 * node), right = tree.span(2 * node + 1);
        is_halved = is_halved && left.begin == all.begin && left.size() == all.size() / 2 && right.begin == left.end && right.end == all.end &&
                    left.size() >= 1;
      }
      run.check(is_halved, what + ": halves");
      const int n_ways = tree.depth() < 2 ? 1 : 1 << (tree.depth() - 1);
      for (int way = 0; way < n_ways; ++way) {
        check_partition(
            run, tree, walk(tree, [way](int level) { return (way >> level & 1) != 0; }), 0, what + ": partition by choice " + std::to_string(way));
      }
    }
  }
}

void check_released_trees(Run& run) {
  for (const Semantics semantics : {Semantics::kReleased, Semantics::kCorrected}) {
    for (int depth = 1; depth <= 6; ++depth) {
      const int unit = 1 << (depth - 1);
      for (int n = unit; n <= 200; n += unit) {
        const TreeConfig config = config_of(semantics, depth);
        if (n < 2 * unit) continue;  // a leaf needs a token
        const ChunkTree tree(n, config);
        const std::string what = "released, " + std::to_string(n) + " tokens, depth " + std::to_string(depth);
        const int parent = n / unit, leaf = parent / 2;  // sizes; an odd parent drops its last token
        run.equal(tree.depth(), depth, what + ": depth");
        bool is_right = true;
        for (int node = unit; node < 2 * unit; ++node) {
          const Span all = tree.span(node), left = tree.span(2 * node), right = tree.span(2 * node + 1);
          is_right =
              is_right && all.size() == parent && left.begin == all.begin && left.size() == leaf && right.size() == leaf && right.begin == left.end;
        }
        run.check(is_right, what + ": leaves of equal size, the odd token dropped");
        check_partition(run, tree, walk(tree, [](int level) { return level % 2 == 0; }), parent % 2, what + ": partition but for the dropped token");
      }
      TreeConfig config = config_of(semantics, depth);
      for (int size = 1; size <= 70; ++size) {
        if (size % unit == 0) {
          check_chunk_size(size, config);
          run.check(true, "");
        } else {
          run.throws(
              Code::kInvalidArgument, [&] { check_chunk_size(size, config); },
              "chunk size " + std::to_string(size) + " at depth " + std::to_string(depth));
        }
      }
    }
  }
  for (const Semantics semantics : {Semantics::kReleased, Semantics::kCorrected, Semantics::kPaper}) {
    for (const int size : {0, -1, -1024, std::numeric_limits<int>::min()}) {
      run.throws(
          Code::kInvalidArgument, [&] { check_chunk_size(size, config_of(semantics, 3)); }, "chunk size " + std::to_string(size));
    }
  }
  check_chunk_size(13, config_of(Semantics::kPaper, 5));  // the paper's rule halves anything
}

void check_slots(Run& run) {
  const auto count = [](int64_t n) { return Keep{false, n, 0}; };
  const auto fraction = [](double p) { return Keep{true, 0, p}; };
  const auto expect = [&run](int n, const Keep& keep, int step, int n_slots, const std::string& what) {
    const SlotPlan plan = slot_plan(n, keep);
    run.check(plan.step == step && plan.n_slots == n_slots, what + ": step " + std::to_string(plan.step) + ", " + std::to_string(plan.n_slots) +
                                                                " slots, expected " + std::to_string(step) + ", " + std::to_string(n_slots));
  };
  expect(25, count(8), 3, 9, "25 keep 8");
  expect(12, count(8), 1, 12, "12 keep 8");
  expect(512, count(32), 16, 32, "512 keep 32");
  expect(128, count(32), 4, 32, "128 keep 32");
  expect(10, count(-1), 1, 10, "all");
  expect(10, count(0), 1, 10, "zero means all");
  expect(10, count(std::numeric_limits<int64_t>::min()), 1, 10, "hostile negative");
  expect(10, count(std::numeric_limits<int64_t>::max()), 1, 10, "hostile large: clamped");
  expect(3, count(32), 1, 3, "more than there are: clamped");
  expect(1, count(1), 1, 1, "one of one");
  expect(1, fraction(0.25), 1, 1, "a fraction keeps at least one");
  expect(16, fraction(0.25), 4, 4, "a quarter");
  expect(17, fraction(0.25), 4, 5, "a quarter of 17 rounds down to 4");
  expect(16, fraction(1.0), 1, 16, "the whole");
  expect(1000, fraction(1e-300), 1000, 1, "hostile fraction");
  for (int keep = 1; keep <= 40; ++keep) expect(2 * keep - 1, count(keep), 1, 2 * keep - 1, "2 keep - 1 keeps all");
  for (int n = 1; n <= 130; ++n) {
    for (int keep = 1; keep <= 40; ++keep) {
      const SlotPlan plan = slot_plan(n, count(keep));
      const int step = n / std::min(keep, n);
      int n_offsets = 0;
      for (int offset = 0; offset < n; offset += step) ++n_offsets;
      run.check(plan.step == step && plan.n_slots == n_offsets, std::to_string(n) + " keep " + std::to_string(keep));
    }
    for (const double p : {0.01, 0.1, 0.25, 0.3, 0.5, 0.75, 0.99, 1.0}) {
      const int step = n / std::max(1, static_cast<int>(n * p));
      const SlotPlan plan = slot_plan(n, fraction(p));
      run.check(plan.step == step && plan.n_slots == (n + step - 1) / step, std::to_string(n) + " keep fraction " + std::to_string(p));
    }
  }
}

}  // namespace

TEST(tree_paper) {
  Run run;
  check_paper_trees(run);
}

TEST(tree_released) {
  Run run;
  check_released_trees(run);
}

TEST(tree_slots) {
  Run run;
  check_slots(run);
}

// Groups of a nested tree from the definition, by recursion.
void expect_nested(Run& run, const ChunkTree& tree, int node, Span groups, int step, const std::string& what) {
  const int level = log2_floor(node), n = tree.n_tokens(), per_slot = 1 << (tree.depth() - level);
  const Span tokens{groups.begin * step, std::min(groups.end * step, n)};
  const SlotPlan slots = tree.slots(node);
  run.check(tree.groups(node) == groups && groups.size() >= 1 && tree.tokens_of(groups) == tokens && tree.span(node) == tokens &&
                slots.step == per_slot * step && slots.n_slots == (groups.size() + per_slot - 1) / per_slot && tree.groups_per_slot(node) == per_slot,
      what + ", node " + std::to_string(node));
  if (level == tree.depth()) return;
  const int middle = groups.begin + groups.size() / 2;
  expect_nested(run, tree, 2 * node, {groups.begin, middle}, step, what);
  expect_nested(run, tree, 2 * node + 1, {middle, groups.end}, step, what);
}

TEST(tree_nested) {
  Run run;
  for (int n = 1; n <= 260; ++n) {
    for (int depth = 1; depth <= 6; ++depth) {
      for (const Keep& keep : {Keep{false, 1, 0}, Keep{false, 3, 0}, Keep{false, 32, 0}, Keep{false, -1, 0}, Keep{true, 0, 0.3}}) {
        TreeConfig config = config_of(Semantics::kNested, depth);
        config.keep = keep;
        const ChunkTree tree(n, config);
        const std::string what = "nested, " + std::to_string(n) + " tokens, depth " + std::to_string(depth) + ", keep " +
                                 std::to_string(keep.is_fraction ? keep.fraction : static_cast<double>(keep.count));
        const int d = std::min(depth, log2_floor(n)), leaf = n >> d;
        const int64_t wanted = keep.is_fraction ? std::max(1, static_cast<int>(leaf * keep.fraction)) : keep.count > 0 ? keep.count : leaf;
        const int step = leaf / static_cast<int>(std::min<int64_t>(wanted, leaf)), n_groups = (n + step - 1) / step;
        run.check(tree.depth() == d && n_groups >= (1 << d) && tree.fine().step == step && tree.fine().n_slots == n_groups && tree.is_nested(), what);
        expect_nested(run, tree, 1, {0, n_groups}, step, what);
      }
    }
  }
  // for powers of two the spans and steps are the paper's
  for (int depth = 1; depth <= 5; ++depth) {
    TreeConfig config = config_of(Semantics::kNested, depth), paper = config_of(Semantics::kPaper, depth);
    config.keep = paper.keep = {false, 8, 0};
    const ChunkTree nested(1024, config), other(1024, paper);
    for (int node = 1; node <= nested.n_nodes(); ++node) {
      const SlotPlan a = nested.slots(node), b = other.slots(node);
      run.check(nested.span(node) == other.span(node) && a.step == b.step && a.n_slots == b.n_slots, "the paper's node " + std::to_string(node));
    }
  }
}

TEST(tree_levels) {
  Run run;
  for (int node = 1; node < 4096; ++node) run.equal(level_of(node), log2_floor(node), "level of node " + std::to_string(node));
}

}  // namespace banyan::test
