#include "engine/session.h"

#include <algorithm>
#include <chrono>

#include "engine/sampler.h"

namespace banyan {

namespace {

// Tokens of one slice of prefill: a full GEMM tile on the CPU, and short enough that other sessions' tokens get through.
constexpr int kPrefillTokens = 256;

using Clock = std::chrono::steady_clock;
double ms_since(Clock::time_point begin) { return std::chrono::duration<double, std::milli>(Clock::now() - begin).count(); }

// What every run of a session begins with: exclusive use, and the memory for its question.
class SessionJob : public Job {
 public:
  SessionJob(std::shared_ptr<SessionState> session, CancelFlag cancel) : Job(std::move(cancel)), session_(std::move(session)) {}
  ~SessionJob() override {
    if (has_begun_) session_->is_busy = false;
  }

 protected:
  Engine& engine() const { return *session_->engine; }

  // One slice; true when the memory is ready.
  bool prepare(Stream& s, std::span<const int32_t> ids, int64_t query_index, const Retrieve::Hooks& hooks) {
    if (!has_begun_) {
      if (session_->is_busy) throw Error(Code::kInvalidArgument, "another run of this session is still going on");
      session_->is_busy = has_begun_ = true;
      retrieve_ = std::make_unique<Retrieve>(engine(), session_->documents());
    }
    const bool is_ready = retrieve_->step(s, session_->upper, ids, query_index, session_->memory, session_->memory_key, hooks);
    if (retrieve_->has_changed) session_->cached.clear();
    return is_ready;
  }

  const std::shared_ptr<SessionState> session_;
  std::unique_ptr<Retrieve> retrieve_;

 private:
  bool has_begun_ = false;
};

class GenerateJob : public SessionJob {
 public:
  GenerateJob(std::shared_ptr<SessionState> session, GenerateRequest request, GenerateHooks hooks)
      : SessionJob(std::move(session), hooks.cancel),
        request_(std::move(request)),
        hooks_(std::move(hooks)),
        sampler_(request_.sampler),
        ids_(request_.ids) {}

  void finish(const Error* error) override {
    if (hooks_.on_done) hooks_.on_done(error, result_);
  }

  bool step() override {
    Stream s = engine().stream(cancel);
    switch (stage_) {
      case Stage::kPrepare:
        if (prepare(s, request_.ids, request_.query_index, {hooks_.on_progress})) begin_prefill(s);
        return false;
      case Stage::kPrefill: return prefill(s);
      case Stage::kDecode: return decode(s);
    }
    return true;
  }

 private:
  enum class Stage : uint8_t { kPrepare, kPrefill, kDecode };

  void begin_prefill(Stream& s) {
    SessionState& session = *session_;
    result_.select_ms = retrieve_->select_ms;
    result_.encode_ms = retrieve_->encode_ms;
    if (hooks_.on_retrieval && session.active_memory() != nullptr) hooks_.on_retrieval(retrieve_->result);
    // the last prompt token always runs: its logits are wanted
    const auto [ours, theirs] = std::mismatch(session.cached.begin(), session.cached.end(), ids_.begin(), ids_.end() - 1);
    session.cached.resize(static_cast<size_t>(ours - session.cached.begin()));
    result_.n_prompt = static_cast<int>(ids_.size());
    result_.n_cached = static_cast<int>(session.cached.size());
    session.cache.reserve(s, static_cast<int>(ids_.size()), result_.n_cached);
    stage_ = Stage::kPrefill;
  }

  void run(Stream& s, int n, Upper::Read read) {
    SessionState& session = *session_;
    const auto n_past = static_cast<int>(session.cached.size());
    const std::span<const int32_t> piece(ids_.data() + n_past, static_cast<size_t>(n));
    const bool is_released_step = engine().tree.semantics == Semantics::kReleased && (stage_ == Stage::kDecode || ids_.size() == 1);
    session.cache.reserve(s, n_past + n, n_past);
    session.upper.forward(s, session.cache, session.active_memory(), piece, n_past, read, is_released_step);
    session.cached.insert(session.cached.end(), piece.begin(), piece.end());
  }

