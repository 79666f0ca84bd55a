// methods: questions to sessions of any method, and the engine's answers held against methods_oracle.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/document.h"
#include "engine/reader.h"
#include "methods_oracle.h"
#include "run.h"

namespace banyan::test {

// A question in few words; the texts follow from the toy's seed.
struct Asking {
  std::vector<int> document_tokens = {43, 7, 1, 16};
  std::vector<int> chunk_sizes = {16};  // of the documents in turn
  int n_prompt = 9, n_steps = 4;
  bool has_bos = false;  // the prompt begins with the model's
  MethodOptions options;
};

inline MethodQuestion question_of(const Toy& toy, const Asking& asking) {
  MethodQuestion question;
  const auto seed = static_cast<uint32_t>(toy.spec.seed);
  for (size_t d = 0; d < asking.document_tokens.size(); ++d) {
    question.documents.push_back({text_of(asking.document_tokens[d], toy.spec.vocab, 100 * seed + static_cast<uint32_t>(d)),
        asking.chunk_sizes[d % asking.chunk_sizes.size()]});
  }
  question.prompt = text_of(asking.n_prompt, toy.spec.vocab, seed + 5000);
  for (int32_t& id : question.prompt) {
    if (id == toy.spec.bos_id) ++id;
  }
  if (asking.has_bos) question.prompt[0] = toy.spec.bos_id;
  question.forced = text_of(asking.n_steps, toy.spec.vocab, seed + 6000);
  question.options = asking.options;
  return question;
}

inline MethodOptions options_of(Method method) {
  MethodOptions options;
  options.method = method;
  return options;
}

inline std::vector<std::shared_ptr<Document>> documents_of(Model& model, const MethodQuestion& question) {
  std::vector<std::shared_ptr<Document>> documents;
  for (const OracleDocument& document : question.documents) {
    documents.push_back(model.create_document({document.chunk_size, question.options.method, {}}));
    append(*documents.back(), document.ids);
  }
  return documents;
}

inline TraceRequest request_of(const MethodQuestion& question) {
  TraceRequest request;
  request.ids = question.prompt;
  request.max_new_tokens = question.n_steps();
  request.forced = question.forced;
  return request;
}

inline Trace trace_of(Model& model, const MethodQuestion& question, const std::vector<std::shared_ptr<Document>>& documents) {
  const auto session = model.create_session(question.options);
  session->set_documents(documents);
  return trace(*session, request_of(question));
}

// The truth, and the rounding of naive code.
struct Expected {
  MethodResult exact, naive;
  double cap = 2e-4;  // of the largest value: float32, sums of some hundred terms of order 1; f16 rounds three times to 2^-11, 8 bits to 2^-8
};

inline Expected expect(const Toy& toy, const MethodQuestion& question, DType kv_type = DType::kF32, std::optional<DType> pool_type = {}) {
  const DType pool = pool_type.value_or(kv_type);
  Expected expected{MethodOracle<double>(toy).run(question), MethodOracle<float>(toy, kv_type, pool).run(question)};
  if (kv_type == DType::kF16 || pool == DType::kF16) expected.cap = 3e-2;
  if (pool == DType::kQ8_0) expected.cap = 2e-1;
  return expected;
}

// Only the last n values.
inline std::vector<double> tail(const std::vector<double>& values, size_t n) {
  return {values.end() - static_cast<std::ptrdiff_t>(std::min(n, values.size())), values.end()};
}

inline void judge_steps(Run& run, const std::vector<float>& logits, const Expected& expected, const std::string& what) {
  run.near(logits, expected.exact.greedy_logits, expected.naive.greedy_logits, expected.cap, what + ": logits of the steps");
}

// `is_streaming`: the trace has the logits of the last slice only.
inline void judge(Run& run, const Trace& got, const Expected& expected, int vocab, const std::string& what, bool is_streaming = false) {
  const size_t n = got.logits.size(), n_all = expected.exact.logits.size();
  run.check(is_streaming ? n > 0 && n <= n_all : n == n_all, what + ": " + std::to_string(n / static_cast<size_t>(vocab)) +
                                                                 " rows of logits, expected " + std::to_string(n_all / static_cast<size_t>(vocab)));
  run.near(got.logits, tail(expected.exact.logits, n), tail(expected.naive.logits, n), expected.cap, what + ": logits");
  judge_steps(run, got.greedy_logits, expected, what);
  if (!run.equal(got.greedy.size(), expected.exact.greedy.size(), what + ": number of steps")) return;
  const auto width = static_cast<std::ptrdiff_t>(vocab);
  for (size_t i = 0; i < got.greedy.size(); ++i) {
    const auto begin = expected.exact.greedy_logits.begin() + static_cast<std::ptrdiff_t>(i) * width;
    std::vector<double> row(begin, begin + width);
    std::nth_element(row.begin(), row.begin() + 1, row.end(), std::greater<>());
    if (row[0] - row[1] > 2 * expected.cap * std::max(1.0, std::fabs(row[0])))
      run.equal(got.greedy[i], expected.exact.greedy[i], what + ": greedy token " + std::to_string(i));
  }
}

// A model loaded from files against the oracle.
inline void compare(Run& run, const Toy& toy, Model& model, const MethodQuestion& question, const std::string& what) {
  const Expected expected = expect(toy, question, model.info().kv_dtype, model.info().pool_dtype);
  if (!run.check(expected.exact.margin > 1e-3, what + ": the chunks are too alike, take another seed")) return;
  const Trace got = trace_of(model, question, documents_of(model, question));
  judge(run, got, expected, toy.spec.vocab, what, question.options.method == Method::kStreaming);
}

inline std::shared_ptr<Model> load_method_toy(const Toy& toy, Method method, DType kv_dtype = DType::kF32, std::optional<DType> pool_dtype = {}) {
  const TempDir directory;
  LoadOptions options = toy_options(write_toy(toy, directory.path(), method == Method::kFocus ? Layout::kFocus : Layout::kPlain), kv_dtype);
  options.pool_dtype = pool_dtype;
  return Model::load(options);
}

inline void compare(Run& run, const ToySpec& spec, const Asking& asking, const std::string& what, DType kv_dtype = DType::kF32) {
  const Toy toy(spec);
  const auto model = load_method_toy(toy, asking.options.method.value(), kv_dtype);
  compare(run, toy, *model, question_of(toy, asking), what + (kv_dtype == DType::kF16 ? ", f16" : ""));
}

// A reader in the hands of the test, so that one reader's runs after another can be looked at closely.
class DirectReader {
 public:
  DirectReader(const Toy& toy, const MethodOptions& options, DType kv_dtype = DType::kF32)
      : engine_(make_engine(toy, kv_dtype)), options_(options), reader_(make_reader(*engine_, options)) {}

