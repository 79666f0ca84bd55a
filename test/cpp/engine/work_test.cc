// How much is computed: multiply-adds against closed formulas of "compute only what is read" (docs/architecture.md), exactly.
#include <set>

#include "drive.h"
#include "engine/document.h"
#include "engine/session.h"
#include "run.h"
#include "toy.h"

namespace banyan::test {

namespace {

uint64_t u(int64_t n) { return static_cast<uint64_t>(n); }
uint64_t triangle(int64_t n) { return u(n) * u(n + 1) / 2; }  // pairs of a causal pass

// The parts of a decoder layer, in multiply-adds.
struct Costs {
  uint64_t dim, q, kv, ffn;
  explicit Costs(const Shape& s) : dim(u(s.dim)), q(u(s.n_heads) * u(s.head_dim)), kv(u(s.n_kv_heads) * u(s.head_dim)), ffn(u(s.ffn_dim)) {}
  uint64_t keys_values(uint64_t n) const { return n * 2 * dim * kv; }
  uint64_t attention(uint64_t n, uint64_t n_pairs) const { return n * 2 * dim * q + 2 * n_pairs * q; }
  uint64_t mlp(uint64_t n) const { return n * 3 * dim * ffn; }
  uint64_t layer(int64_t n) const { return keys_values(u(n)) + attention(u(n), triangle(n)) + mlp(u(n)); }
};

struct Shaped {
  int64_t n_tokens = 0;
  int64_t n_slots = 0, step = 1;
  // pairs that the slots' rows see: slot j stands at j * step and sees j * step + 1 tokens
  uint64_t slot_pairs() const { return u(step) * triangle(n_slots - 1) + u(n_slots); }
};

Shaped shaped(int64_t n, const Keep& keep) {
  int64_t wanted = keep.count > 0 ? keep.count : n;
  if (keep.is_fraction) wanted = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(n) * keep.fraction));
  const int64_t step = n / std::min(wanted, n);
  return {n, (n + step - 1) / step, step};
}

// Encoding of nodes; layer 0's keys and values for n_first tokens (each once, where nodes overlap).
uint64_t encoding(const Costs& c, const ToySpec& spec, const std::vector<Shaped>& nodes, uint64_t n_first) {
  const int m = spec.n_injected;
  const bool is_mean = spec.slot_kind == SlotKind::kMean;
  uint64_t total = 0, n_slots = 0;
  for (const Shaped& node : nodes) n_slots += u(node.n_slots);
  for (int layer = 0; layer < m; ++layer) {
    const bool is_last = layer == m - 1;
    if (is_last && !is_mean) {
      total += c.keys_values(n_slots);
      continue;
    }
    uint64_t n_rows = 0;
    for (const Shaped& node : nodes) {
      n_rows += u(node.n_tokens);
      if (is_last) continue;
      if (layer == m - 2 && !is_mean) total += c.attention(u(node.n_slots), node.slot_pairs()) + c.mlp(u(node.n_slots));
      else total += c.attention(u(node.n_tokens), triangle(node.n_tokens)) + c.mlp(u(node.n_tokens));
    }
    total += c.keys_values(layer == 0 ? n_first : n_rows);
  }
  return total;
}

int depth_of(int64_t n, int depth) {
  int d = 0;
  while (d < depth && (int64_t{2} << d) <= n) ++d;
  return d;
}

// What choosing needs of one chunk. Cosine: keys and values once, then the last token of each compared node. Token keys: the chunk once, up to the
// keys of the matching layer.
uint64_t index(const Costs& c, const ToySpec& spec, int64_t n) {
  if (spec.selection == SelectionRule::kTokenKeys) return u(spec.selection_layer) * c.layer(n) + u(n) * c.dim * c.kv;
  const int d = depth_of(n, spec.depth);
  if (d < 2) return 0;
  const uint64_t n_nodes = (uint64_t{1} << d) - 2;
  return c.keys_values(u(n)) + c.attention(n_nodes, u(d - 1) * u(n)) + c.mlp(n_nodes);
}

