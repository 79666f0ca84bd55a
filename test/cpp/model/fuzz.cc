#include "fuzz.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "base/json.h"
#include "make_files.h"
#include "model/weights.h"

namespace banyan::test {
namespace {

// One file of a model that gets damaged, and the model to open then.
struct Target {
  std::string file;
  LoadPaths paths;
  std::string good;
};

class Targets {
 public:
  Targets() {
    Tiny m = tiny("llama");
    m.n_layers = 1, m.dim = 8, m.ffn_dim = 8, m.n_heads = 2, m.n_kv_heads = 1, m.head_dim = 4, m.vocab_size = 8;
    const std::string gguf = temp_.write("m.gguf", make_gguf_model(m));
    add("m.gguf", {gguf, ""});
    Tiny q = m;
    q.architecture = "qwen3", q.has_qk_norm = true, q.dtype = DType::kF16;
    add("q.gguf", {temp_.write("q.gguf", make_gguf_model(q)), ""});

    Members config = tiny_config(m);
    config["rope_parameters"] = R"({"rope_type":"yarn","factor":4.0,"rope_theta":1e6,"original_max_position_embeddings":128})";
    config.erase("rope_scaling");
    config["num_cross_attn_layers"] = "-1", config["last_p"] = "\"8,8\"", config["segment_tree_depth"] = "2",
    config["encoder_config"] = json_object(tiny_config(m));
    auto tensors = huggingface_tensors(m);
    for (const auto& more : {cross_tensors(m, 1), huggingface_tensors(m, "encoder.", false)}) tensors.insert(tensors.end(), more.begin(), more.end());
    const std::string full = write_huggingface(temp_, "full", config, tensors);
    add("full/config.json", {full, ""});
    add("full/model.safetensors", {full, ""});

    temp_.write("shards/config.json", json_object(tiny_config(m)));
    temp_.write("shards/a.safetensors", make_safetensors(huggingface_tensors(m)));
    temp_.write("shards/model.safetensors.index.json", R"({"weight_map":{"a":"a.safetensors","b":"a.safetensors"}})");
    add("shards/model.safetensors.index.json", {temp_.file("shards"), ""});

    const std::string adapter = write_adapter(temp_, "adapter", adapter_config(m, 1), cross_tensors(m, 1));
    add("adapter/adapter_config.json", {gguf, adapter});
    add("adapter/adapter.safetensors", {gguf, adapter});

    Members nested = adapter_config(m, 1);
    nested["semantics"] = "\"nested\"", nested["positions"] = "\"banded\"", nested["slot_budget"] = "12", nested["budget_unit"] = "\"group\"",
    nested["selection"] = "\"token_keys\"", nested["selection_layer"] = "0", nested["lower"] = "\"lora\"", nested["lora_rank"] = "2",
    nested["lora_alpha"] = "4";
    auto pairs = cross_tensors(m, 1);
    for (const char* role : {"self_attn.q_proj", "self_attn.o_proj"}) {
      const std::string name = std::string("encoder.layers.0.") + role;
      pairs.push_back(make_tensor(name + ".lora_a.weight", DType::kF16, {2, 8}));
      pairs.push_back(make_tensor(name + ".lora_b.weight", DType::kF16, {8, 2}));
    }
    const std::string lora = write_adapter(temp_, "lora", nested, pairs);
    add("lora/adapter_config.json", {gguf, lora});
    add("lora/adapter.safetensors", {gguf, lora});
  }

  size_t count() const { return targets_.size(); }
  const std::string& good(size_t i) const { return targets_[i].good; }

  // True if the model still loads. Anything but Error comes through.
  bool open(size_t i, const std::string& bytes) const {
    temp_.write(targets_[i].file, bytes);
    bool is_loaded = true;
    try {
      ModelFiles::open(targets_[i].paths);
    } catch (const Error&) { is_loaded = false; }
    temp_.write(targets_[i].file, targets_[i].good);
    return is_loaded;
  }

 private:
  void add(const std::string& file, const LoadPaths& paths) { targets_.push_back({file, paths, read_bytes(temp_.file(file))}); }

