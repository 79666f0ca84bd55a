// StreamingLLM against the oracle: sinks and window of every size, texts many times longer, what a session keeps from run to run.
#include "methods.h"

namespace banyan::test {

namespace {

ToySpec spec_of(uint64_t seed, int bos_id = 1) {
  ToySpec spec;
  spec.upper.n_layers = 2;
  spec.bos_id = bos_id;
  spec.window = 64;
  spec.seed = seed;
  return spec;
}

Asking asking_of(int n_sinks, int64_t window) {
  Asking asking;
  asking.options = options_of(Method::kStreaming);
  asking.options.n_sinks = n_sinks;
  asking.options.window = window;
  return asking;
}

}  // namespace

TEST(streaming_windows) {
  Run run;
  uint64_t seed = 2000;
  for (const int64_t window : {1, 2, 16, 33, 64, 0}) {
    for (const int n_sinks : {0, 1, 4, 15, 63}) {
      if (n_sinks >= (window == 0 ? 64 : window)) continue;
      for (const std::vector<int>& documents : {std::vector<int>{}, {3}, {40, 30}, {250, 1, 0, 300}}) {
        Asking asking = asking_of(n_sinks, window);
        asking.document_tokens = documents;
        asking.n_prompt = documents.empty() ? 90 : 9;
        asking.n_steps = 6;
        asking.has_bos = ++seed % 2 == 0;
        compare(run, spec_of(seed, asking.has_bos ? 1 : -1), asking,
            "window " + std::to_string(window) + ", " + std::to_string(n_sinks) + " sinks, " + std::to_string(documents.size()) + " documents",
            seed % 5 == 0 ? DType::kF16 : DType::kF32);
      }
    }
  }
  std::printf("  streaming_windows: %d checks, worst error / tolerance %.2f\n", run.n_checks, run.worst);
}

// The prompt ends with the first token of a slice, with its last, and around the places where the cache moves.
TEST(streaming_lengths) {
  Run run;
  const Toy toy(spec_of(2101));
  const auto model = load_method_toy(toy, Method::kStreaming);
  for (const int n : {1, 2, 3, 4, 5, 15, 16, 17, 255, 256, 257, 271, 272, 273, 274, 511, 512, 513, 530, 769}) {
    Asking asking = asking_of(3, 16);
    asking.document_tokens = {};
    asking.n_prompt = n;
    asking.n_steps = 3;
    compare(run, toy, *model, question_of(toy, asking), std::to_string(n) + " tokens");
  }
  Asking asking = asking_of(3, 16);
  asking.document_tokens = {};
  asking.n_prompt = 5;
  asking.n_steps = 300;
  const MethodQuestion question = question_of(toy, asking);
  judge(run, trace_of(*model, question, {}), expect(toy, question), toy.spec.vocab, "300 steps", true);
}

TEST(streaming_again) {
  Run run;
  for (const auto& [n_sinks, window] : {std::pair{4, 24}, {0, 16}, {2, 64}}) {
    const Toy toy(spec_of(2200 + static_cast<uint64_t>(window)));
    Asking asking = asking_of(n_sinks, window);
    asking.document_tokens = {};
    asking.n_prompt = 620;
    asking.n_steps = 9;
    const MethodQuestion whole = question_of(toy, asking);
    DirectReader reader(toy, asking.options);
    const std::string name = std::to_string(n_sinks) + " sinks in " + std::to_string(window);
    const auto ask = [&](const MethodQuestion& question, const std::string& what) {
      judge_steps(run, reader.run({}, question), expect(toy, question), name + ", " + what);
    };
    const auto begin_of = [&](int n) {
      MethodQuestion part = whole;
      part.prompt.resize(static_cast<size_t>(n));
      return part;
    };
    const auto diverging = [&](int at) {
      MethodQuestion other = whole;
      for (auto i = static_cast<size_t>(at); i < other.prompt.size(); ++i) other.prompt[i] = (other.prompt[i] * 7 + 3) % toy.spec.vocab;
      return other;
    };
    ask(begin_of(10), "10 tokens");
    ask(begin_of(11), "one more");
    ask(begin_of(300), "300 tokens");
    run.equal(reader.reader().n_cached, 11, name + ": cached of what was extended");
    ask(begin_of(310), "310 tokens");
    run.equal(reader.reader().n_cached, 300, name + ": cached after sliding");
    ask(whole, "620 tokens");
    for (const int at : {619, 612, 600, 580, 400, 100, 5, 1, 0}) {
      ask(diverging(at), "another text from token " + std::to_string(at));
      ask(whole, "and back");
    }
    ask(begin_of(40), "40 tokens after 620");
    for (int slices = 0; slices < 5; ++slices) {
      try {
        reader.run({}, diverging(30 * slices), slices);
        run.check(false, name + ": nothing was aborted");
      } catch (const Error& error) { run.check(error.code == Code::kAborted, error.what()); }
      ask(slices % 2 == 0 ? whole : diverging(30 * slices), "after a run aborted in slice " + std::to_string(slices));
    }
  }
}

// After 300 tokens the cache has moved once. Another text from any token on: what is still there serves, what is not is read again.
TEST(streaming_diverging) {
  Run run;
  const Toy toy(spec_of(2400));
  Asking asking = asking_of(3, 16);
  asking.document_tokens = {};
  asking.n_prompt = 300;
  asking.n_steps = 1;
  const MethodQuestion whole = question_of(toy, asking);
  DirectReader reader(toy, asking.options);
  int n_reused = 0;
  for (size_t at = 230; at < 300; ++at) {
    MethodQuestion other = whole, longer = whole;
    for (size_t i = at; i < other.prompt.size(); ++i) other.prompt[i] = (other.prompt[i] * 7 + 3) % toy.spec.vocab;
    longer.prompt.resize(at);  // so many are read, then one is generated
    reader.reader().forget();
    reader.run({}, whole);
    judge_steps(run, reader.run({}, other), expect(toy, other), "another text from token " + std::to_string(at));
    n_reused += reader.reader().n_cached > 0;
    judge_steps(run, reader.run({}, longer), expect(toy, longer), "its beginning");
  }
  run.check(n_reused > 30 && n_reused < 70, "some of the cache serves, not all: " + std::to_string(n_reused) + " of 70");
}

TEST(streaming_errors) {
  Run run;
  const auto model = load_method_toy(Toy(spec_of(2300)), Method::kStreaming);
  for (const auto& [n_sinks, window] : {std::pair{4, 65}, {4, 4}, {4, 3}, {0, -1}, {64, 64}, {64, 0}, {-1, 16}}) {
    run.throws(
        Code::kInvalidArgument, [&] { model->create_session(asking_of(n_sinks, window).options); },
        std::to_string(n_sinks) + " sinks, window " + std::to_string(window));
  }
  for (const auto& [n_sinks, window] : {std::pair{4, 5}, {0, 1}, {63, 64}, {63, 0}})
    run.check(model->create_session(asking_of(n_sinks, window).options) != nullptr, "sound settings");
}

}  // namespace banyan::test
