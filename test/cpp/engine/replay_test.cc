// Steps of decoding that a CUDA device starts as graphs, on a real one or the emulated one: the same tokens as without.
#include <atomic>
#include <cstdlib>
#include <utility>

#include "engine/session.h"
#include "drive.h"
#include "run.h"
#include "toy.h"

namespace banyan::test {

namespace {

constexpr int kTokens = 24;

void set_environment(const char* name, const char* value) {
#ifdef _WIN32
  _putenv_s(name, value);
#else
  setenv(name, value, 1);
#endif
}

// An emulated one is small, so that work is cut into few pieces: emulation is slow.
std::unique_ptr<Device> cuda_device(const char* graphs) {
  set_environment("BANYAN_CUDA_GRAPH", graphs);
  set_environment("BANYAN_EMULATED_SMS", "4");
  auto device = make_cuda_device(0);
  set_environment("BANYAN_CUDA_GRAPH", "");
  set_environment("BANYAN_EMULATED_SMS", "");
  if (device == nullptr) skip(cuda_obstacle(0));
  return device;
}

// A model, a session of each kind of step, and what they answer.
struct Answers {
  std::shared_ptr<Engine> engine;
  std::vector<std::shared_ptr<SessionState>> sessions;
  std::vector<Ids> ids;

  Answers(const Toy& toy, const char* graphs) : engine(make_engine(toy, DType::kF16, cuda_device(graphs))) {
    for (const Method method : {Method::kShared, Method::kStreaming, Method::kParallel}) {
      const auto document = std::make_shared<DocumentState>(engine, engine->tree, method, std::vector<uint8_t>());
      append(*document, text_of(36, toy.spec.vocab, 3));
      MethodOptions options;
      options.method = method;
      options.n_sinks = 2;
      options.window = 16;
      sessions.push_back(std::make_shared<SessionState>(engine, options));
      sessions.back()->set_documents({document});
    }
  }

  GenerateRequest request(size_t session) const {
    GenerateRequest request;
    request.ids = text_of(6, engine->upper.config.vocab_size, static_cast<uint32_t>(session) + 5);
    request.max_tokens = kTokens;
    return request;
  }
  // One session's answer; its graphs are counted.
  uint64_t alone(size_t session) {
    const uint64_t before = engine->device->n_replayed();
    ids.push_back(generate(*sessions[session], request(session)).ids);
    return engine->device->n_replayed() - before;
  }
  // Sessions that take turns, token by token, or share passes where their methods can.
  void together(const std::vector<size_t>& which) {
    std::vector<BegunGenerate> begun(which.size());
    for (size_t i = 0; i < which.size(); ++i) sessions[which[i]]->begin_generate(request(which[i]), begun[i].generate_hooks());
    for (const BegunGenerate& each : begun) ids.push_back(each.finish().ids);
  }
};

// A device that tells of a failure when it is waited for, once asked to.
class Telling : public Device {
 public:
  explicit Telling(std::unique_ptr<Device> device) : device_(std::move(device)) {}
  std::atomic<bool> tells = false;

  std::string name() const override { return device_->name(); }
  bool is_host() const override { return device_->is_host(); }
  BatchRows batch_rows() const override { return device_->batch_rows(); }
  uint64_t available_bytes() const override { return device_->available_bytes(); }
  Stream stream() override { return device_->stream(); }
  void* allocate(size_t n_bytes) override { return device_->allocate(n_bytes); }
  void release(void* memory) noexcept override { device_->release(memory); }
  void to_device(void* to, const void* from, size_t n_bytes) override { device_->to_device(to, from, n_bytes); }
  void to_host(void* to, const void* from, size_t n_bytes) override {
    tell();
    device_->to_host(to, from, n_bytes);
  }
  void sync() override {
    tell();
    device_->sync();
  }

 private:
  void tell() {
    if (tells.exchange(false)) throw Error(Code::kOutOfMemory, "no working memory");
  }
  const std::unique_ptr<Device> device_;
};

}  // namespace

TEST(replayed_steps) {
  ToySpec spec;
  spec.seed = 71;
  spec.upper.n_layers = 2;
  spec.n_injected = 1;
  const Toy toy(spec);
  Run run;
  Answers with(toy, ""), without(toy, "0");
  for (size_t i = 0; i < with.sessions.size(); ++i) {
    // Of each token there are a pass and its logits, and of each of these the first one is not a graph.
    run.check(with.alone(i) >= 2 * (kTokens - 2), "graphs are started");
    without.alone(i);
    run.equal(with.ids.back().size(), size_t{kTokens}, "tokens");
  }
  with.together({2, 0, 1});
  without.together({2, 0, 1});
  run.check(with.ids == without.ids, "the same tokens with graphs and without");
  run.equal(without.engine->device->n_replayed(), uint64_t{0}, "graphs with BANYAN_CUDA_GRAPH=0");
}

// Where the first to wait is logits(), what the pass before it was to leave in the cache counts as computed already. It must not.
TEST(failure_told_late) {
  ToySpec spec;
  spec.seed = 72;
  const Toy toy(spec);
  Run run;
  auto device = std::make_unique<Telling>(make_test_device());
  std::atomic<bool>& tells = device->tells;
  const auto engine = make_engine(toy, DType::kF32, std::move(device));
  MethodOptions options;
  options.method = Method::kFull;
  const auto session = std::make_shared<SessionState>(engine, options);
  GenerateRequest request;
  request.ids = text_of(9, spec.vocab, 1);
  request.max_tokens = 12;
  const Generated expected = generate(*session, request);
  run.check(expected.ending.is_ok(), "a run");
  for (const int n_before : {0, 5}) {  // in the prefill, in a step
    BegunGenerate begun;
    if (n_before == 0) tells = true;
    session->begin_generate(request, begun.generate_hooks([&, n = 0](int32_t) mutable { tells = ++n == n_before; }));
    const Generated failed = begun.finish();
    run.check(failed.ending.code == Code::kOutOfMemory, "the failure ends the run");
    run.equal(failed.ids.size(), static_cast<size_t>(n_before), "tokens before it");
    const Generated again = generate(*session, request);
    run.check(again.ending.is_ok() && again.ids == expected.ids, "the same again");
    run.equal(again.result.n_cached, 0, "nothing of a failed pass is used");
    run.equal(generate(*session, request).result.n_cached, 8, "of a good one all is");
  }
}

}  // namespace banyan::test
