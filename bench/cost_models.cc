// bench cost models: what two other ways of reading a long document cost on the same model, composed of the engine's own layers and ops. Their
// extra weights are random: this measures time, memory and multiply-adds, NOT quality; the answers mean nothing.
//   cepe    cost/encoder_decoder.h
//   beacon  cost/beacon_model.h
// As in the engine, the last layer computes only what is read. One line of JSON. Counted multiply-adds must equal a closed formula.
// Usage: banyan_cost_models_bench cepe|beacon --model DIR [--length N] [--prompt N] [--tokens N] [--threads N]
//            [--encoder-layers N] [--encoder-width N]
#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/resource.h>
#endif

#include "cost/beacon_model.h"
#include "cost/encoder_decoder.h"

using namespace banyan;
using namespace banyan::bench;

namespace {

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// "VmHWM" (the most that ever was resident) or "VmRSS" (now), bytes. getrusage, the fallback, also counts what the parent had before this program
// began.
uint64_t resident_bytes(const char* field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.compare(0, std::strlen(field), field) == 0) return 1024 * std::strtoull(line.c_str() + std::strlen(field) + 1, nullptr, 10);
  }
#if defined(__unix__) || defined(__APPLE__)
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
#if defined(__APPLE__)
  return static_cast<uint64_t>(usage.ru_maxrss);
#else
  return 1024 * static_cast<uint64_t>(usage.ru_maxrss);
#endif
#else
  return 0;
#endif
}
struct Options {
  std::string what, model;
  int length = 4096, prompt = 512, tokens = 16, threads = 0, encoder_layers = 0, encoder_width = 0;
};

int measure(const Options& options) {
  LoadOptions load;
  load.paths = LoadPaths(options.model);
  load.n_threads = options.threads;
  Engine engine(ModelFiles::open(load.paths), make_cpu_device(options.threads, ""), load);
  const ModelConfig& c = engine.upper.config;
  const int n_local = options.prompt + options.tokens;
  std::unique_ptr<CostModel> model;
  if (options.what == "cepe") {
    model = std::make_unique<EncoderDecoder>(engine, options.encoder_layers > 0 ? options.encoder_layers : std::max(1, c.n_layers / 2),
        options.encoder_width > 0 ? options.encoder_width : c.dim, n_local);
  } else {
    model = std::make_unique<BeaconModel>(engine, n_local);
  }
  Stream s = engine.device->stream();
  model->answer(s, {0}, false);  // the model's file is in memory before anything is measured
  const uint64_t loaded_bytes = resident_bytes("VmRSS");

  RandomWeights random;
  const std::vector<int32_t> document = random.ids(options.length, c.vocab_size), first = random.ids(options.prompt, c.vocab_size),
                             second = random.ids(options.prompt, c.vocab_size);
  const auto n_prompt = static_cast<uint64_t>(options.prompt);
  uint64_t before = s.multiply_adds;
  const auto counted = [&] { return s.multiply_adds - std::exchange(before, s.multiply_adds); };

  double start = seconds_now();
  model->read_document(s, document);
  model->answer(s, first, false);
  const double first_seconds = seconds_now() - start;
  const uint64_t first_cost = counted(), first_formula = model->document_cost(document.size()) + model->local_cost(n_prompt, 0);
  start = seconds_now();
  int32_t id = model->answer(s, second, false);
  const double second_seconds = seconds_now() - start;
  const uint64_t second_cost = counted(), second_formula = model->local_cost(n_prompt, 0);
  start = seconds_now();
  uint64_t decode_formula = 0;
  for (int i = 0; i < options.tokens; ++i) {
    decode_formula += model->local_cost(1, n_prompt + static_cast<uint64_t>(i));
    id = model->answer(s, {id}, true);
  }
  const double decode_seconds = seconds_now() - start;
  const uint64_t decode_cost = counted();

  const int n_tokens = std::max(1, options.tokens);
  std::printf("{\"firstSeconds\":%.6f,\"secondSeconds\":%.6f,\"tokensPerSecond\":%.3f,\"loadedBytes\":%" PRIu64 ",\"peakBytes\":%" PRIu64
              ",\"firstMultiplyAdds\":%" PRIu64 ",\"secondMultiplyAdds\":%" PRIu64 ",\"tokenMultiplyAdds\":%" PRIu64 ",\"formula\":[%" PRIu64
              ",%" PRIu64 ",%" PRIu64 "],\"device\":\"%s\",\"quality\":\"not measured: extra weights are random\"}\n",
      first_seconds, second_seconds, options.tokens / decode_seconds, loaded_bytes, resident_bytes("VmHWM"), first_cost, second_cost,
      decode_cost / static_cast<uint64_t>(n_tokens), first_formula, second_formula, decode_formula / static_cast<uint64_t>(n_tokens),
      engine.device->name().c_str());
  if (first_cost == first_formula && second_cost == second_formula && decode_cost == decode_formula) return 0;
  std::fprintf(stderr, "banyan_cost_models_bench: counted multiply-adds differ from the closed formula\n");
  return 1;
}

}  // namespace

int main(int n_args, char** args) {
  Options options;
  if (n_args > 1) options.what = args[1];
  for (int i = 2; i + 1 < n_args; i += 2) {
    const std::string name = args[i];
    if (name == "--model") options.model = args[i + 1];
    if (name == "--length") options.length = std::atoi(args[i + 1]);
    if (name == "--prompt") options.prompt = std::max(1, std::atoi(args[i + 1]));
    if (name == "--tokens") options.tokens = std::max(1, std::atoi(args[i + 1]));
    if (name == "--threads") options.threads = std::atoi(args[i + 1]);
    if (name == "--encoder-layers") options.encoder_layers = std::atoi(args[i + 1]);
    if (name == "--encoder-width") options.encoder_width = std::atoi(args[i + 1]);
  }
  if ((options.what != "cepe" && options.what != "beacon") || options.model.empty()) {
    std::fprintf(stderr,
        "usage: banyan_cost_models_bench cepe|beacon --model DIR [--length N] [--prompt N] [--tokens N] [--threads N]\n"
        "  cepe also takes [--encoder-layers N] (default: half of the model's) [--encoder-width N] (default: the model's)\n");
    return 2;
  }
  try {
    return measure(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "banyan_cost_models_bench: %s\n", error.what());
    return 1;
  }
}
