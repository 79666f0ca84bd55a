// FocusLLM against the oracle: exact, approximated, in every place and type of chunks, and what a session keeps from run to run. Golden cases have
// the rest.
#include "methods.h"

namespace banyan::test {

namespace {

ToySpec spec_of(uint64_t seed, int bos_id = 1) {
  ToySpec spec;
  spec.upper.n_layers = 3;
  spec.bos_id = bos_id;
  spec.focus = FocusSpec{};
  spec.seed = seed;
  return spec;
}

Asking asking_of() {
  Asking asking;
  asking.options = options_of(Method::kFocus);
  return asking;
}

// The chunks of three documents of different chunk sizes: 16 + 16 + 8, 5 + 5 + 5 + 2, 9.
Asking several() {
  Asking asking = asking_of();
  asking.document_tokens = {40, 17, 9};
  asking.chunk_sizes = {16, 5, 100};
  return asking;
}

}  // namespace

TEST(focus_exact) {
  Run run;
  uint64_t seed = 4000;
  for (const int bos_id : {-1, 1, 13}) {
    for (const bool has_bos : {false, true}) {
      if (has_bos && bos_id < 0) continue;
      for (const int query_cap : {0, 1, 4, 100}) {
        for (const bool is_several : {false, true}) {
          Asking asking = is_several ? several() : asking_of();
          asking.has_bos = has_bos;
          asking.options.query_cap = query_cap;
          const DType kv_dtype = ++seed % 4 == 0 ? DType::kF16 : DType::kF32;
          compare(run, spec_of(seed, bos_id), asking,
              "bos " + std::to_string(bos_id) + (has_bos ? " in the prompt" : "") + ", cap " + std::to_string(query_cap) +
                  (is_several ? ", several chunk sizes" : ""),
              kv_dtype);
        }
      }
    }
  }
  // what stands in the query's first place is the begin-of-text token itself: none is put before it
  const Toy toy(spec_of(++seed));
  MethodQuestion question = question_of(toy, several());
  question.prompt[question.prompt.size() - 5] = 1;
  compare(run, toy, *load_method_toy(toy, Method::kFocus), question, "the query begins with bos");
  std::printf("  focus_exact: %d checks, worst error / tolerance %.2f\n", run.n_checks, run.worst);
}

TEST(focus_shapes) {
  Run run;
  uint64_t seed = 4100;
  struct Texts {
    std::vector<int> tokens, chunk_sizes;
    int n_prompt;
  };
  const Texts all[] = {{{}, {16}, 9}, {{}, {16}, 1}, {{0, 12, 0}, {7}, 3}, {{1}, {16}, 1}, {{16}, {16}, 20}, {{45}, {1}, 6},
      {{700, 90}, {256, 64}, 30}, {{90}, {16}, 300}, {{1300}, {650}, 12}, {{640, 30}, {2}, 9}, {{2300}, {1}, 5}};
  for (const Texts& texts : all) {
    Asking asking = asking_of();
    asking.document_tokens = texts.tokens;
    asking.chunk_sizes = texts.chunk_sizes;
    asking.n_prompt = texts.n_prompt;
    asking.n_steps = 3;
    compare(run, spec_of(++seed), asking, std::to_string(texts.tokens.size()) + " documents, prompt of " + std::to_string(texts.n_prompt));
  }
  for (int without = 0; without < 4; ++without) {  // projections that the adapter lacks are the plain ones
    ToySpec spec = spec_of(++seed);
    *spec.focus = {without != 0, without != 1, without != 2, without != 3, 16, 6};
    compare(run, spec, several(), "without projection " + std::to_string(without));
  }
  ToySpec heads = spec_of(++seed);
  heads.upper.n_heads = 6;
  heads.upper.n_kv_heads = 1;
  heads.upper.head_dim = 10;
  compare(run, heads, several(), "one kv head");
  for (const char* family : {"qwen2", "qwen3", "mistral"}) {  // a bias or head norm that the adapter lacks is the plain one
    ToySpec spec = spec_of(++seed);
    spec.upper.family = family;
    compare(run, spec, several(), family);
  }
  Asking one = several();
  one.n_steps = 0;
  compare(run, spec_of(++seed), one, "no answer");
  std::printf("  focus_shapes: %d checks, worst error / tolerance %.2f\n", run.n_checks, run.worst);
}

// Without documents: the plain model.
TEST(focus_without_documents) {
  Run run;
  const Toy toy(spec_of(4200));
  const auto model = load_method_toy(toy, Method::kFocus);
  Asking asking = asking_of();
  asking.document_tokens = {};
  const MethodQuestion question = question_of(toy, asking);
  MethodQuestion plain = question;
  plain.options = options_of(Method::kFull);
  plain.prompt.insert(plain.prompt.begin(), 1);
  const Trace a = trace_of(*model, question, {}), b = trace_of(*model, plain, {});
  run.check(a.logits == b.logits && a.greedy_logits == b.greedy_logits, "the plain model behind its begin-of-text token");
}

TEST(focus_places) {
  Run run;
  ToySpec spec = spec_of(4300);
  spec.upper.head_dim = 32;
  const Toy toy(spec);
  const MethodQuestion question = question_of(toy, several());
  const Expected exact = expect(toy, question);
  const TempDir directory, scratch;
  const LoadPaths paths = write_toy(toy, directory.path(), Layout::kFocus);
  std::vector<double> errors;
  for (const DType pool : {DType::kF32, DType::kF16, DType::kQ8_0}) {
    LoadOptions options = toy_options(paths);
    options.pool_dtype = pool;
    const auto model = Model::load(options);
    if (is_test_device_host()) options.kv_directory = scratch.path();
    const auto filed = Model::load(options);
    const std::string name = "pool " + std::to_string(static_cast<int>(pool));
    run.equal(static_cast<int>(model->info().pool_dtype), static_cast<int>(pool), name + ": its type");
    const Trace got = trace_of(*model, question, documents_of(*model, question));
    judge(run, got, expect(toy, question, DType::kF32, pool), spec.vocab, name);
    double error = 0;
    for (size_t i = 0; i < got.logits.size(); ++i) error = std::max(error, std::fabs(static_cast<double>(got.logits[i]) - exact.exact.logits[i]));
    errors.push_back(error);
    const Trace there = trace_of(*filed, question, documents_of(*filed, question));
    run.check(there.logits == got.logits && there.greedy_logits == got.greedy_logits && there.chunk_keys == got.chunk_keys,
        name + ": the same from a file");
#ifndef _WIN32
    run.check(scratch.names().empty(), name + ": the file has no name");
#endif
  }
  run.check(errors[0] < errors[1] && errors[1] < errors[2], "f32 is nearer than f16, f16 than 8 bits");
  std::printf("  focus_places: errors %.2g (f32), %.2g (f16), %.2g (8 bits)\n", errors[0], errors[1], errors[2]);
}

TEST(focus_pairs) {
  Run run;
  const Toy toy(spec_of(4400));
  const MethodQuestion question = question_of(toy, several());
  const Expected expected = expect(toy, question);
  const TempDir directory;
  for (const Method method : {Method::kFocus, Method::kParallel, Method::kStreaming, Method::kFull}) {
    MethodQuestion asked = question;
    asked.options.method = method;
    asked.options.window = method == Method::kStreaming ? 20 : 0;
    const auto gguf = Model::load(toy_options(write_gguf_toy(toy, directory.path(), Layout::kFocus)));
    compare(run, toy, *gguf, asked, std::string("GGUF, ") + kMethodNames[static_cast<int>(method)]);
  }
  MethodQuestion scaled = question;
  scaled.options = options_of(Method::kFull);
  scaled.options.rope_scaling = RopeScaling::kNtk;
  scaled.options.rope_factor = 2;
  compare(run, toy, *Model::load(toy_options(write_gguf_toy(toy, directory.path(), Layout::kFocus))), scaled, "GGUF, scaled positions");
  const Toy other = interleaved(toy);
  DirectReader reader(other, question.options);
  std::vector<std::shared_ptr<DocumentState>> documents;
  for (const OracleDocument& text : question.documents) documents.push_back(reader.document(text));
  judge_steps(run, reader.run(documents, question), expected, "in memory");
  judge_steps(run, reader.run(documents, question), expect(other, question), "the oracle's own pairs");
}

// Candidates that are computed more rarely, and only those most looked at.
TEST(focus_approximations) {
  Run run;
  uint64_t seed = 4500;
  int n_compared = 0;
  for (const int refresh_every : {1, 2, 3, 100}) {
    for (const int refresh_chunks : {0, 1, 3, 7, 8, 50}) {
      for (const DType kv_dtype : {DType::kF32, DType::kF16}) {
        Asking asking = several();
        asking.n_steps = 9;
        asking.options.refresh_every = refresh_every;
        asking.options.refresh_chunks = refresh_chunks;
        const std::string what = "every " + std::to_string(refresh_every) + ", " + std::to_string(refresh_chunks) + " chunks";
        const double needed = kv_dtype == DType::kF16 ? 5e-2 : 1e-3;  // sums over 12 heads
        Toy toy(spec_of(++seed));
        MethodQuestion question = question_of(toy, asking);
        while (MethodOracle<double>(toy).run(question).margin <= needed) {
          toy.~Toy();
          new (&toy) Toy(spec_of(++seed));
          question = question_of(toy, asking);
        }
        ++n_compared;
        compare(run, toy, *load_method_toy(toy, Method::kFocus, kv_dtype), question, what);
      }
    }
  }
  run.equal(n_compared, 48, "settings");
  std::printf("  focus_approximations: %d checks, worst error / tolerance %.2f\n", run.n_checks, run.worst);

  const auto model = load_method_toy(Toy(spec_of(++seed)), Method::kFocus);
  const auto refused = [&](int query_cap, int every, int chunks) {
    MethodOptions options = options_of(Method::kFocus);
    options.query_cap = query_cap;
    options.refresh_every = every;
    options.refresh_chunks = chunks;
    run.throws(
        Code::kInvalidArgument, [&] { model->create_session(options); }, "settings out of range");
  };
  refused(-1, 1, 0);
  refused(0, 0, 0);
  refused(0, -1, 0);
  refused(0, 1, -1);
}

TEST(focus_again) {
  Run run;
  uint64_t seed = 4600;
  for (const auto& [every, chunks] : {std::pair{1, 0}, {3, 0}, {2, 2}}) {
    const Toy toy(spec_of(++seed));
    Asking asking = several();
    asking.n_steps = 6;
    asking.options.refresh_every = every;
    asking.options.refresh_chunks = chunks;
    const MethodQuestion first = question_of(toy, asking);
    DirectReader reader(toy, asking.options);
    std::vector<std::shared_ptr<DocumentState>> documents;
    for (const OracleDocument& text : first.documents) documents.push_back(reader.document(text));
    const std::string name = "every " + std::to_string(every) + ", " + std::to_string(chunks) + " chunks, ";
    const auto ask = [&](const std::vector<std::shared_ptr<DocumentState>>& read, const MethodQuestion& question, const std::string& what) {
      const Expected expected = expect(toy, question);
      if (expected.exact.margin > 1e-3) judge_steps(run, reader.run(read, question), expected, name + what);
    };
    ask(documents, first, "first");
    ask(documents, first, "again");
    MethodQuestion longer = first;
    longer.prompt.insert(longer.prompt.end(), first.forced.begin(), first.forced.end());
    longer.forced.insert(longer.forced.end(), first.forced.begin(), first.forced.end());
    ask(documents, longer, "continued");
    MethodQuestion swapped = first;
    std::swap(swapped.documents[0], swapped.documents[2]);
    std::swap(documents[0], documents[2]);
    ask(documents, swapped, "documents in another order");
    MethodQuestion none = first;
    none.documents.clear();
    ask({}, none, "no documents");
    ask(documents, swapped, "documents again");
    for (int slices = 0; slices < 14; ++slices) {
      try {
        reader.run(documents, longer, slices);
      } catch (const Error& error) { run.check(error.code == Code::kAborted, error.what()); }
      ask(documents, swapped, "after a run aborted in slice " + std::to_string(slices));
    }
    append(*documents[1], {5, 6, 7, 8});  // 17 tokens in chunks of 5 become 21
    swapped.documents[1].ids.insert(swapped.documents[1].ids.end(), {5, 6, 7, 8});
    ask(documents, swapped, "a grown document");
  }
}

// The same through sessions: documents in pieces, runs that are aborted at a token, two sessions at once.
TEST(focus_sessions) {
  Run run;
  const Toy toy(spec_of(4700));
  const auto model = load_method_toy(toy, Method::kFocus);
  const MethodQuestion question = question_of(toy, several());
  const auto documents = documents_of(*model, question);
  const Expected expected = expect(toy, question);
  const auto pieces = model->create_document({16, Method::kFocus, {}});
  const Ids& ids = question.documents[0].ids;
  for (size_t at = 0; at < ids.size(); at += 7)
    append(*pieces, {ids.begin() + static_cast<std::ptrdiff_t>(at), ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), at + 7))});
  judge(run, trace_of(*model, question, {pieces, documents[1], documents[2]}), expected, toy.spec.vocab, "a document in pieces");
  const auto session = model->create_session(question.options), other = model->create_session(question.options);
  session->set_documents(documents);
  other->set_documents(documents);
  const Ids whole = answer(*session, question.prompt, 12).ids;
  run.check(answer(*other, question.prompt, 12).ids == whole, "two sessions");
  for (int n = 1; n < 6; ++n) {
    BegunGenerate begun;
    GenerateRequest request;
    request.ids = text_of(8 + n, toy.spec.vocab, static_cast<uint32_t>(n));
    request.max_tokens = 40;
    session->begin_generate(request, begun.generate_hooks([&, count = 0](int32_t) mutable { *begun.cancel = ++count == n; }));
    run.check(begun.finish().ending.code == Code::kAborted, "aborted at token " + std::to_string(n));
    run.check(answer(*session, question.prompt, 12).ids == whole, "a whole run after an aborted one");
  }
  judge(run, trace(*session, request_of(question)), expected, toy.spec.vocab, "traced after all that");
  BegunGenerate a, b;
  GenerateRequest request;
  request.ids = question.prompt;
  request.max_tokens = 12;
  session->begin_generate(request, a.generate_hooks());
  other->begin_generate(request, b.generate_hooks());
  run.check(a.finish().ids == whole && b.finish().ids == whole, "two sessions at once");
}

}  // namespace banyan::test