  TempDirectory temp_;
  std::vector<Target> targets_;
};

using Random = std::mt19937_64;

size_t below(Random& random, size_t n) { return n == 0 ? 0 : static_cast<size_t>(random() % n); }

// Most of the damage goes where the structure is: the header.
size_t somewhere(Random& random, const std::string& bytes) {
  return below(random, random() % 8 == 0 ? bytes.size() : std::min<size_t>(bytes.size(), 4096));
}

void mutate(Random& random, std::string& bytes) {
  constexpr uint64_t kNumbers[] = {0, 1, 2, 3, 7, 8, 9, 31, 32, 33, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
      0xFFFFFFFF, 0x100000000, uint64_t{1} << 40, uint64_t{1} << 61, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, ~uint64_t{0}, ~uint64_t{31}};
  constexpr const char* kWords[] = {"null", "true", "-1", "0", "1e308", "9223372036854775807", "18446744073709551616", "\"\"", "[]", "{}", "[[[[",
      "0.5", "\"../x\"", "\\ud800", ",", "}", "\"", "-0", "1e-400", "\"F8_E4M3\"", "\"I64\"", "\xC3\xA9", "\xFF"};
  const size_t at = somewhere(random, bytes);
  switch (random() % 10) {
    case 0:
      if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
      break;
    case 1:
      if (!bytes.empty()) bytes[at] = static_cast<char>(random());
      break;
    case 2:
    case 3: {  // a number of 1, 2, 4 or 8 bytes
      const std::string number =
          bytes_of(kNumbers[below(random, std::size(kNumbers))] + (random() % 4 == 0 ? random() % 5 - 2 : 0)).substr(0, size_t{1} << random() % 4);
      if (at + number.size() <= bytes.size()) bytes.replace(at, number.size(), number);
      break;
    }
    case 4: bytes.resize(at); break;
    case 5: bytes.erase(at, below(random, 16) + 1); break;
    case 6: bytes.insert(at, bytes.substr(somewhere(random, bytes), below(random, 64))); break;
    case 7: {  // a JSON value after the next colon
      const size_t colon = bytes.find_first_of(":[,", at);
      if (colon == std::string::npos) break;
      const size_t end = bytes.find_first_of(",]}", colon + 1);
      const char* word = kWords[below(random, std::size(kWords))];
      if (end != std::string::npos && random() % 2 == 0) bytes.replace(colon + 1, end - colon - 1, word);
      else bytes.insert(colon + 1, word);
      break;
    }
    case 8: {  // a decimal digit
      const size_t digit = bytes.find_first_of("0123456789", at);
      if (digit != std::string::npos) bytes[digit] = static_cast<char>('0' + random() % 10);
      break;
    }
    case 9: {  // two pieces change places
      const size_t n = below(random, 32) + 1, other = somewhere(random, bytes);
      if (at + n <= bytes.size() && other + n <= bytes.size()) {
        const std::string piece = bytes.substr(at, n);
        bytes.replace(at, n, bytes.substr(other, n));
        bytes.replace(other, n, piece);
      }
      break;
    }
  }
  // keep the length of a safetensors header true now and then, or nothing behind it is ever reached
  if (bytes.size() > 9 && bytes[8] == '{' && random() % 2 == 0) {
    const size_t end = bytes.find("}}", 8);
    if (end != std::string::npos) bytes.replace(0, 8, bytes_of<uint64_t>(end + 2 - 8));
  }
}

}  // namespace

int run_fuzz(uint64_t n_iterations, uint64_t seed) {
  const Targets targets;
  std::vector<uint64_t> n_loaded(targets.count()), n_tried(targets.count());
  int n_bad = 0;
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t i = 0; i < n_iterations; ++i) {
    Random random(seed * 1'000'003 + i);  // any one iteration can be repeated
    const size_t target = below(random, targets.count());
    std::string bytes = targets.good(target);
    for (uint64_t n = random() % 6 + 1; n > 0; --n) mutate(random, bytes);
    ++n_tried[target];
    if ((i + 1) % 10'000 == 0)
      std::fprintf(stderr, "%llu of %llu\n", static_cast<unsigned long long>(i + 1), static_cast<unsigned long long>(n_iterations));
    try {
      if (targets.open(target, bytes)) ++n_loaded[target];
    } catch (const std::exception& error) {
      std::printf("seed %llu, iteration %llu, target %zu: %s\n", static_cast<unsigned long long>(seed), static_cast<unsigned long long>(i), target,
          error.what());
      ++n_bad;
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (size_t i = 0; i < targets.count(); ++i) {
    std::printf(
        "target %zu: %llu tried, %llu loaded\n", i, static_cast<unsigned long long>(n_tried[i]), static_cast<unsigned long long>(n_loaded[i]));
  }
  std::printf("%llu iterations in %.1f s, %d bad\n", static_cast<unsigned long long>(n_iterations), seconds, n_bad);
  return n_bad == 0 ? 0 : 1;
}

}  // namespace banyan::test

// For libFuzzer: build this file, make_files.cc and the readers with -fsanitize=fuzzer, without main.cc. The first byte names the file to replace.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n_bytes) {
  static const banyan::test::Targets targets;
  if (n_bytes == 0) return 0;
  targets.open(data[0] % targets.count(), std::string(reinterpret_cast<const char*>(data) + 1, n_bytes - 1));
  return 0;
}
