// Adaptive parallel encoding against the oracle: temperatures and scales, chunks of every size, models with and without a begin-of-text token.
#include "methods.h"

namespace banyan::test {

namespace {

ToySpec spec_of(uint64_t seed, int bos_id = 1) {
  ToySpec spec;
  spec.upper.n_layers = 3;
  spec.bos_id = bos_id;
  spec.seed = seed;
  return spec;
}

Asking asking_of(float temperature = 0.9f, float scale = 0.9f) {
  Asking asking;
  asking.options = options_of(Method::kParallel);
  asking.options.context_temperature = temperature;
  asking.options.context_scale = scale;
  return asking;
}

}  // namespace

TEST(parallel_settings) {
  Run run;
  uint64_t seed = 3000;
  for (const float temperature : {1.0f, 0.9f, 0.2f, 1.7f}) {
    for (const float scale : {1.0f, 0.9f, 0.1f, 3.0f}) {
      for (const int bos_id : {-1, 1}) {
        Asking asking = asking_of(temperature, scale);
        asking.has_bos = bos_id >= 0 && ++seed % 2 == 0;
        ++seed;
        compare(run, spec_of(seed, bos_id), asking,
            "temperature " + std::to_string(temperature) + ", scale " + std::to_string(scale) + ", bos " + std::to_string(bos_id),
            seed % 3 == 0 ? DType::kF16 : DType::kF32);
      }
    }
  }
  std::printf("  parallel_settings: %d checks, worst error / tolerance %.2f\n", run.n_checks, run.worst);
}

TEST(parallel_chunks) {
  Run run;
  uint64_t seed = 3100;
  struct Texts {
    std::vector<int> tokens, chunk_sizes;
  };
  const Texts all[] = {{{}, {16}}, {{5}, {16}}, {{16}, {16}}, {{17}, {16}}, {{40, 33, 3}, {16, 5, 100}}, {{0, 12, 0}, {7}}, {{60}, {1}},
      {{700, 90}, {256, 64}}, {{1200}, {600}}, {{640, 30}, {2}}};
  for (const Texts& texts : all) {
    for (const int bos_id : {-1, 7}) {
      Asking asking = asking_of();
      asking.document_tokens = texts.tokens;
      asking.chunk_sizes = texts.chunk_sizes;
      asking.n_steps = 3;
      asking.has_bos = bos_id >= 0 && seed % 2 == 0;
      compare(run, spec_of(++seed, bos_id), asking,
          std::to_string(texts.tokens.size()) + " documents, chunks of " + std::to_string(texts.chunk_sizes[0]) + ", bos " + std::to_string(bos_id));
    }
  }
  for (const int n_prompt : {1, 2, 300}) {
    Asking asking = asking_of();
    asking.n_prompt = n_prompt;
    asking.has_bos = n_prompt < 2;
    compare(run, spec_of(++seed), asking, "a prompt of " + std::to_string(n_prompt));
  }
  for (const char* family : {"qwen2", "qwen3"}) {
    ToySpec spec = spec_of(++seed);
    spec.upper.family = family;
    compare(run, spec, asking_of(), family);
  }
  std::printf("  parallel_chunks: %d checks, worst error / tolerance %.2f\n", run.n_checks, run.worst);
}

TEST(parallel_pools) {
  Run run;
  ToySpec spec = spec_of(3200);
  spec.upper.head_dim = 32;
  const Toy toy(spec);
  const MethodQuestion question = question_of(toy, asking_of());
  const Expected exact = expect(toy, question);
  std::vector<double> errors;
  for (const DType pool : {DType::kF32, DType::kF16, DType::kQ8_0}) {
    const auto model = load_method_toy(toy, Method::kParallel, DType::kF32, pool);
    const Trace got = trace_of(*model, question, documents_of(*model, question));
    judge(run, got, expect(toy, question, DType::kF32, pool), spec.vocab, "pool " + std::to_string(static_cast<int>(pool)));
    double error = 0;
    for (size_t i = 0; i < got.logits.size(); ++i) error = std::max(error, std::fabs(static_cast<double>(got.logits[i]) - exact.exact.logits[i]));
    errors.push_back(error);
  }
  run.check(errors[0] < errors[1] && errors[1] < errors[2], "f32 is nearer than f16, f16 than 8 bits");
}

// What the cache holds is good for the same chunks only.
TEST(parallel_again) {
  Run run;
  for (const int bos_id : {-1, 1}) {
    const Toy toy(spec_of(3300, bos_id));
    Asking asking = asking_of();
    asking.document_tokens = {40, 21};
    const MethodQuestion first = question_of(toy, asking);
    DirectReader reader(toy, asking.options);
    const auto a = reader.document(first.documents[0]), b = reader.document(first.documents[1]);
    const std::string name = "bos " + std::to_string(bos_id) + ", ";
    const auto ask = [&](const std::vector<std::shared_ptr<DocumentState>>& documents, const MethodQuestion& question, const std::string& what,
                         int n_cached) {
      judge_steps(run, reader.run(documents, question), expect(toy, question), name + what);
      if (n_cached >= 0) run.equal(reader.reader().n_cached, n_cached, name + what + ": cached tokens");
    };
    ask({a, b}, first, "first", 0);
    ask({a, b}, first, "again", 8);
    MethodQuestion longer = first;
    longer.prompt.insert(longer.prompt.end(), first.forced.begin(), first.forced.end());
    longer.prompt.push_back(3);
    ask({a, b}, longer, "continued", 9 + 3);
    MethodQuestion swapped = first;
    std::swap(swapped.documents[0], swapped.documents[1]);
    ask({b, a}, swapped, "documents in another order", -1);
    MethodQuestion less = first;
    less.documents.pop_back();
    ask({a}, less, "one document", -1);
    MethodQuestion none = first;
    none.documents.clear();
    ask({}, none, "no document", -1);
    ask({a, b}, first, "both again", -1);
    append(*b, {9, 8, 7});
    MethodQuestion grown = first;
    grown.documents[1].ids.insert(grown.documents[1].ids.end(), {9, 8, 7});
    ask({a, b}, grown, "a grown document", -1);
    for (int slices = 0; slices < 4; ++slices) {
      MethodQuestion other = less;
      other.prompt[2] = (other.prompt[2] + 1 + slices) % toy.spec.vocab;
      try {
        reader.run({a}, other, slices);
      } catch (const Error& error) { run.check(error.code == Code::kAborted, error.what()); }
      ask({a, b}, grown, "after an aborted run", -1);
    }
  }
}

// Two documents' chunks whose rows would follow one another if they lay in one slab: the second document grew while its first page was held.
TEST(parallel_slabs) {
  Run run;
  const Toy toy(spec_of(3500));
  MethodQuestion question = question_of(toy, asking_of());
  question.documents = {{text_of(16, toy.spec.vocab, 1), 16}, {text_of(12, toy.spec.vocab, 2), 16}};
  const auto model = load_method_toy(toy, Method::kParallel);
  const auto a = model->create_document({16, Method::kParallel, {}}), b = model->create_document({16, Method::kParallel, {}});
  append(*a, question.documents[0].ids);
  const Ids& ids = question.documents[1].ids;
  append(*b, {ids.begin(), ids.begin() + 5});
  const auto session = model->create_session(question.options);
  session->set_documents({a, b});
  answer(*session, question.prompt, 1);
  append(*b, {ids.begin() + 5, ids.end()});
  complete(*b, false);
  const auto rows_of = [](const std::shared_ptr<Document>& document) {
    return std::dynamic_pointer_cast<DocumentState>(document)->chunks().at(0)->rows(KvKind::kPrefixed);
  };
  run.check(rows_of(a).slab != rows_of(b).slab && rows_of(a).row == 0, "two slabs");
  run.equal(rows_of(b).row, 16, "the second document's rows");
  judge(run, trace(*session, request_of(question)), expect(toy, question), toy.spec.vocab, "a grown document");
  judge(run, trace_of(*model, question, {a, b}), expect(toy, question), toy.spec.vocab, "and another session");
}

TEST(parallel_errors) {
  Run run;
  const auto model = load_method_toy(Toy(spec_of(3400)), Method::kParallel);
  for (const float bad : {0.0f, -1.0f, std::nanf(""), INFINITY}) {
    run.throws(
        Code::kInvalidArgument, [&] { model->create_session(asking_of(bad, 1).options); }, "temperature " + std::to_string(bad));
    run.throws(
        Code::kInvalidArgument, [&] { model->create_session(asking_of(1, bad).options); }, "scale " + std::to_string(bad));
  }
}

}  // namespace banyan::test