// The question's vector; by token keys also its products with every token's key.
uint64_t query(const Costs& c, const ToySpec& spec, int64_t n, const std::vector<int64_t>& chunks) {
  const uint64_t last = c.keys_values(u(n)) + c.attention(1, u(n));
  if (spec.selection == SelectionRule::kCosine) return last + c.mlp(1);
  uint64_t n_tokens = 0;
  for (const int64_t chunk : chunks) n_tokens += u(chunk);
  return u(spec.selection_layer) * c.layer(n) + last + c.dim * c.q + n_tokens * c.q;
}

// n_local tokens through the whole decoder with all logits, then single steps.
uint64_t local(const ToySpec& spec, int64_t n_local, int64_t n_new, int64_t n_slots) {
  const Costs c(spec.upper);
  const auto cross = [&](uint64_t n) { return n_slots == 0 ? 0 : n * 2 * c.dim * c.q + 2 * n * u(n_slots) * c.q; };
  const uint64_t head = u(spec.vocab) * c.dim, layers = u(spec.upper.n_layers), m = u(spec.n_injected);
  uint64_t total = layers * c.layer(n_local) + m * cross(u(n_local)) + u(n_local) * head;
  for (int64_t i = 1; i < n_new; ++i) total += layers * (c.keys_values(1) + c.attention(1, u(n_local + i)) + c.mlp(1)) + m * cross(1) + head;
  return total;
}

std::vector<Shaped> opened(const Retrieval& retrieval, const Keep& keep) {
  std::vector<Shaped> nodes;
  for (const OpenedNode& node : retrieval.nodes) nodes.push_back(shaped(node.end - node.begin, keep));
  return nodes;
}

uint64_t n_tokens(const std::vector<Shaped>& nodes) {
  uint64_t n = 0;
  for (const Shaped& node : nodes) n += u(node.n_tokens);
  return n;
}

// Every token of every opened node through all M layers, and every compared half through a whole block.
uint64_t everything(const ToySpec& spec, const std::vector<Shaped>& nodes, const std::vector<int64_t>& chunks) {
  const Costs c(spec.lower ? *spec.lower : spec.upper);
  uint64_t total = 0;
  for (const Shaped& node : nodes) total += u(spec.n_injected) * c.layer(node.n_tokens);
  for (const int64_t n : chunks) {
    for (int level = 1; level < depth_of(n, spec.depth); ++level) {
      // all 2^level nodes were compared by the vectors too, so that both counts answer any question
      total += (uint64_t{1} << level) * c.layer(n >> level);
    }
  }
  return total;
}

struct Scene {
  explicit Scene(const ToySpec& spec, const std::vector<int>& documents_tokens)
      : toy(spec), engine(make_engine(toy)), session(std::make_shared<SessionState>(engine, MethodOptions{})) {
    std::vector<std::shared_ptr<Document>> all;
    for (size_t d = 0; d < documents_tokens.size(); ++d) {
      const int n = documents_tokens[d];
      documents.push_back(std::make_shared<DocumentState>(engine, engine->tree, Method::kShared, std::vector<uint8_t>()));
      append(*documents.back(), text_of(n, spec.vocab, static_cast<uint32_t>(d + 1)));
      for (int at = 0; at < n; at += spec.chunk_size) chunks.push_back(std::min(spec.chunk_size, n - at));
      all.push_back(documents.back());
    }
    session->set_documents(all);
  }
  Trace ask(int n_local, int n_new, uint32_t seed) const {
    TraceRequest request;
    request.ids = text_of(n_local, toy.spec.vocab, seed);
    request.max_new_tokens = n_new;
    return trace(*session, request);
  }
  const Toy toy;
  const std::shared_ptr<Engine> engine;
  std::vector<std::shared_ptr<DocumentState>> documents;
  std::vector<int64_t> chunks;
  const std::shared_ptr<SessionState> session;
};

std::string name_of(const ToySpec& spec) {
  return std::string(spec.slot_kind == SlotKind::kMean ? "mean" : "strided") + ", M = " + std::to_string(spec.n_injected) +
         (spec.lower ? ", own" : ", shared") + ", depth " + std::to_string(spec.depth) + ", last_p " + spec.last_p +
         (spec.selection == SelectionRule::kTokenKeys ? ", token keys" : "");
}

