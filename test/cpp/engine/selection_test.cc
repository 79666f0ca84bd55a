// Which halves are chosen, by hand-made vectors: sharedllm-semantics 5 and 7, and the paper's own halves.
#include <cmath>

#include "run.h"
#include "engine/vector_scores.h"

namespace banyan::test {

namespace {

constexpr float kQuery[] = {1, 0};

// Vectors where VectorScores finds them; they live as long as the chunk does.
std::vector<float>& vectors_of(Chunk& chunk) {
  if (chunk.vectors.owner == nullptr) {
    const auto owner = std::make_shared<std::vector<float>>(static_cast<size_t>(chunk.tree.n_compared()) * 2);
    chunk.vectors = {owner->data(), owner};
  }
  return *const_cast<std::vector<float>*>(static_cast<const std::vector<float>*>(chunk.vectors.owner.get()));
}

// By the paper's rule, on the CPU.
Selection select_nodes(const std::vector<ChunkRef>& chunks, std::span<const float> query, const TreeConfig& config) {
  if (!config.do_retrieval) return banyan::select_nodes(chunks, {}, config);
  const std::unique_ptr<Device> device = make_cpu_device(1, "");
  Stream stream = device->stream();
  return banyan::select_nodes(chunks, VectorScores(*device, stream, chunks, query), config);
}

// A vector whose cosine with the query is `score`, of any length.
void put(std::vector<float>& vectors, int node, float score, float length) {
  const auto at = static_cast<size_t>(node - 2) * 2;
  vectors[at] = length * score;
  vectors[at + 1] = length * std::sqrt(1 - score * score);
}

struct Scores {
  float left, right;
};

std::vector<ChunkRef> chunks_of(const std::vector<Scores>& scores, const TreeConfig& config, int n_tokens) {
  std::vector<ChunkRef> refs;
  for (size_t c = 0; c < scores.size(); ++c) {
    auto chunk = std::make_shared<Chunk>(std::vector<int32_t>(static_cast<size_t>(n_tokens), 1), static_cast<int64_t>(c) * n_tokens, config);
    put(vectors_of(*chunk), 2, scores[c].left, 0.5f + static_cast<float>(c));
    put(vectors_of(*chunk), 3, scores[c].right, 3.0f);
    refs.push_back({0, static_cast<int>(c), chunk});
  }
  return refs;
}

TreeConfig config_of(Semantics semantics, int depth) {
  TreeConfig config;
  config.semantics = semantics;
  config.depth = depth;
  return config;
}

bool is_nan(float value) { return value != value; }

// Depth 2: one choice per chunk. 'L' where the left half is chosen, i.e. the right half (node 3) is encoded whole.
std::string choices(const Selection& selection) {
  std::string text;
  for (const auto& nodes : selection) {
    if (nodes.size() != 3) return "?";
    const int rejected = nodes[0].node, open = rejected ^ 1;
    if (nodes[0].is_leaf || !nodes[1].is_leaf || !nodes[2].is_leaf || nodes[1].node != 2 * open || nodes[2].node != 2 * open + 1) return "?";
    text += open == 2 ? 'L' : 'R';
  }
  return text;
}

void check_pairing(Run& run) {
  const std::vector<Scores> all = {{.9f, .1f}, {.2f, .3f}, {.5f, .6f}, {.4f, .8f}, {.7f, .05f}};
  for (size_t n = 1; n <= 5; ++n) {
    const std::vector<Scores> scores(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n));
    std::vector<float> list;  // all left halves, then all right halves
    for (const Scores& s : scores) list.push_back(s.left);
    for (const Scores& s : scores) list.push_back(s.right);
    std::string released, own;
    for (size_t c = 0; c < n; ++c) {
      released += list[2 * c] >= list[2 * c + 1] ? 'L' : 'R';
      own += scores[c].left >= scores[c].right ? 'L' : 'R';
    }
    for (const Semantics semantics : {Semantics::kReleased, Semantics::kCorrected, Semantics::kPaper}) {
      const TreeConfig config = config_of(semantics, 2);
      const auto refs = chunks_of(scores, config, 8);
      const Selection selection = select_nodes(refs, kQuery, config);
      run.equal(choices(selection), semantics == Semantics::kReleased ? released : own, "choices of " + std::to_string(n) + " chunks");
      for (size_t c = 0; c < n; ++c) {
        const auto& nodes = selection[c];
        const bool is_left = nodes[0].node == 3;
        const Scores s = scores[c];
        run.check(std::fabs(nodes[0].score - (is_left ? s.right : s.left)) < 1e-6f, "the rejected half carries its own score");
        run.check(std::fabs(nodes[1].score - (is_left ? s.left : s.right)) < 1e-6f && nodes[1].score == nodes[2].score,
            "leaves carry their parent's score");
        run.equal(nodes[0].chunk, static_cast<int>(c), "chunk");
      }
    }
  }
  // 4 chunks, told in the specification: chunk 0 by left 0 against left 1, 1 by left 2 against left 3, 2 by right 0 against right 1, 3 by right 2 against right 3
  const TreeConfig config = config_of(Semantics::kReleased, 2);
  run.equal(
      choices(select_nodes(chunks_of({{.1f, .9f}, {.2f, .1f}, {.8f, .3f}, {.1f, .4f}}, config, 8), kQuery, config)), "RLLR", "4 chunks, released");
}

void check_ties(Run& run) {
  for (const Semantics semantics : {Semantics::kReleased, Semantics::kCorrected, Semantics::kPaper}) {
    const TreeConfig config = config_of(semantics, 2);
    auto refs = chunks_of({{.5f, .5f}}, config, 8);
    vectors_of(*refs[0].chunk).assign({1, 1, 1, 1});
    run.equal(choices(select_nodes(refs, kQuery, config)), "L", "a tie goes left");
    vectors_of(*refs[0].chunk).assign({0, 0, 0, 0});
    const Selection zero = select_nodes(refs, kQuery, config);
    run.equal(choices(zero), "L", "zero vectors tie");
    run.equal(zero[0][0].score, 0.0f, "the cosine of a zero vector is 0");
    vectors_of(*refs[0].chunk).assign({-1, 0, 0, 0});
    run.equal(choices(select_nodes(refs, kQuery, config)), "R", "0 beats a negative cosine");
    vectors_of(*refs[0].chunk).assign({0, 0, 1e-30f, 0});
    run.equal(choices(select_nodes(refs, kQuery, config)), "R", "a tiny vector is no zero vector");
    const float zero_query[] = {0, 0};
    vectors_of(*refs[0].chunk).assign({1, 0, 0, 1});
    run.equal(choices(select_nodes(refs, zero_query, config)), "L", "a zero query ties");
  }
}

void check_no_retrieval(Run& run) {
  for (const Semantics semantics : {Semantics::kReleased, Semantics::kCorrected, Semantics::kPaper}) {
    TreeConfig config = config_of(semantics, 3);
    config.do_retrieval = false;
    auto refs = chunks_of({{.9f, .1f}, {.9f, .1f}}, config, 8);
    const Selection selection = select_nodes(refs, std::span<const float>(), config);
    for (const auto& nodes : selection) {
      run.check(nodes.size() == 4 && nodes[0].node == 2 && nodes[1].node == 6 && nodes[2].node == 14 && nodes[3].node == 15,
          "without retrieval all go right");
      for (const SelectedNode& node : nodes) run.check(is_nan(node.score), "no score is computed");
    }
  }
}

// A deep walk of the paper's kind, and chunks too short for it.
void check_depths(Run& run) {
  const TreeConfig config = config_of(Semantics::kPaper, 3);
  auto refs = chunks_of({{.1f, .9f}}, config, 8);
  put(vectors_of(*refs[0].chunk), 6, .8f, 1);
  put(vectors_of(*refs[0].chunk), 7, .2f, 1);
  auto nodes = select_nodes(refs, kQuery, config)[0];
  run.check(nodes.size() == 4 && nodes[0].node == 2 && nodes[1].node == 7 && nodes[2].node == 12 && nodes[3].node == 13, "right, then left");
  run.check(!nodes[0].is_leaf && !nodes[1].is_leaf && nodes[2].is_leaf && nodes[3].is_leaf, "leaves");

  for (const Semantics semantics : {Semantics::kReleased, Semantics::kCorrected, Semantics::kPaper}) {
    const TreeConfig deep = config_of(semantics, 3);
    for (int n_last = 1; n_last <= 7; ++n_last) {
      auto mixed = chunks_of({{.1f, .9f}, {.9f, .1f}}, deep, 8);
      const auto last = std::make_shared<Chunk>(std::vector<int32_t>(static_cast<size_t>(n_last), 1), 16, deep);
      for (float& x : vectors_of(*last)) x = 1.0f;
      mixed.push_back({0, 2, last});
      const Selection selection = select_nodes(mixed, kQuery, deep);
      const int depth = last->tree.depth();
      run.equal(selection[2].size(), static_cast<size_t>(depth == 0 ? 1 : depth + 1), "nodes of a last chunk of " + std::to_string(n_last));
      if (depth == 0)
        run.check(selection[2][0].node == 1 && selection[2][0].is_leaf && is_nan(selection[2][0].score), "a chunk of one token is its own leaf");
      if (depth == 1)
        run.check(selection[2][0].node == 2 && selection[2][1].node == 3 && is_nan(selection[2][0].score), "two leaves without a choice");
      run.check(selection[0].size() == 4 && selection[1].size() == 4, "the others keep their depth");
    }
  }
  const TreeConfig flat = config_of(Semantics::kPaper, 1);
  const Selection one = select_nodes(chunks_of({}, flat, 8), kQuery, flat);
  run.check(one.empty(), "no chunks, no nodes");
  std::vector<ChunkRef> single = {{0, 0, std::make_shared<Chunk>(std::vector<int32_t>(8, 1), 0, flat)}};
  run.check(select_nodes(single, kQuery, flat)[0].size() == 2, "depth 1: both halves");
}

// Released, two levels: the list is made anew at each level from the spans still open, and a shallow chunk takes no part where it has no choice.
void check_released_levels(Run& run) {
  const TreeConfig config = config_of(Semantics::kReleased, 3);
  auto refs = chunks_of({{.9f, .1f}, {.2f, .3f}}, config, 8);
  // level 0: list .9 .2 | .1 .3 -> chunk 0 left (.9 >= .2), chunk 1 right (.1 < .3)
  put(vectors_of(*refs[0].chunk), 4, .1f, 1);
  put(vectors_of(*refs[0].chunk), 5, .7f, 1);
  put(vectors_of(*refs[1].chunk), 6, .5f, 1);
  put(vectors_of(*refs[1].chunk), 7, .6f, 1);
  // level 1: list .1 .5 | .7 .6 -> chunk 0 right (.1 < .5), chunk 1 left (.7 >= .6)
  const Selection selection = select_nodes(refs, kQuery, config);
  run.check(
      selection[0][0].node == 3 && selection[0][1].node == 4 && selection[0][2].node == 10 && selection[0][3].node == 11, "chunk 0: left, right");
  run.check(
      selection[1][0].node == 2 && selection[1][1].node == 7 && selection[1][2].node == 12 && selection[1][3].node == 13, "chunk 1: right, left");
}

}  // namespace

TEST(selection_pairing) {
  Run run;
  check_pairing(run);
}

TEST(selection_ties) {
  Run run;
  check_ties(run);
}

TEST(selection_without_retrieval) {
  Run run;
  check_no_retrieval(run);
}

TEST(selection_depths) {
  Run run;
  check_depths(run);
}

TEST(selection_released_levels) {
  Run run;
  check_released_levels(run);
}

}  // namespace banyan::test
