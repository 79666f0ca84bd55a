#include "engine/session.h"

#include <algorithm>
#include <chrono>

#include "engine/focus_reader.h"
#include "engine/full_reader.h"
#include "engine/parallel_reader.h"
#include "engine/sampler.h"
#include "engine/score.h"
#include "engine/session_job.h"
#include "engine/shared_reader.h"
#include "engine/streaming_reader.h"

namespace banyan {

namespace {

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
    EngineStream s = engine().stream(cancel);
    switch (stage_) {
      case Stage::kPrepare: {
        const bool is_ready = prepare(s, {{}, request_.ids, request_.query_index, request_.max_tokens, false, hooks_.on_progress});
        result_.select_ms = reader().select_ms;
        result_.encode_ms = reader().encode_ms;
        if (!is_ready) return false;
        if (hooks_.on_retrieval && !reader().retrieval.nodes.empty()) hooks_.on_retrieval(reader().retrieval);
        result_.n_prompt = static_cast<int>(ids_.size());
        stage_ = Stage::kPrefill;
        return false;
      }
      case Stage::kPrefill: {
        const double encoding_before = reader().encode_ms;
        double ms = 0;
        const bool is_read = read(s, ids_.size() == 1, ms);
        result_.encode_ms = reader().encode_ms;
        result_.prefill_ms += ms - (reader().encode_ms - encoding_before);
        result_.n_cached = reader().n_cached;
        if (!is_read) return false;
        stage_ = Stage::kDecode;
        return request_.max_tokens == 0 || choose(s, result_.prefill_ms);
      }
      case Stage::kDecode: return read(s, true, result_.decode_ms) && choose(s, result_.decode_ms);
    }
    return true;
  }

  bool can_share() const override { return stage_ == Stage::kDecode; }

  // The next token of several sessions in one pass.
  void step_shared(std::span<SharedSlice> slices) override {
    const auto begin = std::chrono::steady_clock::now();
    EngineStream s = engine().stream({});  // one token is short; an abort of one run must not end the others
    std::vector<Pass> passes;
    std::vector<SharedSlice*> joined;
    for (SharedSlice& slice : slices) {
      auto& job = static_cast<GenerateJob&>(*slice.job);  // no other job shares
      std::optional<Pass> pass;
      try {
        if (*job.cancel) throw Error(Code::kAborted, "aborted");
        pass = job.reader().join(s, job.ids_);
      } catch (...) {
        slice.error = std::current_exception();
        continue;
      }
      if (!pass) {
        Job::step_shared({&slice, 1});
        continue;
      }
      passes.push_back(std::move(*pass));
      joined.push_back(&slice);
    }
    std::span<const int32_t> sampled;
    try {
      if (passes.size() > 1) {
        std::vector<SampleRequest> requests;
        for (const SharedSlice* slice : joined) requests.push_back(static_cast<GenerateJob&>(*slice->job).request_next());
        reader().upper().run(s, join(passes));
        sampled = reader().upper().sample(s, requests);
        engine().n_shared_tokens += joined.size();
      }
    } catch (const Error&) {}  // each for itself then, so that an error ends whose it is
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    for (size_t i = 0; i < joined.size(); ++i) {
      if (sampled.empty()) {
        Job::step_shared({joined[i], 1});
        continue;
      }
      auto& job = static_cast<GenerateJob&>(*joined[i]->job);
      try {
        job.reader().joined();
        job.result_.decode_ms += ms;
        if (*job.cancel) throw Error(Code::kAborted, "aborted");
        joined[i]->is_done = job.take(sampled[i]);
      } catch (...) { joined[i]->error = std::current_exception(); }
    }
  }

 private:
  enum class Stage : uint8_t { kPrepare, kPrefill, kDecode };

  bool read(Stream& s, bool is_step, double& ms) {
    const Stopwatch watch(ms);
    return reader().read(s, ids_, request_.max_tokens == 0 ? Pass::Read::kNothing : Pass::Read::kLast, is_step);
  }

  // Samples the next token; true at the end of the run.
  bool choose(Stream& s, double& ms) {
    const Stopwatch watch(ms);
    return take(reader().sample(s, request_next()));
  }

  SampleRequest request_next() { return sampler_.next(ids_); }

