#include "parts.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "drive.h"

namespace banyan::bench {

namespace {

using test::Ids;
using test::Stopwatch;

constexpr double kMebi = 1 << 20;
constexpr int kDecodings = 3;  // of which the median counts

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Texts and questions that nobody had before.
Ids fresh_ids(const Subject& subject, int n) {
  static uint32_t seed = 0;
  return test::text_of(n, subject.size.shape.vocab_size, ++seed);
}

// Ends the job when the time is up.
std::function<void()> watch(const Subject& subject, const CancelFlag& cancel) {
  return [&report = subject.report, cancel] {
    if (report.is_over()) *cancel = true;
  };
}

struct Answer {
  double first_seconds = 0;  // from the question's ids to its first token
  GenerateResult result;
  int64_t n_slots = 0;
};

// Greedy: the first token and n more.
Answer ask(const Subject& subject, Session& session, Ids question, int n_more) {
  const test::BegunGenerate begun;
  GenerateRequest request;
  request.ids = std::move(question);
  request.max_tokens = 1 + n_more;
  const Stopwatch watch_all;
  const auto first_ms = std::make_shared<double>(0);
  const auto look = watch(subject, begun.cancel);
  GenerateHooks hooks = begun.generate_hooks([=](int32_t) {
    if (*first_ms == 0) *first_ms = watch_all.ms();
    look();
  });
  hooks.on_progress = [look](const char*, uint64_t, uint64_t) { look(); };
  session.begin_generate(std::move(request), hooks);
  const test::Generated generated = begun.finish();
  must(generated.ending);
  Answer answer{*first_ms / 1000, generated.result, 0};
  if (!generated.retrievals.empty()) answer.n_slots = generated.retrievals.front().n_slots;
  return answer;
}

Answer ask(const Subject& subject, Session& session, int n_more = 0) {
  return ask(subject, session, fresh_ids(subject, subject.size.question), n_more);
}

// A document of these ids, all that choosing needs being known.
std::shared_ptr<Document> read(const Subject& subject, Ids ids, std::optional<Method> method = {}) {
  DocumentOptions options;
  options.method = method;
  const auto document = subject.model.create_document(options);
  for (const bool is_append : {true, false}) {
    const test::Begun begun;
    const auto look = watch(subject, begun.cancel);
    const JobHooks hooks = begun.hooks([look](uint64_t, uint64_t) { look(); });
    if (is_append) document->begin_append(std::move(ids), hooks);
    else document->begin_complete(false, hooks);
    must(begun.wait());
  }
  return document;
}

std::shared_ptr<Session> session_with(const Subject& subject, const std::shared_ptr<Document>& document, std::optional<Method> method = {}) {
  MethodOptions options;
  options.method = method;
  const auto session = subject.model.create_session(options);
  if (document) session->set_documents({document});
  return session;
}

double tokens_per_second(const Subject& subject, const Answer& answer) { return 1000.0 * subject.size.n_tokens / answer.result.decode_ms; }

void report_decoding(const Subject& subject, const std::string& name, const std::vector<double>& speeds, uint64_t bytes_per_token) {
  subject.report.gain(name, "tokens/s", speeds);
  if (subject.read_rate == 0) return;
  std::vector<double> shares;
  for (const double speed : speeds) shares.push_back(100 * speed * static_cast<double>(bytes_per_token) / subject.read_rate);
  subject.report.gain(name + ", of reading", "%", shares);
}

void report_memory(const Subject& subject, const std::string& name, const Memory& memory) {
  const auto above = [](uint64_t now, uint64_t before) { return (static_cast<double>(now) - static_cast<double>(before)) / kMebi; };
  subject.report.cost(name + ", used above the weights", "MiB", {above(memory.used, subject.used)});
  subject.report.cost(name + ", reserved above the weights", "MiB", {above(memory.reserved, subject.reserved)});
}

void decode(Subject& subject) {
  const auto session = session_with(subject, nullptr);
  ask(subject, *session, 1);  // buffers, and code that is loaded when it is first needed
  std::vector<double> speeds, first;
  for (int i = 0; i < kDecodings; ++i) {
    const Answer answer = ask(subject, *session, subject.size.n_tokens);
    speeds.push_back(tokens_per_second(subject, answer));
    first.push_back(answer.first_seconds);
  }
  report_decoding(subject, "decoding without a document", speeds, subject.size.shape.token_bytes());
  subject.report.cost("first token without a document", "s", first);
}

void document(Subject& subject) {
  const Size& size = subject.size;
  const std::string at = ", " + short_length(size.document);
  std::vector<double> first, index, select, encode, prefill;
  std::shared_ptr<Document> text;
  std::shared_ptr<Session> session;
  double last_seconds = 0;
  for (int i = -1; i < size.n_repeats; ++i) {  // one ahead, which tells what memory it takes
    if (i > 0 && !subject.report.has_time_for(last_seconds)) {
      subject.report.skipped("first token" + at + ": repetitions from " + std::to_string(i));
      break;
    }
    session.reset();
    text.reset();
    Ids ids = fresh_ids(subject, size.document);
    if (i < 0) subject.meter.restart();
    const Stopwatch watch_all;
    text = read(subject, std::move(ids));
    const double index_ms = watch_all.ms();
    session = session_with(subject, text);
    const Answer answer = ask(subject, *session);
    last_seconds = watch_all.ms() / 1000;
    if (i < 0) {
      subject.report.cost("first token" + at + ", of the first document", "s", {last_seconds});
      report_memory(subject, "peak until the first token" + at, subject.meter.peak());
      subject.report.cost("slots injected" + at, "slots", {static_cast<double>(answer.n_slots)});
      subject.report.cost("document" + at, "MiB", {static_cast<double>(text->info().n_bytes) / kMebi});
      continue;
    }
    first.push_back(last_seconds);
    index.push_back(index_ms);
    select.push_back(answer.result.select_ms);
    encode.push_back(answer.result.encode_ms);
    prefill.push_back(answer.result.prefill_ms);
  }
  subject.report.cost("first token" + at, "s", first);
  subject.report.cost("first token" + at + ": indexing", "ms", index);
  subject.report.cost("first token" + at + ": selecting", "ms", select);
  subject.report.cost("first token" + at + ": encoding and placing", "ms", encode);
  subject.report.cost("first token" + at + ": reading the question", "ms", prefill);

  std::vector<double> later;
  for (int i = 0; i < size.n_questions; ++i) later.push_back(ask(subject, *session).first_seconds);
  subject.report.cost("later question" + at, "s", later);

  // Each token also reads the adapter's matrices and the memory: the slots' keys and values, of 16 bits, of the injected layers.
  std::vector<double> speeds;
  uint64_t bytes = 0;
  for (int i = 0; i < kDecodings; ++i) {
    const Answer answer = ask(subject, *session, size.n_tokens);
    speeds.push_back(tokens_per_second(subject, answer));
    const int64_t memory = 4 * answer.n_slots * size.shape.kv_dim() * size.shape.n_injected_layers;
    bytes = size.shape.token_bytes() + size.shape.adapter_bytes() + static_cast<uint64_t>(memory);
  }
  report_decoding(subject, "decoding with the document" + at, speeds, bytes);
}

void full(Subject& subject) {
  const Size& size = subject.size;
  const std::string name = "full attention, " + short_length(size.document);
  std::vector<double> first, speeds;
  double last_seconds = 0;
  for (int i = 0; i < 2; ++i) {
    if (i > 0 && !subject.report.has_time_for(last_seconds)) {
      subject.report.skipped(name + ": a second time");
      break;
    }
    Ids ids = fresh_ids(subject, size.document);
    if (i == 0) subject.meter.restart();
    const Stopwatch watch_all;
    const auto text = read(subject, std::move(ids), Method::kFull);
    const double read_ms = watch_all.ms();
    const auto session = session_with(subject, text, Method::kFull);
    const Answer answer = ask(subject, *session, size.n_tokens);
    last_seconds = watch_all.ms() / 1000;
    first.push_back(read_ms / 1000 + answer.first_seconds);
    speeds.push_back(tokens_per_second(subject, answer));
    if (i == 0) report_memory(subject, "peak of " + name, subject.meter.peak());
  }
  subject.report.cost("first token by " + name, "s", first);
  const uint64_t cache = 4 * static_cast<uint64_t>(size.document) * static_cast<uint64_t>(size.shape.kv_dim() * size.shape.n_layers);
  report_decoding(subject, "decoding by " + name, speeds, size.shape.token_bytes() + cache);
}

void rates(Subject& subject) {
  const Size& size = subject.size;
  const int lengths[] = {size.document, size.long_document};
  std::vector<double> speeds[2];
  double last_seconds = 0;
  for (int i = 0; i < std::max(2, size.n_repeats / 2); ++i) {
    if (i > 0 && !subject.report.has_time_for(last_seconds)) {
      subject.report.skipped("compressing: repetitions from " + std::to_string(i));
      break;
    }
    last_seconds = 0;
    for (size_t which = 0; which < 2; ++which) {  // in turns, so that a busy minute does not hit one of them only
      Ids ids = fresh_ids(subject, lengths[which]);
      if (i == 0) subject.meter.restart();
      const Stopwatch watch_all;
      const auto text = read(subject, std::move(ids));
      const double seconds = watch_all.ms() / 1000;
      last_seconds += seconds;
      speeds[which].push_back(lengths[which] / seconds);
      if (i == 0) report_memory(subject, "peak of compressing, " + short_length(lengths[which]), subject.meter.peak());
    }
  }
  for (size_t which = 0; which < 2; ++which) subject.report.gain("compressing, " + short_length(lengths[which]), "tokens/s", speeds[which]);
  subject.report.gain(
      "compressing, " + short_length(lengths[1]) + " to " + short_length(lengths[0]), "%", {100 * median(speeds[1]) / median(speeds[0])});
}

void many(Subject& subject) {
  const Size& size = subject.size;
  const auto bare = session_with(subject, nullptr);
  const auto run = [&](int n) {
    for (int i = 0; i < n; ++i) {
      const auto text = read(subject, fresh_ids(subject, size.small_document));
      ask(subject, *session_with(subject, text));
    }
    ask(subject, *bare);  // behind the last job, whose document may outlive its answer by a moment
    return subject.meter.now();
  };
  const Memory before = run(3);  // what the engine keeps for the next document is there
  subject.meter.restart();
  const uint64_t reserved_before = subject.meter.now().reserved;
  const Stopwatch watch_all;
  const Memory after = run(size.n_small_documents);
  const double seconds = watch_all.ms() / 1000;
  const std::string name = std::to_string(size.n_small_documents) + " documents of " + short_length(size.small_document);
  subject.report.cost(name + ": left behind", "bytes", {static_cast<double>(after.used) - static_cast<double>(before.used)});
  report_memory(subject, name + ": peak", subject.meter.peak());
  subject.meter.restart();
  subject.report.cost(
      name + ": reserved afterwards", "bytes", {static_cast<double>(subject.meter.now().reserved) - static_cast<double>(reserved_before)});
  subject.report.gain(name, "documents/s", {size.n_small_documents / seconds});
}

void opened(Subject& subject) {
  const Size& size = subject.size;
  const std::string at = ", " + short_length(size.document), file = subject.folder + "/document.banyan";
  {
    const auto text = read(subject, fresh_ids(subject, size.document));
    const Stopwatch watch_all;
    test::save(*text, file);
    subject.report.cost("saving a document" + at, "s", {watch_all.ms() / 1000});
  }
  std::vector<double> opening, first;
  for (int i = 0; i < size.n_repeats; ++i) {
    if (i > 0 && !subject.report.has_time_for(opening.back() + first.back())) {
      subject.report.skipped("opening a document" + at + ": repetitions from " + std::to_string(i));
      break;
    }
    const Stopwatch watch_all;
    const auto text = test::open(subject.model, file);
    opening.push_back(watch_all.ms() / 1000);
    first.push_back(ask(subject, *session_with(subject, text)).first_seconds);
  }
  subject.report.cost("opening a document" + at, "s", opening);
  subject.report.cost("first question after opening" + at, "s", first);
}

}  // namespace

const std::vector<Part>& all_parts() {
  static const std::vector<Part> parts = {
      {"decode", decode}, {"document", document}, {"full", full}, {"rates", rates}, {"many", many}, {"opened", opened}};
  return parts;
}

}  // namespace banyan::bench
