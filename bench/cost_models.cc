// bench cost models: what two other ways of reading a long document cost on the same model, composed of the engine's own layers and ops. Their
// extra weights are random: this measures time, memory and multiply-adds, NOT quality; the answers mean nothing.
//   cepe    encoder-decoder in the style of CEPE (arXiv 2402.16617): an encoder of its own reads chunks of 256 tokens, each token seeing its whole
//           chunk; its last hidden states become keys and values of every decoder layer, which all local tokens attend to (no positions there).
//   beacon  streaming condensation in the style of Activation Beacon (arXiv 2401.03462): windows of 1024 tokens are read one after the other, each
//           with beacon tokens (one for 8) at its end that have projections of their own; only keys and values of beacons stay, in all layers.
// As in the engine, the last layer computes only what is read. One line of JSON. Counted multiply-adds must equal a closed formula.
// Usage: banyan_cost_models_bench cepe|beacon --model DIR [--length N] [--prompt N] [--tokens N] [--threads N]
//            [--encoder-layers N] [--encoder-width N]
#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/resource.h>
#endif

#include "base/half.h"
#include "engine/cache.h"
#include "engine/engine.h"

using namespace banyan;

namespace {

constexpr int kEncoderChunk = 256;  // tokens, CEPE's
constexpr int kWindow = 1024;       // tokens read between two condensations
constexpr int kRatio = 8;           // tokens a beacon stands for
constexpr int kPieceTokens = 256;   // of one slice of prefill, as in the engine's readers

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

std::vector<int32_t> count_from(int first, int n) {
  std::vector<int32_t> numbers(static_cast<size_t>(n));
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

// ---- random weights ----

class RandomWeights {
 public:
  // F16, as small as a trained matrix of this width.
  WeightView matrix(int64_t n_rows, int64_t n_cols) {
    std::vector<uint16_t>& memory = matrices_.emplace_back(static_cast<size_t>(n_rows * n_cols));
    const float scale = 1.0f / std::sqrt(static_cast<float>(n_cols));
    for (uint16_t& value : memory) value = f32_to_f16((static_cast<float>(state_ >> 8) * 0x1p-23f - 1) * scale), next();
    return {memory.data(), DType::kF16, n_rows, n_cols};
  }
  const float* ones(int n) { return vectors_.emplace_back(static_cast<size_t>(n), 1.0f).data(); }
  std::vector<int32_t> ids(int n, int n_vocabulary) {
    std::vector<int32_t> ids(static_cast<size_t>(n));
    for (int32_t& id : ids) id = static_cast<int32_t>((state_ >> 8) % static_cast<uint32_t>(n_vocabulary)), next();
    return ids;
  }

 private:
  void next() { state_ = state_ * 1664525 + 1013904223; }
  uint32_t state_ = 1;
  std::deque<std::vector<uint16_t>> matrices_;
  std::deque<std::vector<float>> vectors_;
};

DecoderWeights random_decoder(RandomWeights& random, const ModelConfig& c) {
  const int64_t q_dim = int64_t{c.n_heads} * c.head_dim, kv_dim = int64_t{c.n_kv_heads} * c.head_dim;
  DecoderWeights weights;
  weights.embedding = random.matrix(c.vocab_size, c.dim);
  for (int i = 0; i < c.n_layers; ++i) {
    LayerWeights layer;
    layer.attn_norm = random.ones(c.dim);
    layer.q = random.matrix(q_dim, c.dim);
    layer.k = random.matrix(kv_dim, c.dim);
    layer.v = random.matrix(kv_dim, c.dim);
    layer.o = random.matrix(c.dim, q_dim);
    layer.mlp_norm = random.ones(c.dim);
    layer.gate = random.matrix(c.ffn_dim, c.dim);
    layer.up = random.matrix(c.ffn_dim, c.dim);
    layer.down = random.matrix(c.dim, c.ffn_dim);
    weights.layers.push_back(layer);
  }
  weights.final_norm = random.ones(c.dim);
  return weights;
}

// ---- closed formulas ----

// Multiply-adds of a decoder, by what its rows see.
struct Cost {
  explicit Cost(const ModelConfig& c)
      : layers(static_cast<uint64_t>(c.n_layers)),
        dim(static_cast<uint64_t>(c.dim)),
        q_dim(static_cast<uint64_t>(c.n_heads * c.head_dim)),
        kv_dim(static_cast<uint64_t>(c.n_kv_heads * c.head_dim)),
        ffn(static_cast<uint64_t>(c.ffn_dim)),
        vocabulary(static_cast<uint64_t>(c.vocab_size)) {}
  uint64_t keys() const { return 2 * dim * kv_dim; }                 // keys and values of a row
  uint64_t rest() const { return 2 * dim * q_dim + 3 * dim * ffn; }  // everything else of a row's layer, attention aside
  uint64_t cross(uint64_t slots) const { return 2 * dim * q_dim + 2 * slots * q_dim; }
  uint64_t seen(uint64_t pairs) const { return 2 * pairs * q_dim; }
  // n local tokens behind `past` rows, the last of which gives logits; each layer also attends to `slots` rows if has_cross.
  uint64_t local(uint64_t n, uint64_t past, bool has_cross, uint64_t slots) const {
    const uint64_t more = has_cross ? cross(slots) : 0, pairs = n * past + n * (n + 1) / 2;
    const uint64_t below = (layers - 1) * (n * (keys() + rest() + more) + seen(pairs));
    return below + n * keys() + rest() + seen(past + n) + more + vocabulary * dim;
  }
  uint64_t layers, dim, q_dim, kv_dim, ffn, vocabulary;
};

// ---- the models ----

// A decoder with a cache, which both read their local tokens with.
class CostModel {
 public:
  CostModel(Engine& engine, const Decoder& other, int n_local)
      : e_(engine),
        a_(*engine.device, engine.upper, other),
        cache_(*engine.device, engine.upper, engine.kv_dtype),
        n_local_(n_local),
        indices_(*engine.device),
        logits_(*engine.device) {}
  virtual ~CostModel() = default;
  virtual void read_document(Stream& s, const std::vector<int32_t>& ids) = 0;
  virtual uint64_t document_cost(uint64_t n) const = 0;
  virtual uint64_t local_cost(uint64_t n, uint64_t n_before) const = 0;  // behind n_before local tokens

  // Logits' best token; begins anew behind the document unless `goes_on`.
  int32_t answer(Stream& s, const std::vector<int32_t>& ids, bool goes_on) {
    if (!goes_on) n_past_ = n_document_rows_;
    for (size_t at = 0; at < ids.size(); at += kPieceTokens) {
      const auto n = static_cast<int>(std::min<size_t>(kPieceTokens, ids.size() - at));
      run(s, {ids.begin() + static_cast<std::ptrdiff_t>(at), ids.begin() + static_cast<std::ptrdiff_t>(at) + n}, 0,
          at + static_cast<size_t>(n) == ids.size());
      n_past_ += n;
    }
    const ModelConfig& c = e_.upper.config;
    logits_.reserve(static_cast<size_t>(c.vocab_size) * sizeof(float));
    norm(s, {a_.normed.as<float>(), a_.x.as<float>(), e_.upper.weights.final_norm, 1, c.dim, c.norm_eps});
    gemm(s, {logits_.as<float>(), a_.normed.as<float>(), e_.upper.weights.head, nullptr, 1, false});
    e_.device->sync();
    const float* logits = logits_.as<float>();
    return static_cast<int32_t>(std::max_element(logits, logits + c.vocab_size) - logits);
  }

 protected:
  void put(Stream& s, const KvView& to, const int32_t* rows, const float* k, const float* v, int n) const {
    const ModelConfig& c = e_.upper.config;
    store(s, {to.k, to.dtype, to.row_stride, to.head_stride, k, rows, n, c.n_kv_heads, c.head_dim});
    store(s, {to.v, to.dtype, to.row_stride, to.head_stride, v, rows, n, c.n_kv_heads, c.head_dim});
  }

  // Rows n_past_, n_past_ + 1, ... of the cache. The last n_condensed have the beacons' projections and are kept in row n_document_rows_ and behind,
  // where they go once nobody looks at what lies there. `is_last`: the last row's hidden state is wanted, else nothing of the last layer.
  void run(Stream& s, const std::vector<int32_t>& ids, int n_condensed, bool is_last) {
    const ModelConfig& c = e_.upper.config;
    const auto n = static_cast<int>(ids.size());
    a_.reserve(n);
    cache_.reserve(s, std::max(n_past_ + n, n_document_rows_ + n_local_), n_past_);
    indices_.clear();
    std::vector<int32_t> ends = count_from(n_past_ + 1, n);
    const size_t ids_at = indices_.add(ids), rows_at = indices_.add(count_from(n_past_, n)), numbers_at = indices_.add(count_from(0, n)),
                 kept_at = indices_.add(count_from(n_document_rows_, n_condensed)), end_at = indices_.add(ends),
                 zeros_at = indices_.add(std::vector<int32_t>(static_cast<size_t>(n)));
    indices_.upload();
    const int32_t *rows = indices_.at(rows_at), *end = indices_.at(end_at), *zeros = indices_.at(zeros_at);
    const auto n_pairs = static_cast<uint64_t>(std::accumulate(ends.begin(), ends.end(), int64_t{0}));
    const int first_condensed = n - n_condensed;
    const size_t skipped = static_cast<size_t>(first_condensed) * static_cast<size_t>(e_.upper.kv_dim());

    embed(s, {a_.x.as<float>(), e_.upper.weights.embedding, indices_.at(ids_at), n});
    for (int i = 0; i < c.n_layers; ++i) {
      const Layer layer(e_.upper, i, {nullptr, n_condensed > 0 ? &beacons_[static_cast<size_t>(i)] : nullptr, n_condensed});
      const KvView kv = cache_.layer(i);
      layer.keys_values(s, a_, n);
      if (n_condensed > 0) {  // their keys will turn to where they are kept
        gather(s, {a_.moved.as<float>(), a_.k.as<float>() + skipped, DType::kF32, indices_.at(numbers_at), n_condensed, e_.upper.kv_dim()});
        layer.rotate_keys(s, a_.moved.as<float>(), indices_.at(kept_at), n_condensed);
      }
      layer.rotate_keys(s, a_.k.as<float>(), rows, n);
      put(s, kv, rows, a_.k.as<float>(), a_.v.as<float>(), n);
      const bool is_top = i == c.n_layers - 1;
      if (!is_top) {
        layer.attention(s, a_, kv, {n, nullptr, rows, zeros, end, n_pairs});
        cross(s, layer, i, zeros, n);
        layer.mlp(s, a_, n);
      } else if (is_last) {
        layer.attention(s, a_, kv, {1, indices_.at(numbers_at) + n - 1, rows + n - 1, zeros, end + n - 1, static_cast<uint64_t>(ends.back())});
        cross(s, layer, i, zeros, 1);
        layer.mlp(s, a_, 1);
      }
      if (n_condensed > 0) put(s, kv, indices_.at(kept_at), a_.moved.as<float>(), a_.v.as<float>() + skipped, n_condensed);
    }
    e_.device->sync();
  }

  virtual void cross(Stream&, const Layer&, int /*index*/, const int32_t* /*zeros*/, int /*n*/) {}

  Engine& e_;
  Activations a_;
  Cache cache_;
  const int n_local_;
  int n_document_rows_ = 0, n_past_ = 0;
  std::vector<CandidateWeights> beacons_;
  RandomWeights random_;

 private:
  IndexTable indices_;
  Buffer logits_;
};

// Made before the rest of an EncoderDecoder.
struct Encoder {
  Encoder(Device& device, const ModelConfig& upper, int n_layers, int width) {
    config = upper;
    config.n_layers = n_layers;
    config.dim = width;
    config.n_heads = std::max(1, upper.n_heads * width / upper.dim);
    config.n_kv_heads = std::max(1, upper.n_kv_heads * width / upper.dim);
    config.ffn_dim = upper.ffn_dim * width / upper.dim;
    check_config(config, "the encoder", Code::kInvalidArgument);
    weights = random_decoder(random, config);
    decoder = std::make_unique<Decoder>(device, config, weights);
  }
  RandomWeights random;
  ModelConfig config;
  DecoderWeights weights;
  std::unique_ptr<Decoder> decoder;
};

class EncoderDecoder : Encoder, public CostModel {
 public:
  EncoderDecoder(Engine& engine, int n_encoder_layers, int width, int n_local)
      : Encoder(*engine.device, engine.upper.config, n_encoder_layers, width), CostModel(engine, *decoder, n_local), indices_(*engine.device) {
    const ModelConfig& c = e_.upper.config;
    const int64_t q_dim = engine.upper.q_dim(), kv_dim = engine.upper.kv_dim();
    for (int i = 0; i < c.n_layers; ++i) {
      cross_.push_back({random_.ones(c.dim), random_.matrix(q_dim, c.dim), random_.matrix(c.dim, q_dim)});
      k_.push_back(random_.matrix(kv_dim, width));
      v_.push_back(random_.matrix(kv_dim, width));
    }
  }

  void read_document(Stream& s, const std::vector<int32_t>& ids) override {
    const auto n_all = static_cast<int>(ids.size());
    memory_ = std::make_unique<Cache>(*e_.device, e_.upper, e_.kv_dtype);
    memory_->reserve(s, n_all, 0);
    n_slots_ = n_all;
    const int n_batch = e_.batch_rows.encode / kEncoderChunk * kEncoderChunk;
    for (int at = 0; at < n_all; at += n_batch) encode(s, {ids.begin() + at, ids.begin() + std::min(n_all, at + n_batch)}, at);
    n_document_rows_ = 0;
  }

  uint64_t document_cost(uint64_t n) const override {
    const Cost encoder(config), upper(e_.upper.config);
    const uint64_t rest = n % kEncoderChunk, pairs = n / kEncoderChunk * kEncoderChunk * kEncoderChunk + rest * rest;
    return encoder.layers * (n * (encoder.keys() + encoder.rest()) + encoder.seen(pairs)) + upper.layers * n * 2 * encoder.dim * upper.kv_dim;
  }
  uint64_t local_cost(uint64_t n, uint64_t n_before) const override {
    return Cost(e_.upper.config).local(n, n_before, true, static_cast<uint64_t>(n_slots_));
  }

 private:
  void encode(Stream& s, const std::vector<int32_t>& ids, int first) {
    const auto n = static_cast<int>(ids.size());
    a_.reserve(n);
    std::vector<int32_t> positions, begins, ends;
    uint64_t n_pairs = 0;
    for (int t = 0; t < n; ++t) {
      begins.push_back(t / kEncoderChunk * kEncoderChunk);
      ends.push_back(std::min(n, begins.back() + kEncoderChunk));
      positions.push_back(t - begins.back());
      n_pairs += static_cast<uint64_t>(ends.back() - begins.back());
    }
    indices_.clear();
    const size_t ids_at = indices_.add(ids), positions_at = indices_.add(positions), begin_at = indices_.add(begins), end_at = indices_.add(ends),
                 rows_at = indices_.add(count_from(first, n));
    indices_.upload();
    embed(s, {a_.x.as<float>(), weights.embedding, indices_.at(ids_at), n});
    for (int i = 0; i < config.n_layers; ++i) {
      const Layer layer(*decoder, i);
      layer.keys_values(s, a_, n);
      layer.rotate_keys(s, a_.k.as<float>(), indices_.at(positions_at), n);
      const KvView kv{a_.k.as<float>(), a_.v.as<float>(), DType::kF32, decoder->kv_dim(), config.head_dim};
      layer.attention(s, a_, kv, {n, nullptr, indices_.at(positions_at), indices_.at(begin_at), indices_.at(end_at), n_pairs});
      layer.mlp(s, a_, n);
    }
    norm(s, {a_.normed.as<float>(), a_.x.as<float>(), weights.final_norm, n, config.dim, config.norm_eps});
    for (int i = 0; i < e_.upper.config.n_layers; ++i) {
      gemm(s, {a_.k.as<float>(), a_.normed.as<float>(), k_[static_cast<size_t>(i)], nullptr, n, false});
      gemm(s, {a_.v.as<float>(), a_.normed.as<float>(), v_[static_cast<size_t>(i)], nullptr, n, false});
      put(s, memory_->layer(i), indices_.at(rows_at), a_.k.as<float>(), a_.v.as<float>(), n);
    }
    e_.device->sync();
  }

  void cross(Stream& s, const Layer& layer, int index, const int32_t* zeros, int n) override {
    if (n_slots_ == 0) return;
    const ModelConfig& c = e_.upper.config;
    const InjectionView view{.n = n,
        .kv = memory_->layer(index),
        .n_slots = n_slots_,
        .positions = zeros,
        .inv_freq = e_.upper.rotation.inv_freq.as<float>(),
        .is_interleaved = c.rope.is_interleaved,
        .n_kv_heads = c.n_kv_heads};
    layer.injection(s, a_, cross_[static_cast<size_t>(index)], {&view, 1}, n);
  }

  std::vector<CrossWeights> cross_;
  std::vector<WeightView> k_, v_;  // [G*C, width] of each layer
  std::unique_ptr<Cache> memory_;  // keys and values of all document tokens for every layer
  int n_slots_ = 0;
  IndexTable indices_;
};

class BeaconModel : public CostModel {
 public:
  BeaconModel(Engine& engine, int n_local) : CostModel(engine, engine.upper, n_local) {
    const int64_t dim = engine.upper.config.dim, q_dim = engine.upper.q_dim(), kv_dim = engine.upper.kv_dim();
    for (int i = 0; i < engine.upper.config.n_layers; ++i) {
      beacons_.push_back({random_.matrix(q_dim, dim), random_.matrix(kv_dim, dim), random_.matrix(kv_dim, dim), random_.matrix(dim, q_dim)});
    }
  }

  void read_document(Stream& s, const std::vector<int32_t>& ids) override {
    n_document_rows_ = 0;
    const auto n_all = static_cast<int>(ids.size());
    cache_.reserve(s, n_beacons(n_all) + kWindow + kWindow / kRatio + n_local_, 0);
    for (int at = 0; at < n_all; at += kWindow) {
      const int n = std::min(kWindow, n_all - at), n_condensed = n_beacons(n);
      n_past_ = n_document_rows_;
      for (int done = 0; done < n;) {
        const int n_piece = std::min(e_.batch_rows.encode, n - done);
        std::vector<int32_t> piece(ids.begin() + at + done, ids.begin() + at + done + n_piece);
        done += n_piece;
        const bool is_end = done == n;
        if (is_end) piece.insert(piece.end(), static_cast<size_t>(n_condensed), 0);  // any token: its embedding is theirs
        run(s, piece, is_end ? n_condensed : 0, false);
        n_past_ += static_cast<int>(piece.size());
      }
      n_document_rows_ += n_condensed;
    }
  }

  uint64_t document_cost(uint64_t n_all) const override {
    const Cost c(e_.upper.config);
    uint64_t past = 0, cost = 0;
    for (uint64_t at = 0; at < n_all; at += kWindow) {
      const uint64_t n_tokens = std::min<uint64_t>(kWindow, n_all - at), n_kept = static_cast<uint64_t>(n_beacons(static_cast<int>(n_tokens)));
      const uint64_t n = n_tokens + n_kept;
      cost += c.layers * n * c.keys() + (c.layers - 1) * (n * c.rest() + c.seen(n * past + n * (n + 1) / 2));
      past += n_kept;
    }
    return cost;
  }
  uint64_t local_cost(uint64_t n, uint64_t n_before) const override {
    return Cost(e_.upper.config).local(n, static_cast<uint64_t>(n_document_rows_) + n_before, false, 0);
  }

 private:
  static int n_beacons(int n_tokens) { return (n_tokens + kRatio - 1) / kRatio; }
};

// ---- measuring ----

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
