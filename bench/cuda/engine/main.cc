// banyan_engine_bench: what the engine costs on a model of a real shape with random weights: decoding, a long document and questions about it, the same
// ids by full attention, a very long document, a thousand small ones, a saved one. JSON lines: what runs where, then every quantity with all its
// samples, as bench/result_file.ts has them. bench/cuda/run.sh builds and runs it, peers_engine.py measures transformers on the same shape.
//   banyan_engine_bench FOLDER [--size 8b|1b|small] [--device cpu|cuda] [--threads N] [--parts decode,document,full,rates,many,opened] [--seconds N]
//     [--document N] [--long-document N] [--question N] [--tokens N] [--small-documents N] [--small-document N] [--repeats N] [--questions N]
// The model is written to FOLDER (8b: 16 GB) unless it is there. After --seconds a running job is ended; what was measured until then is printed.
// Exit code 1: a part failed; the others still ran.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "parts.h"
#include "random_model.h"

using namespace banyan;
using namespace banyan::bench;

namespace {

struct Options {
  std::string folder, device = "cuda", parts;
  Size size = size_of("8b");
  int threads = 0, seconds = 480;
};

int number_of(const std::string& name, const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0)
    throw Error(Code::kInvalidArgument, name + " must be a whole number, got " + text);
  return value;
}

Options parse(int n_args, char** args) {
  Options options;
  if (n_args < 2 || n_args % 2 != 0 || args[1][0] == '-')
    throw Error(Code::kInvalidArgument, "name a folder for the model, then pairs of --name value");
  options.folder = args[1];
  Size& size = options.size;
  for (int i = 2; i < n_args; i += 2) {  // the size first: the other options change it
    if (std::strcmp(args[i], "--size") == 0) size = size_of(args[i + 1]);
  }
  const std::map<std::string, int*> numbers = {{"--threads", &options.threads}, {"--seconds", &options.seconds}, {"--document", &size.document},
      {"--long-document", &size.long_document}, {"--question", &size.question}, {"--tokens", &size.n_tokens},
      {"--small-documents", &size.n_small_documents}, {"--small-document", &size.small_document}, {"--repeats", &size.n_repeats},
      {"--questions", &size.n_questions}};
  for (int i = 2; i < n_args; i += 2) {
    const std::string name = args[i], value = args[i + 1];
    if (name == "--device") options.device = value;
    else if (name == "--parts") options.parts = value;
    else if (const auto found = numbers.find(name); found != numbers.end()) *found->second = number_of(name, value);
    else if (name != "--size") throw Error(Code::kInvalidArgument, "unknown option " + name);
  }
  if (std::min({size.document, size.long_document, size.question, size.n_tokens, size.n_small_documents, size.small_document, size.n_repeats,
          size.n_questions}) < 1)
    throw Error(Code::kInvalidArgument, "lengths and counts must be at least 1");
  return options;
}

std::vector<Part> parts_of(const std::string& names) {
  if (names.empty()) return all_parts();
  std::vector<Part> parts;
  for (size_t at = 0; at <= names.size();) {
    const size_t end = std::min(names.find(',', at), names.size());
    const std::string name = names.substr(at, end - at);
    const auto found = std::find_if(all_parts().begin(), all_parts().end(), [&](const Part& part) { return part.name == name; });
    if (found == all_parts().end()) throw Error(Code::kInvalidArgument, "--parts: there is no part " + name);
    parts.push_back(*found);
    at = end + 1;
  }
  return parts;
}

void describe(Report& report, const Options& options, const Model& model) {
  const Size& size = options.size;
  const Shape& s = size.shape;
  JsonWriter line;
  line.begin_object()
      .key("bench")
      .string("engine")
      .key("device")
      .string(model.info().device)
      .key("flags")
      .begin_object()
      .key("size")
      .string(size.name);
  const std::pair<const char*, int> numbers[] = {{"document", size.document}, {"longDocument", size.long_document}, {"question", size.question},
      {"tokens", size.n_tokens}, {"smallDocuments", size.n_small_documents}, {"smallDocument", size.small_document}};
  for (const auto& [key, value] : numbers) line.key(key).integer(value);
  line.end_object().key("shape").begin_object();
  const std::pair<const char*, int> shape[] = {{"layers", s.n_layers}, {"dim", s.dim}, {"heads", s.n_heads}, {"kvHeads", s.n_kv_heads},
      {"headDim", s.head_dim}, {"ffn", s.ffn_dim}, {"vocab", s.vocab_size}, {"injectedLayers", s.n_injected_layers}, {"chunkSize", s.chunk_size},
      {"depth", s.depth}, {"slots", s.n_slots}};
  for (const auto& [key, value] : shape) line.key(key).integer(value);
  report.print(line.key("isTied").boolean(s.is_tied).end_object().end_object());
}

// Whether all parts ran, or ended because the time was up.
bool run(const Options& options) {
  const std::vector<Part> parts = parts_of(options.parts);
  Report report(options.seconds);
  const std::unique_ptr<Meter> meter = options.device == "cuda" ? make_cuda_meter() : make_host_meter();
  const LoadPaths paths = write_random_model(options.folder, options.size.shape, 2 * static_cast<int64_t>(options.size.long_document));
  const double written = report.seconds(), read_rate = meter->read_rate();
  if (read_rate > 0) report.gain("reading", "GB/s", {read_rate / 1e9});

  LoadOptions load;
  load.paths = paths;
  load.device = options.device;
  load.n_threads = options.threads;
  const double begin = report.seconds();
  const std::shared_ptr<Model> model = Model::load(load);
  describe(report, options, *model);
  report.cost("writing the model", "s", {written});
  report.cost("loading the model", "s", {report.seconds() - begin});
  meter->restart();
  const Memory loaded = meter->now();
  report.cost("weights", "MiB", {static_cast<double>(loaded.used) / (1 << 20)});

  Subject subject{*model, options.size, options.folder, *meter, report, read_rate, loaded.used, loaded.reserved};
  bool is_good = true;
  for (const Part& part : parts) {
    if (report.is_over()) {
      report.skipped(part.name);
      continue;
    }
    const double part_begin = report.seconds();
    try {
      part.measure(subject);
      report.cost(std::string("part ") + part.name, "s", {report.seconds() - part_begin});
    } catch (const Error& error) {
      report.skipped(std::string(part.name) + ", from here on: " + (error.code == Code::kAborted ? "the time was up" : error.what()));
      is_good = is_good && error.code == Code::kAborted;
    }
  }
  return is_good;
}

}  // namespace

int main(int n_args, char** args) {
  try {
    return run(parse(n_args, args)) ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "banyan_engine_bench: %s\n", error.what());
    return 2;
  }
}
