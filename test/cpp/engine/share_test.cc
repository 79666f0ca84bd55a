// Sessions that generate at the same time share their passes, and nothing else.
#include <limits>
#include <thread>

#include "engine/session.h"
#include "drive.h"
#include "run.h"
#include "toy.h"

namespace banyan::test {

namespace {

struct Asking {
  MethodOptions method;
  std::shared_ptr<DocumentState> document;  // or none
  Ids prompt;
  std::shared_ptr<SessionState> session;
  Ids alone;
};

GenerateRequest request_of(const Ids& prompt, int n) {
  GenerateRequest request;
  request.ids = prompt;
  request.max_tokens = n;
  return request;
}

}  // namespace

TEST(sessions_share_passes) {
  Run run;
  for (const Semantics semantics : {Semantics::kPaper, Semantics::kReleased, Semantics::kNested}) {
    ToySpec spec;
    spec.seed = 61;
    spec.semantics = semantics;
    if (semantics == Semantics::kNested) spec.positions = Positions::kBanded;
    const Toy toy(spec);
    const auto engine = make_engine(toy);
    const auto document_of = [&](int n, uint32_t seed, Method method) {
      const auto document = std::make_shared<DocumentState>(engine, engine->tree, method, std::vector<uint8_t>());
      append(*document, text_of(n, spec.vocab, seed));
      return document;
    };
    std::vector<Asking> all;
    const auto add = [&](Method method, std::shared_ptr<DocumentState> document, uint32_t seed) {
      Asking asking{{}, std::move(document), text_of(5 + static_cast<int>(seed), spec.vocab, seed), nullptr, {}};
      asking.method.method = method;
      asking.method.n_sinks = 2;
      asking.method.window = 16;
      asking.session = std::make_shared<SessionState>(engine, asking.method);
      if (asking.document) asking.session->set_documents({asking.document});
      all.push_back(std::move(asking));
    };
    add(Method::kShared, document_of(70, 1, Method::kShared), 1);
    add(Method::kShared, document_of(33, 2, Method::kShared), 2);
    add(Method::kShared, nullptr, 3);
    add(Method::kFull, document_of(21, 3, Method::kFull), 4);
    add(Method::kParallel, document_of(50, 4, Method::kParallel), 5);
    add(Method::kStreaming, document_of(40, 5, Method::kStreaming), 6);  // takes its steps alone
    constexpr int kTokens = 60;
    for (Asking& asking : all) asking.alone = generate(*asking.session, request_of(asking.prompt, kTokens)).ids;
    run.equal(engine->n_shared_tokens.load(), uint64_t{0}, "alone nothing is shared");

    // One fails when it chooses, another is aborted on the way.
    const auto failing = std::make_shared<SessionState>(engine, MethodOptions{.method = Method::kFull});
    const auto leaving = std::make_shared<SessionState>(engine, MethodOptions{.method = Method::kFull});
    GenerateRequest banned = request_of(text_of(4, spec.vocab, 9), kTokens);
    for (int id = 0; id < spec.vocab; ++id) banned.sampler.logit_bias.emplace_back(id, -std::numeric_limits<float>::infinity());
    for (int round = 0; round < 3; ++round) {
      std::vector<BegunGenerate> begun(all.size());
      BegunGenerate failed, left;
      for (size_t i = 0; i < all.size(); ++i) all[i].session->begin_generate(request_of(all[i].prompt, kTokens), begun[i].generate_hooks());
      failing->begin_generate(banned, failed.generate_hooks());
      leaving->begin_generate(request_of(text_of(4, spec.vocab, 10), kTokens), left.generate_hooks([&, n = 0](int32_t) mutable {
        if (++n == 7) *left.cancel = true;
      }));
      for (size_t i = 0; i < all.size(); ++i) {
        const Generated got = begun[i].finish();
        run.check(got.ending.is_ok(), "a run among others");
        run.check(got.ids == all[i].alone, std::string(kMethodNames[static_cast<int>(*all[i].method.method)]) + ": as alone");
      }
      run.check(failed.finish().ending.code == Code::kInternal, "the failing one fails alone");
      const Generated gone = left.finish();
      run.check(gone.ending.code == Code::kAborted, "the aborted one ends");
      run.equal(gone.ids.size(), size_t{7}, "with the tokens it had");
    }
    run.check(engine->n_shared_tokens > 0, "tokens were shared");
  }
}

}  // namespace banyan::test
