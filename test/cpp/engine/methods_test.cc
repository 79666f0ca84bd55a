// Models, documents and sessions of several methods together: who may read what, defaults, and what is refused where.
#include <tuple>

#include "methods.h"

namespace banyan::test {

namespace {

ToySpec spec_of(uint64_t seed) {
  ToySpec spec;
  spec.upper.n_layers = 3;
  spec.bos_id = 1;
  spec.focus = FocusSpec{};
  spec.focus->chunk_size = 11;
  spec.focus->query_cap = 6;
  spec.seed = seed;
  return spec;
}

constexpr Method kMethods[] = {Method::kShared, Method::kFocus, Method::kParallel, Method::kStreaming, Method::kFull};
const char* name_of(Method method) { return kMethodNames[static_cast<int>(method)]; }

std::shared_ptr<Model> load(const Toy& toy, Layout layout, const std::function<void(LoadOptions&)>& change = {}) {
  const TempDir directory;
  LoadOptions options = toy_options(write_toy(toy, directory.path(), layout));
  if (change) change(options);
  return Model::load(options);
}

}  // namespace

// Whatever a document was compressed for, sessions of every method read it, and say what they say of a document of their own.
TEST(methods_mixed) {
  Run run;
  const Toy toy(spec_of(6000));
  const auto model = load(toy, Layout::kBoth);
  Asking asking;
  asking.document_tokens = {40, 9};
  std::vector<std::optional<Method>> compressed(std::begin(kMethods), std::end(kMethods));
  compressed.push_back({});
  for (const std::optional<Method>& made : compressed) {
    std::vector<std::shared_ptr<Document>> documents;
    asking.options.method = Method::kFull;
    const MethodQuestion texts = question_of(toy, asking);
    for (const OracleDocument& text : texts.documents) {
      documents.push_back(model->create_document({text.chunk_size, made, {}}));
      append(*documents.back(), text.ids);
    }
    for (const Method asked : kMethods) {
      const std::string name = std::string(made ? name_of(*made) : "default") + " asked by " + name_of(asked);
      asking.options.method = asked;
      MethodQuestion question = question_of(toy, asking);
      if (asked == Method::kStreaming) question.options.window = 20;
      const Trace got = trace_of(*model, question, documents);
      if (asked != Method::kShared) {
        judge(run, got, expect(toy, question), toy.spec.vocab, name, asked == Method::kStreaming);
        continue;
      }
      OracleResult exact = Oracle<double>(toy).run(question.documents, question.prompt, -1, 0, false);
      OracleResult naive = Oracle<float>(toy).run(question.documents, question.prompt, -1, 0, false);
      if (run.check(exact.margin > 2e-4, "the halves are too alike, take another seed"))
        run.near(got.logits, exact.logits, naive.logits, 2e-4, name + ": logits");
    }
  }
  // sessions of all methods side by side, on the same documents
  asking.options.method = {};
  const MethodQuestion question = question_of(toy, asking);
  const auto documents = documents_of(*model, question);
  std::vector<std::shared_ptr<Session>> sessions;
  std::vector<Ids> alone;
  for (const Method method : kMethods) {
    sessions.push_back(model->create_session(options_of(method)));
    sessions.back()->set_documents(documents);
    alone.push_back(answer(*sessions.back(), question.prompt, 10).ids);
  }
  std::vector<BegunGenerate> begun(sessions.size());
  GenerateRequest request;
  request.ids = question.prompt;
  request.max_tokens = 10;
  for (size_t i = 0; i < sessions.size(); ++i) sessions[i]->begin_generate(request, begun[i].generate_hooks());
  for (size_t i = 0; i < sessions.size(); ++i) run.check(begun[i].finish().ids == alone[i], std::string("side by side: ") + name_of(kMethods[i]));
}

TEST(methods_defaults) {
  Run run;
  const Toy toy(spec_of(6100));
  const auto method_of = [](const Model& model) { return model.info().method; };
  run.check(method_of(*load(toy, Layout::kBoth)) == Method::kShared, "both adapters: SharedLLM");
  run.check(method_of(*load(toy, Layout::kAdapter)) == Method::kShared, "its adapter: SharedLLM");
  run.check(method_of(*load(toy, Layout::kFocus)) == Method::kFocus, "its adapter: FocusLLM");
  run.check(!method_of(*load(toy, Layout::kPlain)), "no adapter: none");
  const auto focus = load(toy, Layout::kFocus), shared = load(toy, Layout::kAdapter);
  run.check(focus->info().focus.is_present && focus->info().focus.chunk_size == 11 && focus->info().focus.query_cap == 6, "the adapter's settings");
  run.check(!shared->info().focus.is_present, "no FocusLLM");
  const auto document = focus->create_document({});
  append(*document, text_of(30, toy.spec.vocab, 1));
  run.equal(document->info().chunk_size, 11, "the adapter's chunk size");
  run.equal(document->info().n_chunks, 3, "its chunks");
  run.equal(document->info().n_chunks_encoded, 2, "full chunks are computed at once");
  complete(*document, false);
  run.equal(document->info().n_chunks_encoded, 3, "all when completed");
  const Shape& shape = toy.spec.upper;
  const auto n_bytes = static_cast<uint64_t>(30 * 2 * shape.n_layers * shape.n_kv_heads * shape.head_dim) * sizeof(float);
  run.check(document->info().n_bytes >= n_bytes && document->info().n_bytes < 2 * n_bytes, "their bytes");
  MethodQuestion question = question_of(toy, {});
  question.documents = {{text_of(30, toy.spec.vocab, 1), 11}};
  const Trace by_default = trace_of(*focus, question, {document});
  question.options.method = Method::kFocus;
  judge(run, by_default, expect(toy, question), toy.spec.vocab, "a session that names no method");
  const auto lazy = focus->create_document({0, Method::kFull, {}});
  append(*lazy, text_of(30, toy.spec.vocab, 1));
  run.equal(lazy->info().n_chunks_encoded, 0, "full attention needs no chunks");
}

TEST(methods_refused) {
  Run run;
  const Toy toy(spec_of(6200));
  const auto both = load(toy, Layout::kBoth), plain = load(toy, Layout::kPlain), focus = load(toy, Layout::kFocus),
             shared = load(toy, Layout::kAdapter);
  const auto create = [](Model& model, Method method) { return model.create_session(options_of(method)); };
  run.throws(
      Code::kAdapterMismatch, [&] { create(*plain, Method::kShared); }, "SharedLLM without an adapter");
  run.throws(
      Code::kAdapterMismatch, [&] { create(*plain, Method::kFocus); }, "FocusLLM without an adapter");
  run.throws(
      Code::kAdapterMismatch, [&] { create(*focus, Method::kShared); }, "SharedLLM with the other's adapter");
  run.throws(
      Code::kAdapterMismatch, [&] { create(*shared, Method::kFocus); }, "FocusLLM with the other's adapter");
  for (const Method method : {Method::kParallel, Method::kStreaming, Method::kFull}) run.check(create(*plain, method) != nullptr, name_of(method));
  for (const Method method : {Method::kShared, Method::kFocus})
    run.throws(
        Code::kAdapterMismatch,
        [&] {
          plain->create_document({16, method, {}});
        },
        std::string("a document for ") + name_of(method));
  run.throws(
      Code::kInvalidArgument,
      [&] {
        plain->create_document({-1, {}, {}});
      },
      "a chunk of -1 tokens");

  // a model without adapter: sessions chat, and read documents only by a method that is named
  const auto text = plain->create_document({16, Method::kFull, {}});
  append(*text, text_of(20, toy.spec.vocab, 1));
  complete(*text, true);
  const auto bare = plain->create_session({});
  run.throws(
      Code::kInvalidArgument, [&] { bare->set_documents({text}); }, "documents without a method");
  run.equal(answer(*bare, text_of(5, toy.spec.vocab, 2), 3).ids.size(), size_t{3}, "a session without a method chats");
  const auto named = create(*plain, Method::kFull);
  named->set_documents({text});
  run.equal(answer(*named, text_of(5, toy.spec.vocab, 2), 3).ids.size(), size_t{3}, "with a method it reads");

  // documents without a token
  for (const Method method : kMethods) {
    const bool needs_chunks = method == Method::kShared || method == Method::kFocus || method == Method::kParallel;
    const auto session = create(*both, method);
    const std::string name = name_of(method);
    const auto empty = both->create_document({16, method, {}}), other = both->create_document({16, method, {}});
    GenerateRequest request;
    request.ids = text_of(5, toy.spec.vocab, 2);
    request.max_tokens = 1;
    run.check(generate(*session, request).ending.is_ok(), name + ": no documents");
    session->set_documents({empty, other});
    if (needs_chunks) {
      run.throws(
          Code::kEmptyDocument, [&] { session->room(5); }, name + ": room beside nothing");
      run.throws(
          Code::kEmptyDocument, [&] { session->begin_generate(request, {}); }, name + ": reading nothing");
      run.throws(
          Code::kEmptyDocument, [&] { session->begin_trace({request.ids}, {}, {}); }, name + ": tracing nothing");
    } else {
      run.check(session->room(5) > 0, name + ": room");
      run.check(generate(*session, request).ending.is_ok(), name + ": empty documents");
    }
    append(*other, {3});
    run.check(session->room(5) > 0 && generate(*session, request).ending.is_ok(), name + ": one token is enough");
  }
}

TEST(methods_places) {
  Run run;
  const Toy toy(spec_of(6300));  // head size 6
  ToySpec wide = spec_of(6301);
  wide.upper.head_dim = 32;
  for (const Layout layout : {Layout::kPlain, Layout::kFocus, Layout::kBoth}) {
    const auto in_8_bits = [](LoadOptions& options) { options.pool_dtype = DType::kQ8_0; };
    run.throws(
        Code::kInvalidArgument, [&] { load(toy, layout, in_8_bits); }, "8 bits with heads of 6");
    run.check(load(Toy(wide), layout, in_8_bits)->info().pool_dtype == DType::kQ8_0, "8 bits with heads of 32");
  }
  const auto in_directory = [](LoadOptions& options) { options.kv_directory = "/nowhere/at/all"; };
  if (!is_test_device_host()) {
    run.throws(
        Code::kInvalidArgument, [&] { load(toy, Layout::kFocus, in_directory); }, "scratch files for a device that cannot read them");
    return;
  }
  for (const Method method : {Method::kFocus, Method::kParallel}) {
    const auto model = load(toy, Layout::kFocus, in_directory);
    const std::string name = name_of(method);
    const auto document = model->create_document({16, method, {}});
    const Ending ending = try_append(*document, text_of(40, toy.spec.vocab, 1));
    run.check(ending.code == Code::kFileNotFound, name + ": no such directory: " + (ending.is_ok() ? "accepted" : ending.text));
    const auto other = model->create_document({16, Method::kFull, {}});
    run.check(try_append(*other, text_of(40, toy.spec.vocab, 1)).is_ok(), name + ": the model stays usable");
    const auto session = model->create_session(options_of(method));
    session->set_documents({other});
    GenerateRequest request;
    request.ids = text_of(5, toy.spec.vocab, 2);
    request.max_tokens = 1;
    run.check(generate(*session, request).ending.code == Code::kFileNotFound, name + ": a session that would compute chunks there");
  }
}

// Each kernel variant, one and three threads.
TEST(methods_variants) {
  Run run;
  ToySpec spec = spec_of(6500);
  spec.upper.head_dim = 32;
  const Toy toy(spec);
  Asking asking;
  asking.document_tokens = {40, 9};
  for (const std::string& variant : cpu_variants_here()) {
    for (const auto& [n_threads, kv_dtype, pool] : {std::tuple{1, DType::kF16, DType::kQ8_0}, {3, DType::kF32, DType::kF32}}) {
      const auto model = load(toy, Layout::kBoth, [&, n = n_threads, kv = kv_dtype, p = pool](LoadOptions& options) {
        options.cpu_variant = variant;
        options.n_threads = n;
        options.kv_dtype = kv;
        options.pool_dtype = p;
      });
      for (const Method method : {Method::kFocus, Method::kParallel, Method::kStreaming, Method::kFull}) {
        asking.options = options_of(method);
        asking.options.window = method == Method::kStreaming ? 20 : 0;
        compare(run, toy, *model, question_of(toy, asking), variant + ", " + std::to_string(n_threads) + " threads, " + name_of(method));
      }
    }
  }
  std::printf("  methods_variants: %d checks, worst error / tolerance %.2f\n", run.n_checks, run.worst);
}

// Prompts of more than a slice, read as a run reads them; what was opened.
TEST(methods_slices) {
  Run run;
  const Toy toy(spec_of(6600));
  Asking asking;
  asking.document_tokens = {40, 9};
  asking.n_steps = 3;
  for (const int n_prompt : {255, 256, 257, 600}) {
    for (const Method method : {Method::kFocus, Method::kParallel, Method::kStreaming, Method::kFull}) {
      asking.options = options_of(method);
      asking.options.window = method == Method::kStreaming ? 20 : 0;
      asking.n_prompt = n_prompt;
      const MethodQuestion question = question_of(toy, asking);
      DirectReader reader(toy, question.options);
      std::vector<std::shared_ptr<DocumentState>> documents;
      for (const OracleDocument& text : question.documents) documents.push_back(reader.document(text));
      const std::string name = std::string(name_of(method)) + ", a prompt of " + std::to_string(n_prompt);
      judge_steps(run, reader.run(documents, question), expect(toy, question), name);
      const std::vector<OpenedNode>& nodes = reader.reader().retrieval.nodes;
      if (!run.equal(nodes.size(), size_t{4}, name + ": opened nodes")) continue;
      run.check(nodes[2].document == 0 && nodes[2].chunk == 2 && nodes[2].begin == 32 && nodes[2].end == 40 && nodes[3].document == 1 &&
                    nodes[3].chunk == 0 && nodes[3].begin == 0 && nodes[3].end == 9,
          name + ": their places");
      run.check(
          std::all_of(nodes.begin(), nodes.end(), [](const OpenedNode& node) { return node.level == 0 && node.is_finest && std::isnan(node.score); }),
          name + ": whole chunks");
    }
  }
}

// Every step from the beginning again: the same numbers.
TEST(methods_recomputed) {
  Run run;
  const Toy toy(spec_of(6800));
  const auto model = load(toy, Layout::kBoth);
  Asking asking;
  asking.document_tokens = {40, 9};
  for (const Method method : {Method::kFocus, Method::kParallel, Method::kStreaming, Method::kFull}) {
    asking.options = options_of(method);
    asking.options.window = method == Method::kStreaming ? 20 : 0;
    const MethodQuestion question = question_of(toy, asking);
    const auto session = model->create_session(question.options);
    session->set_documents(documents_of(*model, question));
    TraceRequest request = request_of(question);
    request.recompute = true;
    judge(run, trace(*session, request), expect(toy, question), toy.spec.vocab, name_of(method), method == Method::kStreaming);
  }
}

// Appending and completing that is cut short leaves documents that can be read.
TEST(methods_aborted_documents) {
  Run run;
  const Toy toy(spec_of(6700));
  const auto model = load(toy, Layout::kBoth);
  for (const Method method : {Method::kFocus, Method::kParallel}) {
    for (int n_reports = 0; n_reports < 4; ++n_reports) {
      const std::string name = std::string(name_of(method)) + ", aborted after " + std::to_string(n_reports) + " reports";
      const auto document = model->create_document({300, method, {}});
      append(*document, text_of(100, toy.spec.vocab, 1));
      Begun begun;
      if (n_reports == 0) *begun.cancel = true;
      document->begin_append(text_of(1900, toy.spec.vocab, 2), begun.hooks([&, n = n_reports](uint64_t, uint64_t) mutable {
        if (--n == 0) *begun.cancel = true;
      }));
      const Ending ending = begun.wait();
      run.check(ending.is_ok() || ending.code == Code::kAborted, name);
      append(*document, {1, 2, 3});
      MethodQuestion question = question_of(toy, {});
      question.forced.resize(1);
      question.options.method = method;
      question.documents = {{document->tokens(0, 10000), 300}};
      const Expected expected = expect(toy, question);
      judge(run, trace_of(*model, question, {document}), expected, toy.spec.vocab, name);
      complete(*document, false);
      judge(run, trace_of(*model, question, {document}), expected, toy.spec.vocab, name + ", completed");
    }
  }
}

// What fits beside the documents, and not one token more.
TEST(methods_room) {
  Run run;
  ToySpec spec = spec_of(6400);
  spec.window = 64;
  spec.focus->query_cap = 512;
  const auto model = load(Toy(spec), Layout::kFocus);
  const auto document = model->create_document({16, Method::kFull, {}});
  append(*document, text_of(40, spec.vocab, 1));  // 3 chunks, the longest of 16
  const auto room = [&](Method method, size_t n_prompt) {
    const auto session = model->create_session(options_of(method));
    session->set_documents({document});
    return session->room(n_prompt);
  };
  run.equal(room(Method::kParallel, 9), int64_t{64 - 16 - 1}, "parallel: behind the longest chunk and bos");
  run.equal(room(Method::kFull, 9), int64_t{24}, "full");
  // FocusLLM: local tokens stand behind a candidate a chunk and bos; a chunk's suffix grows with the answer
  run.equal(room(Method::kFocus, 9), std::min<int64_t>(64 - 3 - 1, 64 - 16 - 1 - 9 + 9), "focusllm, a short prompt");
  run.equal(room(Method::kFocus, 50), std::min<int64_t>(64 - 3 - 1, 64 - 16 - 1 - 16 + 50), "focusllm, a long prompt");
}

}  // namespace banyan::test