  bool take(int32_t sampled) {
    const int32_t id = sampler_.chosen(sampled);
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

// Everything a conformance run compares.
class TraceJob : public SessionJob {
 public:
  TraceJob(std::shared_ptr<SessionState> session, TraceRequest request, CancelFlag cancel, std::function<void(const Error*, const Trace&)> on_done)
      : SessionJob(std::move(session), std::move(cancel)), request_(std::move(request)), on_done_(std::move(on_done)) {}

  void finish(const Error* error) override {
    if (on_done_) on_done_(error, trace_);
  }

  bool step() override {
    EngineStream s = engine().stream(cancel);
    const bool is_ready = prepare(s, {{}, request_.ids, request_.query_index, request_.max_new_tokens, true, {}});
    if (is_ready) run(s);
    trace_.multiply_adds += s.multiply_adds;
    return is_ready;
  }

 private:
  std::vector<float> logits(Stream& s, const std::vector<int32_t>& ids, Pass::Read wanted, bool is_step) {
    while (!reader().read(s, ids, wanted, is_step)) {}
    return reader().logits(s);
  }

  void run(Stream& s) {
    const auto vocabulary = static_cast<std::ptrdiff_t>(engine().upper.config.vocab_size);
    std::vector<int32_t> ids = request_.ids;
    reader().forget();
    trace_.logits = logits(s, ids, Pass::Read::kAll, ids.size() == 1);
    std::vector<float> last(trace_.logits.end() - vocabulary, trace_.logits.end());
    for (int i = 0; i < request_.max_new_tokens; ++i) {
      const auto best = static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin());
      trace_.greedy.push_back(best);
      trace_.greedy_logits.insert(trace_.greedy_logits.end(), last.begin(), last.end());
      const auto step = static_cast<size_t>(i);
      ids.push_back(step < request_.forced.size() ? request_.forced[step] : best);
      if (i + 1 == request_.max_new_tokens) break;
      if (request_.recompute) reader().forget();
      last = logits(s, ids, Pass::Read::kLast, !request_.recompute);
    }
    trace_.retrieval = reader().retrieval;
    reader().trace(s, trace_, std::max(1, request_.max_new_tokens));
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

std::unique_ptr<Reader> make_reader(Engine& engine, const MethodOptions& options) {
  const std::optional<Method> method = options.method ? options.method : engine.default_method();
  if (!method) return std::make_unique<FullReader>(engine, MethodOptions{});  // refuses documents, see set_documents
  if (!engine.has(*method)) {
    const std::string name = kMethodNames[static_cast<int>(*method)];
    throw Error(Code::kAdapterMismatch, "method " + name + " needs a " + name + " adapter; the model was loaded without one");
  }
  switch (*method) {
    case Method::kShared: return std::make_unique<SharedReader>(engine, options);
    case Method::kFocus: return std::make_unique<FocusReader>(engine, options);
    case Method::kParallel: return std::make_unique<ParallelReader>(engine, options);
    case Method::kStreaming: return std::make_unique<StreamingReader>(engine, options);
    case Method::kFull: return std::make_unique<FullReader>(engine, options);
  }
  throw Error(Code::kInternal, "an unknown method");
}

SessionState::SessionState(std::shared_ptr<Engine> engine_in, const MethodOptions& options)
    : engine(std::move(engine_in)), reader(make_reader(*engine, options)), has_method_(options.method || engine->default_method()) {}

void SessionState::set_documents(std::vector<std::shared_ptr<Document>> documents) {
  if (!documents.empty() && !has_method_)
    throw Error(Code::kInvalidArgument, "the model has no adapter: name a method that needs none (full, streaming, parallel) to read documents");
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

int64_t SessionState::room(size_t n_prompt) const { return reader->room(documents(), n_prompt); }

void SessionState::begin_generate(GenerateRequest request, GenerateHooks hooks) {
  check_prompt(*engine, request.ids, request.query_index);
  for (const auto& [id, bias] : request.sampler.logit_bias) engine->check_ids({id});
  if (request.max_tokens < 0) throw Error(Code::kInvalidArgument, "max_tokens is negative");
  room(request.ids.size());  // refuses documents without chunks
  engine->scheduler.post(std::make_unique<GenerateJob>(shared_from_this(), std::move(request), std::move(hooks)));
}

void SessionState::begin_score(ScoreRequest request, ScoreHooks hooks) {
  check_prompt(*engine, request.ids, request.query_index);
  if (request.targets.empty()) throw Error(Code::kInvalidArgument, "there is no token to score");
  engine->check_ids(request.targets);
  room(request.ids.size());
  engine->scheduler.post(make_score_job(shared_from_this(), std::move(request), std::move(hooks)));
}

void SessionState::begin_trace(TraceRequest request, CancelFlag cancel, std::function<void(const Error*, const Trace&)> on_done) {
  check_prompt(*engine, request.ids, request.query_index);
  engine->check_ids(request.forced);
  room(request.ids.size());
  engine->scheduler.post(std::make_unique<TraceJob>(shared_from_this(), std::move(request), std::move(cancel), std::move(on_done)));
}

}  // namespace banyan
