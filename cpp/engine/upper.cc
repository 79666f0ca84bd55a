#include "engine/upper.h"

#include <algorithm>
#include <numeric>

#include "device/replay.h"

namespace banyan {

namespace {

// Passes of so few rows are steps of decoding, alone or shared: the same ops come again with each token, and their kernels are so short that starting them
// one by one would cost more than some of them take. As many rows as the CUDA backend multiplies in the kernels made for few.
constexpr int kReplayedRows = 32;

std::vector<int32_t> count_up(int n) {
  std::vector<int32_t> numbers(static_cast<size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

uint64_t count_pairs(const SeenKeys& seen) {
  uint64_t n = 0;
  for (size_t i = 0; i < seen.begin.size(); ++i) n += static_cast<uint64_t>(std::max(0, seen.end[i] - seen.begin[i]));
  return n;
}

}  // namespace

// Where the arrays of a pass lie in the index table.
struct Upper::Plan {
  struct Group {
    size_t begin, end, positions;
    uint64_t n_pairs;
  };
  Plan(const Pass& pass, IndexTable& table) : n(static_cast<int>(pass.ids.size())) {
    table.clear();
    ids = table.add(pass.ids);
    positions = table.add(pass.positions);
    rows = table.add(pass.rows);
    identity = table.add(count_up(n));
    std::vector<int32_t> query_positions(static_cast<size_t>(n), 0), fast_positions(static_cast<size_t>(n), 0);
    for (const Pass::Injected& part : pass.injected) {
      std::fill_n(query_positions.begin() + part.first, part.n, part.memory->query_position());
      std::fill_n(fast_positions.begin() + part.first, part.n, part.memory->fast_query_position());
      n_slots += part.memory->n_slots();
    }
    cross = table.add(query_positions);
    cross_fast = table.add(fast_positions);
    candidate_rows = table.add(pass.candidate_rows);
    std::vector<int32_t> inverse(pass.order.size());
    for (size_t i = 0; i < pass.order.size(); ++i) inverse[static_cast<size_t>(pass.order[i])] = static_cast<int32_t>(i);
    order = table.add(pass.order);
    place = table.add(inverse);
    for (const SeenKeys& seen : pass.seen)
      groups.push_back({table.add(seen.begin), table.add(seen.end), table.add(seen.positions), count_pairs(seen)});
    is_simple = pass.seen.size() == 1 && static_cast<int>(pass.seen[0].begin.size()) == n && pass.seen[0].temperature == 1 &&
                pass.seen[0].positions.empty() && pass.order.empty() && pass.asked == nullptr;
    table.upload();
  }
  const int n;
  bool is_simple;  // one group of keys for all rows, which need nothing but its attention
  size_t ids, positions, rows, identity, cross, cross_fast, candidate_rows, order, place;
  std::vector<Group> groups;
  int64_t n_slots = 0;  // of all memories
};

// Attention of all rows, or of the last one only, which then alone goes on.
void Upper::attend_to(Stream& s, const Layer& layer, const Pass& pass, const Plan& plan, int index, bool is_last_row_only, bool are_asked) {
  Activations& a = e_.activations;
  const int last = plan.n - 1, skipped = is_last_row_only ? last : 0;
  const int32_t* rows = is_last_row_only && plan.n > 1 ? indices_.at(plan.identity) + last : nullptr;
  if (plan.is_simple) {
    const SeenKeys& seen = pass.seen[0];
    const uint64_t n_pairs = is_last_row_only ? static_cast<uint64_t>(seen.end.back() - seen.begin.back()) : plan.groups[0].n_pairs;
    layer.attention(s, a, seen.kv(index),
        {plan.n - skipped, rows, indices_.at(plan.positions) + skipped, indices_.at(plan.groups[0].begin) + skipped,
            indices_.at(plan.groups[0].end) + skipped, n_pairs, are_asked});
    return;
  }
  std::vector<KeyGroup> groups;
  std::vector<char> covered(static_cast<size_t>(plan.n), 0);  // rows that have a group already
  for (size_t g = 0; g < pass.seen.size(); ++g) {
    const SeenKeys& seen = pass.seen[g];
    const auto n = static_cast<int>(seen.begin.size());
    if (n == 0 || (is_last_row_only && seen.first + n != plan.n)) continue;  // none of its rows goes on
    const int from = is_last_row_only ? n - 1 : 0;
    KeyGroup group{seen.kv(index), is_last_row_only ? 0 : seen.first, n - from, indices_.at(plan.groups[g].begin) + from,
        indices_.at(plan.groups[g].end) + from, seen.positions.empty() ? nullptr : indices_.at(plan.groups[g].positions) + from, seen.temperature,
        seen.power, seen.bias, plan.groups[g].n_pairs};
    if (is_last_row_only) group.n_pairs = static_cast<uint64_t>(std::max(0, seen.end.back() - seen.begin.back()));
    const auto covered_from = covered.begin() + group.first;
    group.is_first = *covered_from == 0;
    std::fill_n(covered_from, group.n, char{1});
    groups.push_back(group);
  }
  GroupedQueries queries;
  queries.n = plan.n - skipped;
  queries.rows = rows;
  queries.are_asked = are_asked;
  queries.positions = indices_.at(plan.positions) + skipped;
  if (!pass.order.empty()) queries.order = indices_.at(plan.order), queries.place = indices_.at(plan.place);
  queries.identity = indices_.at(plan.identity);
  if (pass.asked != nullptr) queries.asked = pass.asked + static_cast<int64_t>(index) * e_.upper.q_dim();
  queries.last = indices_.at(plan.identity) + (queries.n - 1);
  queries.groups = groups;
  layer.attention(s, a, queries);
}

// Of the cross queries: the lower model's, banded its slow half; for the released one-token step entry R + 1 of its angle vector, for every pair.
const float* Upper::cross_frequencies(const Pass& pass) {
  const Rotation& rotation = e_.lower.rotation;
  const float* frequencies = (e_.tree.positions == Positions::kBanded ? rotation.slow : rotation.inv_freq).as<float>();
  if (!pass.is_released_step) return frequencies;
  std::vector<float> table(static_cast<size_t>(e_.upper.config.head_dim / 2));
  e_.device->to_host(table.data(), frequencies, table.size() * sizeof(float));
  std::fill(table.begin(), table.end(), table[static_cast<size_t>(pass.injected[0].memory->query_position()) % table.size()]);
  step_freq_.reserve(table.size() * sizeof(float));
  e_.device->to_device(step_freq_.as<float>(), table.data(), table.size() * sizeof(float));
  return step_freq_.as<float>();
}

void Upper::run(Stream& s, const Pass& pass) {
  const ModelConfig& c = e_.upper.config;
  Activations& a = e_.activations;
  const Plan plan(pass, indices_);
  const bool is_injected = plan.n_slots > 0;
  const int n = plan.n;
  a.reserve(n);
  if (!plan.is_simple) a.reserve_groups();
  const float* cross_freq = is_injected ? cross_frequencies(pass) : nullptr;
  const auto put = [&](const KvView& to, const int32_t* rows, const float* k, const float* v, int count) {
    store(s, {to.k, to.dtype, to.row_stride, to.head_stride, k, rows, count, c.n_kv_heads, c.head_dim});
    store(s, {to.v, to.dtype, to.row_stride, to.head_stride, v, rows, count, c.n_kv_heads, c.head_dim});
  };

  Replay replay(n <= kReplayedRows ? e_.device.get() : nullptr, s);
  embed(s, {a.x.as<float>(), e_.upper.weights.embedding, indices_.at(plan.ids), n});
  for (int i = 0; i < c.n_layers; ++i) {
    const CandidateWeights* candidate = pass.n_candidates > 0 ? &e_.files->candidates[static_cast<size_t>(i)] : nullptr;
    const Layer layer(e_.upper, i, {pass.rotation, candidate, pass.n_candidates});
    const bool is_last = i == c.n_layers - 1;
    const bool is_last_row_only = is_last && pass.read == Pass::Read::kLast;
    const bool are_asked = !(is_last && pass.read == Pass::Read::kNothing) && !(is_last_row_only && n > 1);  // every row
    if (are_asked) layer.keys_values_queries(s, a, n);
    else layer.keys_values(s, a, n);
    if (pass.n_candidates > 0) {
      const int64_t first = int64_t{n - pass.n_candidates} * e_.upper.kv_dim();
      put(pass.candidate_kv(i), indices_.at(plan.candidate_rows), a.k.as<float>() + first, a.v.as<float>() + first, pass.n_candidates);
    }
    layer.rotate_keys(s, a.k.as<float>(), indices_.at(plan.positions), n);
    for (const Pass::Target& target : pass.targets) {
      const int64_t first = int64_t{target.first} * e_.upper.kv_dim();
      put(target.kv(i), indices_.at(plan.rows) + target.first, a.k.as<float>() + first, a.v.as<float>() + first, target.n);
    }
    if (is_last && pass.read == Pass::Read::kNothing) break;
    attend_to(s, layer, pass, plan, i, is_last_row_only, are_asked);
    const int n_rows = is_last_row_only ? 1 : n;
    if (is_injected && i < e_.tree.n_injected_layers) {
      const ModelConfig& lower = e_.lower.config;
      const bool is_banded = e_.tree.positions == Positions::kBanded;
      std::vector<InjectionView> views;
      int next = 0;  // rows between the parts get a view without slots
      const auto add_view = [&](int first, int count, const Memory* memory) {
        if (count == 0) return;
        views.push_back({first, count, memory != nullptr ? memory->layer(i) : KvView{}, memory != nullptr ? memory->n_slots() : 0,
            indices_.at(plan.cross) + first, cross_freq, is_banded ? indices_.at(plan.cross_fast) + first : nullptr,
            e_.lower.rotation.fast.as<float>(), e_.lower.rotation.magnitude, lower.rope.is_interleaved, lower.n_kv_heads});
      };
      for (const Pass::Injected& part : pass.injected) {
        add_view(next, part.first - next, nullptr);
        add_view(is_last_row_only ? 0 : part.first, is_last_row_only ? 1 : part.n, part.memory);
        next = part.first + part.n;
      }
      add_view(next, is_last_row_only ? 0 : n - next, nullptr);
      layer.injection(s, a, e_.files->cross[static_cast<size_t>(i)], views, n_rows);
    }
    layer.mlp(s, a, n_rows);
    check_cancelled(s);
  }
  replay.end();
  if (pass.read == Pass::Read::kNothing) e_.device->sync();  // else logits() waits, and until then the device need not
  check_cancelled(s);
}

void Upper::reserve_logits(int n) { logits_.reserve(static_cast<size_t>(n) * static_cast<size_t>(e_.upper.config.vocab_size) * sizeof(float)); }

void Upper::compute_logits(Stream& s, int n) {
  const ModelConfig& c = e_.upper.config;
  Activations& a = e_.activations;
  norm(s, {a.normed.as<float>(), a.x.as<float>(), e_.upper.weights.final_norm, n, c.dim, c.norm_eps});
  gemm(s, {logits_.as<float>(), a.normed.as<float>(), e_.upper.weights.head, nullptr, n, false});
}

std::vector<float> Upper::logits(Stream& s, int n) {
  reserve_logits(n);
  compute_logits(s, n);
  return to_host(s, logits_, int64_t{n} * e_.upper.config.vocab_size);
}

std::span<const int32_t> Upper::sample(Stream& s, std::span<const SampleRequest> requests) {
  const auto n = static_cast<int>(requests.size());
  samples_.upload(requests);
  reserve_logits(n);
  Replay replay(n <= kReplayedRows ? e_.device.get() : nullptr, s);
  compute_logits(s, n);
  samples_.sample(s, logits_.as<float>(), e_.upper.config.vocab_size);
  replay.end();
  check_cancelled(s);
  return samples_.ids();
}

// Layers below `layer` over ids[0..index] without injection, and that layer's self-attention for the last of them, which alone remains in a.x.
void Upper::read_question(Stream& s, std::span<const int32_t> ids, int64_t index, int layer) {
  const ModelConfig& c = e_.upper.config;
  Activations& a = e_.activations;
  const int n = static_cast<int>(index) + 1;
  a.reserve(n);
  const SeenKeys seen = seen_locally({}, n, 0, c.sliding_window);
  indices_.clear();
  const size_t ids_at = indices_.add({ids.begin(), ids.begin() + n}), positions_at = indices_.add(count_up(n)), begin_at = indices_.add(seen.begin),
               end_at = indices_.add(seen.end), last_at = indices_.add({n - 1});
  indices_.upload();
  embed(s, {a.x.as<float>(), e_.upper.weights.embedding, indices_.at(ids_at), n});
  for (int i = 0; i <= layer; ++i) {
    const Layer block(e_.upper, i);
    block.keys_values(s, a, n);
    block.rotate_keys(s, a.k.as<float>(), indices_.at(positions_at), n);
    const KvView kv{a.k.as<float>(), a.v.as<float>(), DType::kF32, e_.upper.kv_dim(), c.head_dim};
    if (i == layer) {
      block.attention(s, a, kv,
          {1, indices_.at(last_at), indices_.at(last_at), indices_.at(begin_at) + (n - 1), indices_.at(end_at) + (n - 1),
              static_cast<uint64_t>(n - seen.begin.back())});
    } else {
      block.attention(s, a, kv, {n, nullptr, indices_.at(positions_at), indices_.at(begin_at), indices_.at(end_at), count_pairs(seen)});
      block.mlp(s, a, n);
    }
    check_cancelled(s);
  }
}

std::vector<float> Upper::to_host(Stream& s, const Buffer& buffer, int64_t n) const {
  e_.device->sync();
  check_cancelled(s);
  std::vector<float> out(static_cast<size_t>(n));
  e_.device->to_host(out.data(), buffer.as<float>(), out.size() * sizeof(float));
  return out;
}

std::vector<float> Upper::query_vector(Stream& s, std::span<const int32_t> ids, int64_t index) {
  const ModelConfig& c = e_.upper.config;
  Activations& a = e_.activations;
  read_question(s, ids, index, 0);
  Layer(e_.upper, 0).mlp(s, a, 1);
  norm(s, {a.normed.as<float>(), a.x.as<float>(), e_.upper.weights.final_norm, 1, c.dim, c.norm_eps});
  return to_host(s, a.normed, c.dim);
}

std::vector<float> Upper::cross_query(Stream& s, std::span<const int32_t> ids, int64_t index, int layer) {
  read_question(s, ids, index, layer);
  Layer(e_.upper, layer).cross_queries(s, e_.activations, e_.files->cross[static_cast<size_t>(layer)], 1);
  return to_host(s, e_.activations.q, e_.upper.q_dim());
}

}  // namespace banyan