  bool prefill(Stream& s) {
    const auto begin = Clock::now();
    const auto n_left = static_cast<int>(ids_.size() - session_->cached.size());
    const int n = std::min(n_left, kPrefillTokens);
    run(s, n, n == n_left ? Upper::Read::kLast : Upper::Read::kNothing);
    result_.prefill_ms += ms_since(begin);
    if (hooks_.on_progress)
      hooks_.on_progress(
          "prefill", session_->cached.size() - static_cast<size_t>(result_.n_cached), ids_.size() - static_cast<size_t>(result_.n_cached));
    if (n < n_left) return false;
    stage_ = Stage::kDecode;
    return request_.max_tokens == 0 || choose(s);
  }

  bool decode(Stream& s) {
    const auto begin = Clock::now();
    run(s, 1, Upper::Read::kLast);
    const bool is_done = choose(s);
    result_.decode_ms += ms_since(begin);
    return is_done;
  }

  // Samples the next token; true at the end of the run.
  bool choose(Stream& s) {
    std::vector<float> logits = session_->upper.logits(s, 1);
    const int32_t id = sampler_.sample(logits, ids_);
    if (std::find(request_.stop_ids.begin(), request_.stop_ids.end(), id) != request_.stop_ids.end()) {
      result_.finish = FinishReason::kStop;
      result_.stop_id = id;
      return true;
    }
    ids_.push_back(id);
    ++result_.n_generated;
    if (hooks_.on_token) hooks_.on_token(id);
    return result_.n_generated >= request_.max_tokens;
  }

  const GenerateRequest request_;
  const GenerateHooks hooks_;
  Sampler sampler_;
  std::vector<int32_t> ids_;  // prompt and answer
  GenerateResult result_;
  Stage stage_ = Stage::kPrepare;
};

// Everything a conformance run compares, in one go after the memory is ready.
class TraceJob : public SessionJob {
 public:
  TraceJob(std::shared_ptr<SessionState> session, TraceRequest request, CancelFlag cancel, std::function<void(const Error*, const Trace&)> on_done)
      : SessionJob(std::move(session), std::move(cancel)), request_(std::move(request)), on_done_(std::move(on_done)) {}

  void finish(const Error* error) override {
    if (on_done_) on_done_(error, trace_);
  }

  bool step() override {
    Stream s = engine().stream(cancel);
    s.multiply_adds = trace_.multiply_adds;
    const bool is_ready = prepare(s, request_.ids, request_.query_index, {});
    if (is_ready) {
      copy_memory();
      run(s);
    }
    trace_.multiply_adds = s.multiply_adds;
    return is_ready;
  }

 private:
  bool is_released() const { return engine().tree.semantics == Semantics::kReleased; }

  void copy_memory() {
    trace_.retrieval = retrieve_->result;
    trace_.query_vector = retrieve_->query_vector;
    trace_.slot_positions = retrieve_->slot_positions;
    if (session_->active_memory() == nullptr) return;
    Engine& e = engine();
    Stream s = e.stream(cancel);
    const int n = session_->memory.n_slots(), kv_dim = e.lower.kv_dim();
    const size_t side = static_cast<size_t>(n) * static_cast<size_t>(kv_dim);
    std::vector<int32_t> numbers(static_cast<size_t>(n));
    for (int i = 0; i < n; ++i) numbers[static_cast<size_t>(i)] = i;
    IndexTable table(*e.device);
    const size_t at = table.add(numbers);
    table.upload();
    Buffer widened(*e.device, side * sizeof(float));
    for (int i = 0; i < e.tree.n_injected_layers; ++i) {
      const KvView kv = session_->memory.layer(i);
      for (auto& [from, to] : {std::pair<void*, std::vector<float>*>{kv.k, &trace_.keys}, {kv.v, &trace_.values}}) {
        gather(s, {widened.as<float>(), from, kv.dtype, table.at(at), n, kv_dim});
        to->resize(to->size() + side);
        e.device->to_host(to->data() + to->size() - side, widened.as<float>(), side * sizeof(float));
      }
    }
  }

