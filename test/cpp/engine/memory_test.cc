// Order and rotations of the memory: sharedllm-semantics 7 and 8, and the paper's. What a second question finds there.
#include <map>

#include "run.h"
#include "device/device.h"
#include "engine/memory.h"

namespace banyan::test {

namespace {

TreeConfig config_of(Semantics semantics, int depth, int keep) {
  TreeConfig config;
  config.semantics = semantics;
  config.depth = depth;
  config.keep = {false, keep, 0};
  config.n_injected_layers = 1;
  return config;
}

struct Scene {
  std::vector<ChunkRef> chunks;
  Selection selection;
  TreeConfig config;
  MemoryPlan plan() const { return {chunks, selection, config}; }
};

// n chunks of n_tokens; chunk c goes left where bit c of `lefts` is set, at every level.
Scene scene_of(Semantics semantics, int depth, int keep, int n, int n_tokens, uint64_t lefts) {
  Scene scene;
  scene.config = config_of(semantics, depth, keep);
  for (int c = 0; c < n; ++c) {
    auto chunk = std::make_shared<Chunk>(std::vector<int32_t>(static_cast<size_t>(n_tokens), 1), static_cast<int64_t>(c) * n_tokens, scene.config);
    const int d = chunk->tree.depth();
    std::vector<SelectedNode> nodes;
    int node = 1;
    for (int level = 0; level < d - 1; ++level) {
      const bool is_left = (lefts >> c & 1) != 0;
      nodes.push_back({c, 2 * node + (is_left ? 1 : 0), false, 0});
      node = 2 * node + (is_left ? 0 : 1);
    }
    if (d == 0) nodes.push_back({c, 1, true, 0});
    for (int side = 0; side < 2 && d > 0; ++side) nodes.push_back({c, 2 * node + side, true, 0});
    scene.chunks.push_back({0, c, chunk});
    scene.selection.push_back(nodes);
  }
  return scene;
}

// "chunk:node@position" of every entry.
std::string text_of(const Scene& scene, const MemoryPlan& plan) {
  std::string text;
  for (const MemoryPlan::Entry& entry : plan.entries) {
    size_t c = 0;
    while (scene.chunks[c].chunk.get() != entry.chunk) ++c;
    text += (text.empty() ? "" : " ") + std::to_string(c) + ":" + std::to_string(entry.node) + "@" + std::to_string(entry.position);
  }
  return text;
}

void check_released(Run& run) {
  for (const Semantics semantics : {Semantics::kReleased, Semantics::kCorrected}) {
    // R = 8 rows of T = 3 slots: depth 2, one slot a node. The rotation of row r is the row that holds slot number r.
    Scene eight = scene_of(semantics, 2, 1, 8, 8, 0b10110010);
    const MemoryPlan plan = eight.plan();
    run.equal(plan.n_slots, 24, "8 rows of 3");
    run.equal(plan.query_position, 9, "rows + 1");
    std::vector<int> positions;
    for (size_t i = 0; i < plan.entries.size(); i += 3) positions.push_back(plan.entries[i].position);
    run.equal(positions, std::vector<int>{0, 0, 0, 1, 1, 1, 2, 2}, "pos(r) for R = 8, T = 3");
    for (size_t i = 0; i < plan.entries.size(); ++i) run.check(plan.entries[i].position == positions[i / 3], "one rotation a row");

    // foreign leaves: row 0 = left 0, right 1; row 1 = right 0, left 2; row 2 = left 1, right 2. All chunks went left: leaves 4, 5, rejected 3.
    Scene three = scene_of(semantics, 2, 2, 3, 8, 0b111);
    run.equal(text_of(three, three.plan()), "0:4@0 1:5@0 0:3@0 0:5@0 2:4@0 1:3@0 1:4@0 2:5@0 2:3@0", "leaves in foreign rows");
    // deepest level first, each rejected node in its own chunk's row
    Scene deep = scene_of(semantics, 3, 2, 2, 16, 0b01);
    run.equal(text_of(deep, deep.plan()), "0:8@0 1:14@0 0:5@0 0:3@0 0:9@0 1:15@0 1:6@0 1:2@0", "deepest level first");
    // depth 1: every leaf is a row; R = 2n
    Scene flat = scene_of(semantics, 1, 2, 3, 8, 0);
    run.equal(flat.plan().query_position, 7, "depth 1: 2n rows");
    run.equal(text_of(flat, flat.plan()), "0:2@0 0:3@0 1:2@1 1:3@1 2:2@2 2:3@2", "depth 1: document order; rows of 2 slots");
    // one slot a row at depth 1: the row of slot number r is r
    Scene thin = scene_of(semantics, 1, 1, 2, 8, 0);
    run.equal(text_of(thin, thin.plan()), "0:2@0 0:3@1 1:2@2 1:3@3", "rows of one slot");
  }
}

void check_paper(Run& run) {
  Scene three = scene_of(Semantics::kPaper, 3, 2, 3, 16, 0b101);
  const MemoryPlan plan = three.plan();
  // document order within each chunk: left: leaves 8 9, then 5, then 3; right: 2, 6, then leaves 14 15
  run.equal(text_of(three, plan), "0:8@0 0:9@0 0:5@0 0:3@0 1:2@1 1:6@1 1:14@1 1:15@1 2:8@2 2:9@2 2:5@2 2:3@2",
      "document order, keys turned by the chunk's index");
  run.equal(plan.query_position, 4, "chunks + 1");
  run.equal(plan.n_slots, 24, "slots");
  Scene many = scene_of(Semantics::kPaper, 2, 1, 40, 4, 0);
  const MemoryPlan long_plan = many.plan();
  run.check(long_plan.entries.back().position == 39 && long_plan.query_position == 41, "the index is never folded");
  Scene single = scene_of(Semantics::kPaper, 3, 2, 2, 1, 0);
  run.equal(text_of(single, single.plan()), "0:1@0 1:1@1", "chunks of one token");
  Scene flat = scene_of(Semantics::kPaper, 1, 2, 2, 8, 0);
  run.equal(text_of(flat, flat.plan()), "0:2@0 0:3@0 1:2@1 1:3@1", "depth 1");
  run.equal(flat.plan().query_position, 3, "depth 1: chunks + 1");
}

// Nested: the paper's order and rotations; a banded query has two positions; what the budget leaves out keeps its place.
void check_nested(Run& run) {
  Scene three = scene_of(Semantics::kNested, 3, 2, 3, 16, 0b101);
  run.equal(text_of(three, three.plan()), "0:8@0 0:9@0 0:5@0 0:3@0 1:2@1 1:6@1 1:14@1 1:15@1 2:8@2 2:9@2 2:5@2 2:3@2", "nested: the paper's order");
  run.check(three.plan().query_position == 4 && three.plan().fast_query_position == 0, "one position");
  const MemoryPlan all = three.plan();
  for (SelectedNode& node : three.selection[1]) node.is_taken = false;
  run.equal(text_of(three, three.plan()), "0:8@0 0:9@0 0:5@0 0:3@0 2:8@2 2:9@2 2:5@2 2:3@2", "what is left out");
  run.check(three.plan().query_position == 4 && three.plan().n_slots == 16 && three.plan().key() != all.key(), "chunks are counted all the same");
  three.config.positions = Positions::kBanded;
  three.config.chunk_size = 16;
  run.check(three.plan().query_position == 4 && three.plan().fast_query_position == 16, "banded: two positions");
  const std::vector<uint64_t> key = three.plan().key();
  three.config.chunk_size = 32;
  run.check(three.plan().key() != key, "another chunk size, another key");
  // runs of groups instead of nodes: 16 tokens at depth 3, 2 slots a leaf: 16 groups of one token
  Scene runs = scene_of(Semantics::kNested, 3, 2, 2, 16, 0);
  runs.selection = {{{0, 0, true, 1, {3, 5}, true}, {0, 0, true, 1, {9, 10}, true}}, {{1, 0, true, 1, {0, 16}, true}}};
  const MemoryPlan plan = runs.plan();
  run.check(plan.n_slots == 19 && plan.entries.size() == 3 && plan.entries[0].extent.tokens == Span{3, 5} && plan.entries[0].extent.level == 3 &&
                plan.entries[2].position == 1,
      "runs");
  Scene longer = runs;
  longer.selection[0][0].groups = {3, 6};
  run.check(longer.plan().key() != plan.key(), "a longer run, another key");
}

void check_keys(Run& run) {
  for (const Semantics semantics : {Semantics::kReleased, Semantics::kCorrected, Semantics::kPaper, Semantics::kNested}) {
    Scene scene = scene_of(semantics, 3, 1, 3, 16, 0b011);
    run.check(scene.plan().key() == scene.plan().key() && !scene.plan().key().empty(), "the same memory, the same key");
    Scene other_choice = scene;
    other_choice.selection[2] = scene_of(semantics, 3, 1, 3, 16, 0b111).selection[2];
    run.check(other_choice.plan().key() != scene.plan().key(), "another choice, another key");
    Scene swapped = scene;
    std::swap(swapped.chunks[0], swapped.chunks[1]);
    run.check(swapped.plan().key() != scene.plan().key(), "another order, another key");
    Scene fewer = scene;
    fewer.chunks.pop_back();
    fewer.selection.pop_back();
    run.check(fewer.plan().key() != scene.plan().key(), "a chunk less, another key");
    Scene regrown = scene;  // the same tokens in a new chunk
    regrown.chunks[2].chunk = std::make_shared<Chunk>(scene.chunks[2].chunk->tokens, 32, scene.config);
    run.check(regrown.plan().key() != scene.plan().key(), "another chunk, another key");
  }
}

// Slots of every node of a scene, of one layer: numbers that tell the chunk, the node and the place.
struct Slots {
  std::map<std::pair<const Chunk*, int>, std::vector<float>> numbers;
  Slots(const Scene& scene, int kv_dim) {
    for (size_t c = 0; c < scene.chunks.size(); ++c) {
      Chunk& chunk = *scene.chunks[c].chunk;
      const bool is_nested = chunk.tree.is_nested();  // then all that is stored lies under node 1
      for (int node = 1; node <= (is_nested ? 1 : chunk.tree.n_nodes()); ++node) {
        const int n = is_nested ? chunk.tree.fine().n_slots : slot_plan(chunk.tree.span(node).size(), scene.config.keep).n_slots;
        std::vector<float>& of_node = numbers[{&chunk, node}];
        for (int i = 0; i < 2 * n * kv_dim; ++i) of_node.push_back(std::sin(static_cast<float>(i + 100 * node + 1000 * static_cast<int>(c))));
        chunk.slots[static_cast<size_t>(node)] = {reinterpret_cast<const std::byte*>(of_node.data()), n, nullptr};
      }
    }
  }
};

TreeConfig of_one_layer(TreeConfig tree, SlotKind slot_kind) {
  tree.n_injected_layers = 1;
  tree.slot_kind = slot_kind;
  return tree;
}

std::vector<float> content_of(const Memory& memory, int kv_dim) {
  const KvView kv = memory.layer(0);
  const auto n = static_cast<std::ptrdiff_t>(memory.n_slots()) * kv_dim;
  std::vector<float> content(static_cast<const float*>(kv.k), static_cast<const float*>(kv.k) + n);
  content.insert(content.end(), static_cast<const float*>(kv.v), static_cast<const float*>(kv.v) + n);
  return content;
}

// A memory that held another selection equals a fresh one, and the nodes that are in both are not written again.
void check_rebuilding(Run& run) {
  const auto device = make_cpu_device(2, "");
  ModelConfig model;
  model.n_heads = model.n_kv_heads = 2;
  model.head_dim = 8;
  const DecoderWeights weights;
  const Decoder lower(*device, model, weights);
  Stream s = device->stream();
  const std::pair<Semantics, SlotKind> kinds[] = {{Semantics::kReleased, SlotKind::kStrided}, {Semantics::kPaper, SlotKind::kStrided},
      {Semantics::kNested, SlotKind::kStrided}, {Semantics::kNested, SlotKind::kMean}};
  for (const auto& [semantics, slot_kind] : kinds) {
    Scene scene = scene_of(semantics, 3, 2, 5, 16, 0);
    Slots slots(scene, lower.kv_dim());
    const TreeConfig tree = of_one_layer(scene.config, slot_kind);
    Memory memory(*device, lower, DType::kF32, tree);
    const auto fresh = [&](const Scene& of) {
      Memory other(*device, lower, DType::kF32, tree);
      other.build(s, of.plan());
      return content_of(other, lower.kv_dim());
    };
    const auto choose = [&, kind = semantics](uint64_t lefts) { scene.selection = scene_of(kind, 3, 2, 5, 16, lefts).selection; };
    for (const uint64_t lefts : {0b00000, 0b00100, 0b10001, 0b01110, 0b01110, 0b11111}) {
      choose(lefts);
      memory.build(s, scene.plan());
      run.check(content_of(memory, lower.kv_dim()) == fresh(scene), "rebuilt as if new");
    }
    Scene fewer = scene;
    fewer.chunks.pop_back();
    fewer.selection.pop_back();
    memory.build(s, fewer.plan());
    run.check(content_of(memory, lower.kv_dim()) == fresh(fewer), "of fewer slots");
    memory.build(s, scene.plan());
    run.check(content_of(memory, lower.kv_dim()) == fresh(scene), "of more slots again");
    if (semantics == Semantics::kReleased) continue;
    choose(0b11110);  // of chunk 0 alone all nodes change their places
    for (auto& [of, numbers] : slots.numbers) {
      if (of.first != scene.chunks[0].chunk.get()) std::fill(numbers.begin(), numbers.end(), NAN);
    }
    memory.build(s, scene.plan());
    const std::vector<float> content = content_of(memory, lower.kv_dim());
    run.check(std::none_of(content.begin(), content.end(), [](float x) { return std::isnan(x); }), "what stays is left where it lies");
  }
  std::atomic<bool> cancel = true;
  s.cancel = &cancel;
  Scene scene = scene_of(Semantics::kPaper, 3, 2, 5, 16, 0b101);
  const Slots slots(scene, lower.kv_dim());
  const TreeConfig tree = of_one_layer(scene.config, SlotKind::kStrided);
  Memory memory(*device, lower, DType::kF32, tree);
  run.throws(
      Code::kAborted, [&] { memory.build(s, scene.plan()); }, "a cancelled build");
  cancel = false;
  memory.build(s, scene.plan());
  Memory other(*device, lower, DType::kF32, tree);
  other.build(s, scene.plan());
  run.check(content_of(memory, lower.kv_dim()) == content_of(other, lower.kv_dim()), "built whole after a cancelled one");
}

}  // namespace

TEST(memory_rebuilding) {
  Run run;
  check_rebuilding(run);
}

TEST(memory_released) {
  Run run;
  check_released(run);
}

TEST(memory_paper) {
  Run run;
  check_paper(run);
}

TEST(memory_nested) {
  Run run;
  check_nested(run);
}

TEST(memory_keys) {
  Run run;
  check_keys(run);
}

}  // namespace banyan::test