  std::shared_ptr<DocumentState> document(const OracleDocument& text) {
    TreeConfig tree = engine_->tree;
    tree.chunk_size = text.chunk_size;
    auto document = std::make_shared<DocumentState>(engine_, tree, options_.method, std::vector<uint8_t>());
    append(*document, text.ids);
    return document;
  }

  // Logits of every step; `slices` counts down, and at 0 the run is aborted (then: kAborted).
  std::vector<float> run(const std::vector<std::shared_ptr<DocumentState>>& documents, const MethodQuestion& question, int slices = -1) {
    const CancelFlag cancel = std::make_shared<std::atomic<bool>>(false);
    EngineStream s = engine_->stream(cancel);
    const auto slice = [&] {
      if (slices-- == 0) *cancel = true;
    };
    banyan::Question asked;
    asked.documents = documents;
    asked.prompt = question.prompt;
    asked.max_tokens = question.n_steps();
    reader_->begin(std::move(asked));
    do slice();
    while (!reader_->prepare(s));
    Ids ids = question.prompt;
    std::vector<float> logits;
    for (int step = 0; step < question.n_steps(); ++step) {
      do slice();
      while (!reader_->read(s, ids, Pass::Read::kLast, step > 0));
      const std::vector<float> row = reader_->logits(s);
      logits.insert(logits.end(), row.begin(), row.end());
      ids.push_back(question.forced[static_cast<size_t>(step)]);
    }
    n_slices = slices;
    return logits;
  }

  Reader& reader() { return *reader_; }
  int n_slices = 0;  // of the last complete run, as a negative count

 private:
  const std::shared_ptr<Engine> engine_;
  const MethodOptions options_;
  const std::unique_ptr<Reader> reader_;
};

}  // namespace banyan::test