std::vector<ToySpec> specs() {
  std::vector<ToySpec> all;
  for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
    for (int m = 1; m <= 4; ++m) {
      for (int variant = 0; variant < 5; ++variant) {
        ToySpec spec;
        spec.slot_kind = slot_kind;
        spec.n_injected = m;
        spec.chunk_size = 32;
        spec.depth = variant == 3 ? 2 : 3;
        spec.last_p = variant == 2 ? "0.3" : "3";
        if (variant == 4) {
          spec.selection = SelectionRule::kTokenKeys;
          spec.selection_layer = m / 2;
        }
        if (variant == 1) {
          spec.lower = spec.upper;
          spec.lower->ffn_dim = 28;
          spec.lower->n_kv_heads = 1;
        }
        spec.seed = u(m) + 10 * u(variant);
        all.push_back(spec);
      }
    }
  }
  return all;
}

void check_work(Run& run, const ToySpec& spec) {
  const std::string what = name_of(spec);
  const Scene scene(spec, {3 * 32 + 13, 32, 1, 2});
  const Costs lower(spec.lower ? *spec.lower : spec.upper), upper(spec.upper);
  const Keep keep = spec.keep();
  constexpr int kLocal = 11, kNew = 3;

  // full chunks got their vectors when they were appended; the ragged ones get theirs now
  uint64_t late = 0;
  for (const int64_t n : scene.chunks) late += n < spec.chunk_size ? index(lower, spec, n) : 0;
  const Trace first = scene.ask(kLocal, kNew, 900);
  const std::vector<Shaped> nodes = opened(first.retrieval, keep);
  const uint64_t n_first = n_tokens(nodes);
  const uint64_t question = query(upper, spec, kLocal, scene.chunks) + local(spec, kLocal, kNew, first.retrieval.n_slots);
  run.equal(first.multiply_adds, late + encoding(lower, spec, nodes, n_first) + question, what + ": first question");
  run.equal(first.retrieval.n_nodes_encoded, static_cast<int>(nodes.size()), what + ": nodes encoded");

  const Trace again = scene.ask(kLocal, kNew, 900);
  run.equal(again.multiply_adds, question, what + ": the same question again: selection, injection, local tokens");
  run.equal(again.retrieval.n_nodes_encoded, 0, what + ": no node encoded again");

  // another question: only the nodes not seen yet
  for (uint32_t seed = 901; seed < 906; ++seed) {
    std::vector<Shaped> missing;
    std::vector<std::vector<std::shared_ptr<Chunk>>> chunks;
    std::vector<std::vector<std::vector<bool>>> had;
    for (const auto& document : scene.documents) {
      chunks.push_back(document->chunks());
      had.emplace_back();
      for (const auto& chunk : chunks.back()) {
        had.back().emplace_back();
        for (const NodeSlots& slots : chunk->slots) had.back().back().push_back(slots.data != nullptr);
      }
    }
    const Trace other = scene.ask(kLocal, kNew, seed);
    uint64_t n_missing_tokens = 0;
    for (size_t d = 0; d < chunks.size(); ++d) {
      for (size_t c = 0; c < chunks[d].size(); ++c) {
        for (int node = 1; node <= chunks[d][c]->tree.n_nodes(); ++node) {
          const auto at = static_cast<size_t>(node);
          if (had[d][c][at] || chunks[d][c]->slots[at].data == nullptr) continue;
          missing.push_back(shaped(chunks[d][c]->tree.span(node).size(), keep));
          n_missing_tokens += u(missing.back().n_tokens);
        }
      }
    }
    run.equal(other.multiply_adds,
        encoding(lower, spec, missing, n_missing_tokens) + query(upper, spec, kLocal, scene.chunks) +
            local(spec, kLocal, kNew, other.retrieval.n_slots),
        what + ": another question");
    run.equal(other.retrieval.n_nodes_encoded, static_cast<int>(missing.size()), what + ": only what was missing");
  }
}

