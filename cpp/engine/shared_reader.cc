#include "engine/shared_reader.h"

#include <numeric>

namespace banyan {

namespace {

TreeConfig with_budget(TreeConfig tree, const MethodOptions& options) {
  tree.slot_budget = options.slot_budget.value_or(tree.slot_budget);
  tree.budget_unit = options.budget_unit.value_or(tree.budget_unit);
  if (const std::string conflict = find_conflict(tree); !conflict.empty()) throw Error(Code::kInvalidArgument, conflict);
  return tree;
}

}  // namespace

SharedReader::SharedReader(Engine& engine, const MethodOptions& options)
    : CachedReader(engine), tree_(with_budget(engine.tree, options)), memory_(*engine.device, engine.lower, engine.kv_dtype, engine.tree) {}

int64_t SharedReader::room(const std::vector<std::shared_ptr<DocumentState>>& documents, size_t n_prompt) const {
  need_chunks(documents, "SharedLLM");
  return CachedReader::room(documents, n_prompt);
}

void SharedReader::begin(Question question) {
  CachedReader::begin(std::move(question));
  retrieve_.emplace(e_, tree_, question_.documents);
}

bool SharedReader::prepare(Stream& s) {
  const bool is_ready = retrieve_->step(s, upper_, question_.prompt, question_.query_index, memory_, memory_key_, {question_.on_phase});
  if (retrieve_->has_changed) forget();
  select_ms = retrieve_->select_ms;
  encode_ms = retrieve_->encode_ms;
  if (is_ready) retrieval = retrieve_->result;
  return is_ready;
}

Pass SharedReader::make_pass(int n_past, int n, Pass::Read wanted, bool is_step) {
  Pass pass = local_pass(n_past, n, wanted);
  if (active() == nullptr || memory_.n_slots() == 0) return pass;
  pass.injected.push_back({&memory_, 0, n});
  pass.is_released_step = is_step && e_.tree.semantics == Semantics::kReleased;
  return pass;
}

void SharedReader::trace(Stream& s, Trace& trace, int) {
  trace.query_vector = retrieve_->query_vector;
  trace.slot_positions = retrieve_->slot_positions;
  if (active() == nullptr) return;
  const int n = memory_.n_slots(), kv_dim = e_.lower.kv_dim();
  const size_t side = static_cast<size_t>(n) * static_cast<size_t>(kv_dim);
  std::vector<int32_t> numbers(static_cast<size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  IndexTable table(*e_.device);
  const size_t at = table.add(numbers);
  table.upload();
  Buffer widened(*e_.device, side * sizeof(float)), rows(*e_.device);
  for (int i = 0; i < e_.tree.n_injected_layers; ++i) {
    const KvView kv = memory_.layer(i);
    for (auto& [order, to] :
        {std::pair<SlotOrder, std::vector<float>*>{SlotOrder::kKeyTiles, &trace.keys}, {SlotOrder::kValueTiles, &trace.values}}) {
      gather(s, {widened.as<float>(), memory_.rows_of(kv, order, rows), kv.dtype, table.at(at), n, kv_dim});
      to->resize(to->size() + side);
      e_.device->to_host(to->data() + to->size() - side, widened.as<float>(), side * sizeof(float));
    }
  }
}

}  // namespace banyan