  void run(Stream& s) {
    SessionState& session = *session_;
    const auto n_prompt = static_cast<int>(request_.ids.size());
    const auto vocabulary = static_cast<std::ptrdiff_t>(engine().upper.config.vocab_size);
    std::vector<int32_t> ids = request_.ids;
    session.cached.clear();
    session.cache.reserve(s, n_prompt + request_.max_new_tokens, 0);
    session.upper.forward(s, session.cache, session.active_memory(), ids, 0, Upper::Read::kAll, is_released() && n_prompt == 1);
    trace_.logits = session.upper.logits(s, n_prompt);
    std::vector<float> last(trace_.logits.end() - vocabulary, trace_.logits.end());
    for (int i = 0; i < request_.max_new_tokens; ++i) {
      const auto best = static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin());
      trace_.greedy.push_back(best);
      trace_.greedy_logits.insert(trace_.greedy_logits.end(), last.begin(), last.end());
      ids.push_back(best);
      if (i + 1 == request_.max_new_tokens) break;
      const auto n_past = request_.recompute ? 0 : static_cast<int>(ids.size()) - 1;
      const std::span<const int32_t> piece(ids.data() + n_past, ids.size() - static_cast<size_t>(n_past));
      session.upper.forward(s, session.cache, session.active_memory(), piece, n_past, Upper::Read::kLast, is_released() && !request_.recompute);
      last = session.upper.logits(s, 1);
    }
  }

  const TraceRequest request_;
  const std::function<void(const Error*, const Trace&)> on_done_;
  Trace trace_;
};

void check_prompt(const Engine& engine, const std::vector<int32_t>& ids, int64_t query_index) {
  if (ids.empty()) throw Error(Code::kInvalidArgument, "a run needs at least one local token");
  if (query_index < -1 || query_index >= static_cast<int64_t>(ids.size()))
    throw Error(Code::kInvalidArgument, "query index " + std::to_string(query_index) + " is outside the local tokens");
  engine.check_ids(ids);
}

}  // namespace

SessionState::SessionState(std::shared_ptr<Engine> engine_in)
    : engine(std::move(engine_in)),
      upper(*engine),
      memory(*engine->device, engine->lower, engine->kv_dtype, engine->tree.n_injected_layers),
      cache(*engine->device, engine->upper, engine->kv_dtype) {}

void SessionState::set_documents(std::vector<std::shared_ptr<Document>> documents) {
  std::vector<std::shared_ptr<DocumentState>> ours;
  for (const auto& document : documents) {
    auto state = std::dynamic_pointer_cast<DocumentState>(document);
    if (!state || state->engine != engine) throw Error(Code::kInvalidArgument, "a document belongs to another model");
    ours.push_back(std::move(state));
  }
  const std::lock_guard lock(mutex_);
  documents_ = std::move(ours);
}

std::vector<std::shared_ptr<DocumentState>> SessionState::documents() const {
  const std::lock_guard lock(mutex_);
  return documents_;
}

void SessionState::begin_generate(GenerateRequest request, GenerateHooks hooks) {
  check_prompt(*engine, request.ids, request.query_index);
  for (const auto& [id, bias] : request.sampler.logit_bias) engine->check_ids({id});
  if (request.max_tokens < 0) throw Error(Code::kInvalidArgument, "max_tokens is negative");
  engine->scheduler.post(std::make_unique<GenerateJob>(shared_from_this(), std::move(request), std::move(hooks)));
}

void SessionState::begin_trace(TraceRequest request, CancelFlag cancel, std::function<void(const Error*, const Trace&)> on_done) {
  check_prompt(*engine, request.ids, request.query_index);
  engine->scheduler.post(std::make_unique<TraceJob>(shared_from_this(), std::move(request), std::move(cancel), std::move(on_done)));
}

}  // namespace banyan