// All nodes of all trees: layer 0's keys and values once per token, not per level.
void check_eager(Run& run, const ToySpec& spec) {
  const std::string what = name_of(spec) + ", eager";
  const Scene scene(spec, {3 * 32, 20});
  const Costs lower(spec.lower ? *spec.lower : spec.upper), upper(spec.upper);
  std::vector<NodeRef> refs;
  std::vector<Shaped> nodes;
  for (const auto& document : scene.documents) {
    for (const auto& chunk : document->chunks()) {
      for (int node = 2; node <= chunk->tree.n_nodes(); ++node) {
        refs.push_back({chunk, node, {}});
        nodes.push_back(shaped(chunk->tree.span(node).size(), spec.keep()));
      }
    }
  }
  // by hand on the idle engine, to read the stream's count
  const auto never = std::make_shared<std::atomic<bool>>(false);
  Stream s = scene.engine->stream(never);
  scene.engine->compressor.encode(s, refs);
  run.equal(s.multiply_adds, encoding(lower, spec, nodes, 116), what + ": every node");
  complete(*scene.documents[1], false);  // the ragged chunk's vectors
  const Trace question = scene.ask(11, 3, 900);
  run.equal(question.multiply_adds, query(upper, spec, 11, scene.chunks) + local(spec, 11, 3, question.retrieval.n_slots),
      what + ": a question afterwards");
  run.equal(question.retrieval.n_nodes_encoded, 0, what + ": nothing left to encode");

  const Scene other(spec, {3 * 32, 20});
  for (const auto& document : other.documents) complete(*document, true);
  const Trace same = other.ask(11, 3, 900);
  run.equal(same.multiply_adds, question.multiply_adds, what + ": complete() leaves the same to do");
  run.check(same.greedy == question.greedy, what + ": the same answer");
}

// Nested: all that is ever computed of a chunk of n tokens.
uint64_t whole(const Costs& c, const ToySpec& spec, int64_t n) {
  const int d = depth_of(n, spec.depth), m = spec.n_injected;
  const int64_t step = shaped(n >> d, spec.keep()).step;
  const bool is_mean = spec.slot_kind == SlotKind::kMean, by_tokens = spec.selection == SelectionRule::kTokenKeys;
  std::set<int64_t> firsts, lasts;
  for (int64_t t = 0; t < n; t += step) firsts.insert(t);
  const auto add_lasts = [&](auto&& self, int level, int64_t begin, int64_t end) -> void {  // in groups
    if (level > 0) lasts.insert(std::min(end * step, n) - 1);
    if (level + 1 >= d) return;
    const int64_t middle = begin + (end - begin) / 2;
    self(self, level + 1, begin, middle);
    self(self, level + 1, middle, end);
  };
  if (!by_tokens && d >= 2) add_lasts(add_lasts, 0, 0, (n + step - 1) / step);
  const auto rest = [&](const std::set<int64_t>& rows) {
    uint64_t n_pairs = 0;
    for (const int64_t t : rows) n_pairs += u(t + 1);
    return c.attention(rows.size(), n_pairs) + c.mlp(rows.size());
  };
  uint64_t total = 0;
  for (int i = 0; i < m; ++i) {
    const bool matches_above = by_tokens && spec.selection_layer == m - 1;  // the last layer's keys of every token are wanted
    if (i < m - 2 || (i == m - 2 && (is_mean || matches_above))) {
      total += c.layer(n);
    } else if (i == m - 2) {
      std::set<int64_t> rows = firsts;
      if (i == 0) rows.insert(lasts.begin(), lasts.end());
      total += c.keys_values(u(n)) + rest(rows);
    } else if (is_mean || (i == 0 && !lasts.empty())) {
      total += c.keys_values(u(n)) + (i == 0 ? rest(lasts) : 0);
    } else {
      total += (matches_above ? u(n) + firsts.size() : 2 * firsts.size()) * c.dim * c.kv;
    }
  }
  return total;
}

