// The engine thread: turns, endings exactly once, aborts in time, objects dropped in any order.
#include <thread>

#include "drive.h"
#include "engine/scheduler.h"
#include "run.h"
#include "toy.h"

namespace banyan::test {

namespace {

// A job of `n_steps` slices that writes down what happens to it.
class CountedJob : public Job {
 public:
  struct Log {
    std::atomic<int> n_steps = 0, n_finished = 0, n_destroyed = 0;
    std::optional<Code> code;
    std::promise<void> finished, destroyed;
  };
  CountedJob(std::shared_ptr<Log> log, int n_steps, CancelFlag cancel = nullptr, std::function<void(int)> on_step = {})
      : Job(std::move(cancel)), log_(std::move(log)), n_steps_(n_steps), on_step_(std::move(on_step)) {}
  ~CountedJob() override {
    ++log_->n_destroyed;
    log_->destroyed.set_value();
  }
  bool step() override {
    const int n = ++log_->n_steps;
    if (on_step_) on_step_(n);
    return n == n_steps_;
  }
  void finish(const Error* error) override {
    if (error != nullptr) log_->code = error->code;
    if (++log_->n_finished == 1) log_->finished.set_value();
  }

 private:
  const std::shared_ptr<Log> log_;
  const int n_steps_;
  const std::function<void(int)> on_step_;
};

using Log = CountedJob::Log;

constexpr int kForever = 1 << 30;

// Large enough that a pass takes seconds, and weights that cost nothing to make: zeros but for the embedding.
std::shared_ptr<Model> large_model() {
  ToySpec spec;
  spec.upper = {4, 512, 1376, 8, 8, 64, 10000, "llama", 0, false};
  spec.vocab = 2000;
  spec.n_injected = 3;
  spec.chunk_size = 1024;
  spec.last_p = "32";
  spec.seed = 40;
  return load_toy(Toy(spec));
}

constexpr double kAbortMs = kIsSanitized ? 3000 : 100;

// The shortest of a few attempts: other work on the machine may delay one.
template <class Attempt> double shortest(Attempt&& attempt) {
  double best = 1e9;
  for (int i = 0; i < 4 && best > kAbortMs; ++i) best = std::min(best, attempt());
  return best;
}

}  // namespace

TEST(scheduler_turns) {
  Run run;
  Scheduler scheduler;
  // two jobs posted from within a third, so that both wait when it ends: strictly by turns
  std::vector<int> order;
  const auto a = std::make_shared<Log>(), b = std::make_shared<Log>(), starter = std::make_shared<Log>();
  scheduler.post(std::make_unique<CountedJob>(starter, 1, nullptr, [&](int) {
    scheduler.post(std::make_unique<CountedJob>(a, 50, nullptr, [&](int) { order.push_back(0); }));
    scheduler.post(std::make_unique<CountedJob>(b, 50, nullptr, [&](int) { order.push_back(1); }));
  }));
  a->finished.get_future().wait();
  b->finished.get_future().wait();
  bool is_fair = order.size() == 100;
  for (size_t i = 0; i < order.size(); ++i) is_fair = is_fair && order[i] == static_cast<int>(i % 2);
  run.check(is_fair, "two jobs take turns");
  run.check(!a->code && !b->code && a->n_finished == 1 && b->n_finished == 1, "both succeed, once");
}

TEST(scheduler_errors) {
  Run run;
  Scheduler scheduler;
  const auto post = [&](auto body) {
    const auto log = std::make_shared<Log>();
    scheduler.post(std::make_unique<CountedJob>(log, kForever, nullptr, body));
    log->destroyed.get_future().wait();
    run.equal(log->n_finished.load(), 1, "finished once");
    return log->code;
  };
  run.check(post([](int n) {
    if (n == 3) throw Error(Code::kIo, "x");
  }) == Code::kIo,
      "an error keeps its code");
  run.check(post([](int) { throw std::bad_alloc(); }) == Code::kOutOfMemory, "out of memory");
  run.check(post([](int) { throw std::runtime_error("x"); }) == Code::kInternal, "anything else is a bug");
  const auto cancel = std::make_shared<std::atomic<bool>>(true);
  const auto log = std::make_shared<Log>();
  scheduler.post(std::make_unique<CountedJob>(log, 5, cancel));
  log->finished.get_future().wait();
  run.check(log->code == Code::kAborted && log->n_steps == 0, "a job cancelled before it began takes no step");
}

TEST(scheduler_close) {
  Run run;
  for (int round = 0; round < 20; ++round) {
    std::vector<std::shared_ptr<Log>> logs;
    const auto started = std::make_shared<std::promise<void>>();
    {
      Scheduler scheduler;
      for (int i = 0; i < 5; ++i) {
        logs.push_back(std::make_shared<Log>());
        const auto cancel = std::make_shared<std::atomic<bool>>(false);
        scheduler.post(std::make_unique<CountedJob>(logs.back(), kForever, cancel, [=](int n) {
          if (i == 0 && n == 1) started->set_value();
          if (round % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
        }));
      }
      started->get_future().wait();
      if (round % 3 == 0) scheduler.close();
      if (round % 3 == 1) {  // closed twice at once, and posted to meanwhile
        std::thread other([&] {
          logs.push_back(std::make_shared<Log>());
          scheduler.post(std::make_unique<CountedJob>(logs.back(), kForever));
        });
        other.join();
        scheduler.close();
        scheduler.close();
      }
      if (round % 3 != 2) {
        const auto late = std::make_shared<Log>();
        scheduler.post(std::make_unique<CountedJob>(late, 5));
        run.check(late->n_finished == 1 && late->code == Code::kDisposed && late->n_steps == 0, "posted after closing: ended at once");
      }
    }
    for (const auto& log : logs)
      run.check(log->n_finished == 1 && log->n_destroyed == 1 && log->code == Code::kDisposed, "ended with disposed, exactly once");
  }
}

// A running job's slice is cut short by close(): its flag is set.
TEST(scheduler_close_interrupts) {
  Run run;
  Scheduler scheduler;
  const auto log = std::make_shared<Log>();
  const auto cancel = std::make_shared<std::atomic<bool>>(false);
  const auto started = std::make_shared<std::promise<void>>();
  scheduler.post(std::make_unique<CountedJob>(log, kForever, cancel, [=](int) {
    started->set_value();
    while (!*cancel) std::this_thread::yield();
    throw Error(Code::kAborted, "aborted");
  }));
  started->get_future().wait();
  scheduler.close();
  run.check(log->code == Code::kDisposed && log->n_finished == 1, "disposed, not aborted");
}

// The last reference to the scheduler's owner goes on the engine thread itself.
TEST(scheduler_dropped_by_its_own_thread) {
  Run run;
  for (int round = 0; round < 20; ++round) {
    struct Owner {
      Scheduler scheduler;
    };
    auto owner = std::make_shared<Owner>();
    const auto log = std::make_shared<Log>();
    const auto gone = std::make_shared<std::promise<void>>();
    const auto go = std::make_shared<std::promise<void>>();
    owner->scheduler.post(std::make_unique<CountedJob>(log, 1, nullptr, [hold = std::make_shared<std::shared_ptr<Owner>>(owner), go, gone](int) {
      go->get_future().wait();
      hold->reset();
      gone->set_value();
    }));
    owner.reset();
    go->set_value();
    gone->get_future().wait();
    log->destroyed.get_future().wait();
    run.check(log->n_finished == 1, "the job ends once");
  }
}

TEST(model_dropped_in_any_order) {
  Run run;
  ToySpec spec;
  spec.seed = 41;
  const Toy toy(spec);
  for (int order = 0; order < 12; ++order) {
    auto model = load_toy(toy);
    auto document = model->create_document({});
    append(*document, text_of(50, spec.vocab, 1));
    auto session = model->create_session();
    session->set_documents({document});
    BegunGenerate generating;
    Begun appending;
    GenerateRequest request;
    request.ids = text_of(10, spec.vocab, 2);
    request.max_tokens = 40;
    session->begin_generate(request, generating.generate_hooks());
    document->begin_append(text_of(3000, spec.vocab, 3), appending.hooks());
    for (int i = 0; i < 3; ++i) {
      switch ((order + i * (order < 6 ? 1 : 2)) % 3) {
        case 0: document.reset(); break;
        case 1: session.reset(); break;
        default: model.reset(); break;
      }
    }
    // the model's owner closes it when it goes; jobs then end as disposed, or had ended before
    const Generated got = generating.finish();
    const Ending appended = appending.wait();
    run.check(got.ending.is_ok() || got.ending.code == Code::kDisposed, "the run ends");
    run.check(appended.is_ok() || appended.code == Code::kDisposed, "the append ends");
    run.check(*generating.n_done == 1 && *appending.n_done == 1, "each exactly once");
  }
  // the last reference goes in a hook, on the engine thread
  for (int round = 0; round < 5; ++round) {
    auto model = load_toy(toy);
    auto document = model->create_document({});
    const auto begun = std::make_shared<Begun>();
    JobHooks hooks;
    auto hold = std::make_shared<std::shared_ptr<Model>>(model);
    hooks.on_done = [hold, begun](const Error* error) {
      hold->reset();
      begun->end(error);
    };
    document->begin_append(text_of(100, spec.vocab, 3), std::move(hooks));
    document.reset();
    model.reset();
    const Ending ending = begun->wait();
    run.check(ending.is_ok() || ending.code == Code::kDisposed, "ended");
  }
}

TEST(model_closed) {
  Run run;
  ToySpec spec;
  spec.seed = 42;
  const auto model = load_toy(Toy(spec));
  const auto document = model->create_document({});
  append(*document, text_of(50, spec.vocab, 1));
  std::vector<std::shared_ptr<Session>> sessions;
  std::vector<BegunGenerate> generating(6);
  for (auto& begun : generating) {
    sessions.push_back(model->create_session());
    sessions.back()->set_documents({document});
    GenerateRequest request;
    request.ids = text_of(10, spec.vocab, 2);
    request.max_tokens = 1000000;
    sessions.back()->begin_generate(request, begun.generate_hooks());
  }
  Begun appending;
  document->begin_append(text_of(1000000, spec.vocab, 3), appending.hooks());
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  model->close();
  for (auto& begun : generating) {
    run.check(begun.finish().ending.code == Code::kDisposed, "a run ends as disposed");
    run.equal(begun.n_done->load(), 1, "on_done once");
  }
  run.check(appending.wait().code == Code::kDisposed && *appending.n_done == 1, "an append ends as disposed");
  model->close();
  run.check(try_append(*document, {1}).code == Code::kDisposed, "after closing");
  std::shared_ptr<Document> none;
  run.check(try_open(*model, "x", &none).code == Code::kDisposed, "opening after closing");
  const auto session = model->create_session();
  GenerateRequest request;
  request.ids = {1};
  run.check(generate(*session, request).ending.code == Code::kDisposed, "a run after closing");
  run.equal(document->tokens(0, 50).size(), size_t{50}, "what is known can still be read");
}

// A chat goes on while a long text is compressed.
TEST(model_fair) {
  Run run;
  ToySpec spec;
  spec.upper.dim = 64;
  spec.upper.ffn_dim = 172;
  spec.upper.head_dim = 16;
  spec.chunk_size = 1024;
  spec.last_p = "32";
  spec.seed = 43;
  const auto model = load_toy(Toy(spec));
  const auto document = model->create_document({});
  Begun appending;
  std::atomic<int> n_batches = 0;
  document->begin_append(text_of(400 * 1024, spec.vocab, 1), appending.hooks([&](uint64_t, uint64_t) { ++n_batches; }));
  while (n_batches == 0) std::this_thread::yield();
  const auto session = model->create_session();
  GenerateRequest request;
  request.ids = text_of(10, spec.vocab, 2);
  request.max_tokens = 30;
  std::vector<int> batches_at_token;  // counted on the engine thread, so that the speed of this thread does not matter
  BegunGenerate generating;
  session->begin_generate(std::move(request), generating.generate_hooks([&](int32_t) { batches_at_token.push_back(n_batches); }));
  const Generated got = generating.finish();
  const bool is_still_running = *appending.n_done == 0;
  run.equal(got.ids.size(), size_t{30}, "tokens");
  run.check(is_still_running, "the run ended while the append was still going on");
  const int n_meanwhile = batches_at_token.back() - batches_at_token.front();
  run.check(n_meanwhile <= 29, "one batch a token: " + std::to_string(n_meanwhile) + " batches for 29 tokens");
  *appending.cancel = true;
  run.check(appending.wait().code == Code::kAborted, "aborted");
  run.equal(document->info().n_tokens, int64_t{0}, "an aborted append adds nothing");
}

// Within 100 ms, wherever the work stands: vectors, encoding, prefill, decoding, a trace.
TEST(abort_in_time) {
  Run run;
  const auto model = large_model();
  const auto time_abort = [&](const Begun& begun, int delay_ms, const char* what) {
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
    const bool was_running = *begun.n_done == 0;
    const Stopwatch watch;
    *begun.cancel = true;
    const Ending ending = begun.wait();
    const double ms = watch.ms();
    if (was_running) run.check(ending.code == Code::kAborted, std::string(what) + ": aborted");
    run.check(*begun.n_done == 1, std::string(what) + ": ended once");
    return was_running ? ms : 1e9;
  };
  const auto judge = [&](double ms, const char* what) {
    run.check(ms < kAbortMs, std::string(what) + ": " + std::to_string(ms) + " ms until the abort");
    std::printf("  abort_in_time: %-10s %.1f ms\n", what, ms);
  };

  judge(shortest([&] {
    const auto document = model->create_document({});
    Begun begun;
    document->begin_append(text_of(300 * 1024, 2000, 1), begun.hooks());
    return time_abort(begun, 60, "vectors");
  }),
      "vectors");

  const auto document = model->create_document({});
  append(*document, text_of(12 * 1024, 2000, 1));
  judge(shortest([&] {
    Begun begun;
    document->begin_complete(true, begun.hooks());
    return time_abort(begun, 40, "encoding");
  }),
      "encoding");

  judge(shortest([&] {
    const auto session = model->create_session();
    BegunGenerate begun;
    GenerateRequest request;
    request.ids = text_of(6000, 2000, 2);
    request.max_tokens = 1;
    session->begin_generate(request, begun.generate_hooks());
    return time_abort(begun, 60, "prefill");
  }),
      "prefill");

  judge(shortest([&] {
    const auto session = model->create_session();
    BegunGenerate begun;
    GenerateRequest request;
    request.ids = text_of(6, 2000, 2);
    request.max_tokens = 100000;
    session->begin_generate(request, begun.generate_hooks());
    return time_abort(begun, 60, "decoding");
  }),
      "decoding");

  judge(shortest([&] {
    const auto session = model->create_session();
    Begun begun;
    TraceRequest request;
    request.ids = text_of(6000, 2000, 2);
    session->begin_trace(request, begun.cancel, [begun](const Error* error, const Trace&) { begun.end(error); });
    return time_abort(begun, 60, "trace");
  }),
      "trace");

  judge(shortest([&] {  // closing ends what runs just as fast
    const auto other = large_model();
    const auto session = other->create_session();
    Begun begun;
    TraceRequest request;
    request.ids = text_of(6000, 2000, 2);
    session->begin_trace(request, begun.cancel, [begun](const Error* error, const Trace&) { begun.end(error); });
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    const Stopwatch watch;
    other->close();
    return *begun.n_done == 1 && begun.wait().code == Code::kDisposed ? watch.ms() : 1e9;
  }),
      "closing");
}

}  // namespace banyan::test
