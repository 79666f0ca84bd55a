// Full attention against the oracle: documents in front of the prompt, every way to scale positions, and what a session keeps from run to run.
#include "methods.h"

namespace banyan::test {

namespace {

ToySpec spec_of(uint64_t seed, int bos_id = 1, int64_t window = 8192) {
  ToySpec spec;
  spec.upper.n_layers = 3;
  spec.upper.head_dim = 16;
  spec.bos_id = bos_id;
  spec.window = window;
  spec.seed = seed;
  return spec;
}

Asking asking_of(RopeScaling scaling = RopeScaling::kNone, double factor = 1) {
  Asking asking;
  asking.options = options_of(Method::kFull);
  asking.options.rope_scaling = scaling;
  asking.options.rope_factor = factor;
  return asking;
}

constexpr std::pair<RopeScaling, const char*> kScalings[] = {
    {RopeScaling::kLinear, "linear"}, {RopeScaling::kNtk, "ntk"}, {RopeScaling::kDynamicNtk, "dynamic"}, {RopeScaling::kYarn, "yarn"}};

}  // namespace

TEST(full_documents) {
  Run run;
  uint64_t seed = 1000;
  for (const int bos_id : {-1, 1}) {
    for (const bool has_bos : {false, true}) {
      if (has_bos && bos_id < 0) continue;
      for (const std::vector<int>& documents : {std::vector<int>{}, {0}, {43, 7, 1, 16}, {300, 0, 290}}) {
        Asking asking = asking_of();
        asking.document_tokens = documents;
        asking.has_bos = has_bos;
        const std::string what = std::to_string(documents.size()) + " documents, bos " + std::to_string(bos_id) + (has_bos ? " in the prompt" : "");
        compare(run, spec_of(++seed, bos_id), asking, what, seed % 3 == 0 ? DType::kF16 : DType::kF32);
      }
    }
  }
  for (const char* family : {"qwen2", "qwen3", "mistral"}) {
    ToySpec spec = spec_of(++seed);
    spec.upper.family = family;
    compare(run, spec, asking_of(), family);
    compare(run, spec, asking_of(), family, DType::kF16);
  }
  Asking one = asking_of();
  one.n_prompt = 1;
  compare(run, spec_of(++seed), one, "a prompt of one token");
  one.has_bos = true;
  compare(run, spec_of(++seed), one, "a prompt of one token, bos");
  std::printf("  full_documents: %d checks, worst error / tolerance %.2f\n", run.n_checks, run.worst);
}

TEST(full_scaled_positions) {
  Run run;
  uint64_t seed = 1100;
  for (const auto& [scaling, name] : kScalings) {
    for (const double factor : {1.0, 1.5, 4.0}) {
      for (const int64_t window : {64, 8192}) {
        for (const DType kv_dtype : {DType::kF32, DType::kF16}) {
          Asking asking = asking_of(scaling, factor);
          asking.document_tokens = {window == 64 ? static_cast<int>(40 * factor) : 200};
          compare(run, spec_of(++seed, 1, window), asking,
              std::string(name) + ", factor " + std::to_string(factor) + ", window " + std::to_string(window), kv_dtype);
        }
      }
    }
  }
  std::printf("  full_scaled_positions: %d checks, worst error / tolerance %.2f\n", run.n_checks, run.worst);
}

// The cache of one session serves its next run where the beginning is the same; with a base that follows the length only where that stays the
// same too.
TEST(full_again) {
  Run run;
  uint64_t seed = 1200;
  for (const RopeScaling scaling : {RopeScaling::kNone, RopeScaling::kNtk, RopeScaling::kDynamicNtk}) {
    const Toy toy(spec_of(++seed, 1, 64));
    Asking asking = asking_of(scaling, scaling == RopeScaling::kNone ? 1 : 4);
    asking.document_tokens = {50, 20};
    const MethodQuestion first = question_of(toy, asking);
    DirectReader reader(toy, asking.options);
    std::vector<std::shared_ptr<DocumentState>> documents;
    for (const OracleDocument& text : first.documents) documents.push_back(reader.document(text));
    const auto ask = [&](const MethodQuestion& question, const std::string& what, int n_cached) {
      judge_steps(run, reader.run(documents, question), expect(toy, question), what);
      if (n_cached >= 0) run.equal(reader.reader().n_cached, n_cached, what + ": cached tokens");
    };
    const std::string name = "scaling " + std::to_string(static_cast<int>(scaling));
    const bool is_dynamic = scaling == RopeScaling::kDynamicNtk;
    ask(first, name + ", first", 0);
    ask(first, name + ", the same again", 9 - 1);
    MethodQuestion longer = first;
    longer.prompt.insert(longer.prompt.end(), first.forced.begin(), first.forced.end());
    longer.prompt.push_back(5);
    ask(longer, name + ", continued", is_dynamic ? 0 : 9 + 3);
    MethodQuestion other = first;
    other.prompt[3] = (other.prompt[3] + 1) % toy.spec.vocab;
    ask(other, name + ", another prompt", is_dynamic ? 0 : 3);
    std::swap(documents[0], documents[1]);
    MethodQuestion swapped = first;
    std::swap(swapped.documents[0], swapped.documents[1]);
    ask(swapped, name + ", documents in another order", 0);
    for (int slices = 0; slices < 4; ++slices) {
      MethodQuestion aborted = longer;
      aborted.prompt[1] = (aborted.prompt[1] + slices) % toy.spec.vocab;
      std::swap(aborted.documents[0], aborted.documents[1]);
      try {
        reader.run(documents, aborted, slices);
      } catch (const Error& error) { run.check(error.code == Code::kAborted, error.what()); }
      ask(swapped, name + ", after an aborted run", -1);
    }
  }
}

TEST(full_room_and_errors) {
  Run run;
  const Toy toy(spec_of(1300, 1, 64));
  const auto model = load_method_toy(toy, Method::kFull);
  const auto document = model->create_document({});
  append(*document, text_of(100, toy.spec.vocab, 1));
  for (const auto& [scaling, name] : kScalings) {
    const auto session = model->create_session(asking_of(scaling, 3).options);
    run.equal(session->room(5), int64_t{192}, std::string(name) + ": room without documents");
    session->set_documents({document});
    run.equal(session->room(5), int64_t{92}, std::string(name) + ": room beside a document");
    GenerateRequest request;
    request.ids = text_of(20, toy.spec.vocab, 2);
    request.max_tokens = 2;
    run.check(generate(*session, request).ending.is_ok(), std::string(name) + ": a run within the room");
    for (const double factor : {0.99, 0.0, -2.0, std::nan("")}) {
      run.throws(
          Code::kInvalidArgument, [&] { model->create_session(asking_of(scaling, factor).options); },
          std::string(name) + ", factor " + std::to_string(factor));
    }
  }
  const auto plain = model->create_session(asking_of().options);
  plain->set_documents({document});
  run.equal(plain->room(5), int64_t{-36}, "room without scaling");
  for (const char* scaled : {R"({"rope_type":"linear","factor":2.0})", R"({"rope_type":"yarn","factor":2.0,"original_max_position_embeddings":64})",
           R"({"rope_type":"llama3","factor":2.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":64})"}) {
    ToySpec spec = spec_of(1301, 1, 128);
    spec.rope_scaling = scaled;
    const auto other = load_method_toy(Toy(spec), Method::kFull);
    for (const auto& [scaling, name] : kScalings) {
      run.throws(
          Code::kInvalidArgument, [&] { other->create_session(asking_of(scaling, 2).options); }, std::string(name) + " over " + scaled);
    }
    run.check(other->create_session(asking_of().options) != nullptr, "the model's own scaling alone");
  }
}

}  // namespace banyan::test