// Indexing is encoding: every chunk once, and then a question is selection only.
void check_nested(Run& run, ToySpec spec) {
  spec.semantics = Semantics::kNested;
  const std::string what = "nested, " + name_of(spec);
  const Scene scene(spec, {3 * 32 + 13, 32, 1, 2});
  const Costs lower(spec.lower ? *spec.lower : spec.upper), upper(spec.upper);
  uint64_t full = 0, late = 0;
  int n_late = 0;
  for (const int64_t n : scene.chunks) (n < spec.chunk_size ? late : full) += whole(lower, spec, n);
  run.equal(scene.engine->multiply_adds.load(), full, what + ": full chunks when they are appended");
  for (uint32_t seed = 900; seed < 904; ++seed) {
    const Trace trace = scene.ask(11, 3, seed);
    run.equal(trace.multiply_adds, late + query(upper, spec, 11, scene.chunks) + local(spec, 11, 3, trace.retrieval.n_slots), what + ": a question");
    n_late = 0;
    for (const OpenedNode& node : trace.retrieval.nodes)
      n_late += seed == 900 && ((node.document == 0 && node.chunk == 3) || node.document > 1) ? 1 : 0;
    run.equal(trace.retrieval.n_nodes_encoded, n_late, what + ": only nodes of the ragged chunks were not there");
    late = 0;
  }
  const uint64_t before = scene.engine->multiply_adds;
  for (const auto& document : scene.documents) complete(*document, true);
  run.equal(scene.engine->multiply_adds.load(), before, what + ": eager has nothing to add");
}

}  // namespace

TEST(work_nested) {
  Run run;
  for (ToySpec spec : specs()) {
    const int n_layers = spec.selection == SelectionRule::kTokenKeys ? spec.n_injected : 1;
    for (spec.selection_layer = 0; spec.selection_layer < n_layers; ++spec.selection_layer) check_nested(run, spec);
  }
}

TEST(work_questions) {
  Run run;
  for (const ToySpec& spec : specs()) check_work(run, spec);
}

TEST(work_eager) {
  Run run;
  for (const ToySpec& spec : specs()) check_eager(run, spec);
}

TEST(work_without_documents) {
  Run run;
  const Scene scene(ToySpec{}, {});
  run.equal(scene.ask(9, 4, 1).multiply_adds, local(scene.toy.spec, 9, 4, 0), "no documents: the decoder alone");
}

// What is saved, by the formulas that the engine was just held to, at the sizes of a 1B Llama (3.2) and of the 7B of the paper.
TEST(work_saved) {
  Run run;
  struct Sizes {
    const char* name;
    Shape shape;
  };
  Shape one{16, 2048, 8192, 32, 8, 64, 500000, "llama", 0, false}, seven{32, 4096, 11008, 32, 32, 128, 10000, "llama", 0, false};
  for (const Sizes& sizes : {Sizes{"1B", one}, Sizes{"7B", seven}}) {
    for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
      ToySpec spec;
      spec.upper = sizes.shape;
      spec.n_injected = 4;
      spec.chunk_size = 1024;
      spec.last_p = "32";
      spec.slot_kind = slot_kind;
      const Costs c(spec.upper);
      std::vector<Shaped> nodes;
      for (const int64_t n : {512, 256, 128, 128}) nodes.push_back(shaped(n, spec.keep()));
      const uint64_t lazy = encoding(c, spec, nodes, 1024), selection = index(c, spec, 1024);
      uint64_t full_layer = 0;
      for (const Shaped& node : nodes) full_layer += c.layer(node.n_tokens);
      const double n_layers = static_cast<double>(lazy) / static_cast<double>(full_layer);
      const double ratio = static_cast<double>(everything(spec, nodes, {1024})) / static_cast<double>(lazy + selection);
      std::printf("  work_saved: %s %-7s %.2f layers of work instead of 4, selection %.2f; with the selection passes %.2f times less\n", sizes.name,
          slot_kind == SlotKind::kMean ? "mean" : "strided", n_layers, static_cast<double>(selection) / static_cast<double>(full_layer), ratio);
      spec.selection = SelectionRule::kTokenKeys;
      const double n_whole = static_cast<double>(whole(c, spec, 1024)) / static_cast<double>(c.layer(1024));
      std::printf("  work_saved: %s %-7s nested, token keys: %.2f layers of the whole chunk for its index and all its nodes\n", sizes.name,
          slot_kind == SlotKind::kMean ? "mean" : "strided", n_whole);
      run.check(n_whole < (slot_kind == SlotKind::kMean ? 3.2 : 2.5), "nested: layers of work");
      run.check(n_layers < (slot_kind == SlotKind::kMean ? 3.3 : 2.5), "layers of work");
      run.check(ratio > 1.5, "less work than pushing every token of every node through every layer");
    }
  }
}

}  // namespace banyan::test
