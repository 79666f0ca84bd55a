// toy: small random models, written as the files that Model::load reads, or handed to an engine in memory.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "banyan.h"
#include "engine/engine.h"

namespace banyan::test {

struct Matrix {
  int rows = 0, cols = 0;
  std::vector<float> data;
};

struct Shape {
  int n_layers = 4, dim = 24, ffn_dim = 40, n_heads = 4, n_kv_heads = 2, head_dim = 6;
  double theta = 10000;
  std::string family = "llama";  // qwen2: biases of q, k, v; qwen3: norms of q and k heads
  int sliding_window = 0;        // mistral
  bool is_interleaved = false;   // in memory only
  bool has_qkv_bias() const { return family == "qwen2"; }
  bool has_qk_norm() const { return family == "qwen3"; }
};

struct Block {
  std::vector<float> attn_norm, mlp_norm, q_bias, k_bias, v_bias, q_norm, k_norm;
  Matrix q, k, v, o, gate, up, down;
};

struct Net {
  Shape shape;
  Matrix embedding, head;
  std::vector<Block> layers;
  std::vector<float> final_norm;
};

struct Cross {
  std::vector<float> norm;
  Matrix q, o;
};

struct Candidate {
  Matrix q, k, v, o;
};

// FocusLLM: which projections have a copy of the candidate's own.
struct FocusSpec {
  bool has_q = true, has_k = true, has_v = true, has_o = true;
  int chunk_size = 16, query_cap = 512;
};

struct ToySpec {
  Shape upper;
  std::optional<Shape> lower;  // absent: the upper model's own layers
  int lora_rank = 0;           // of the pairs that the lower model's layers add to the upper's; 0: none
  double lora_alpha = 3;
  int vocab = 61, n_injected = 2, depth = 3, chunk_size = 16;
  std::string last_p = "2";
  Semantics semantics = Semantics::kPaper;
  SlotKind slot_kind = SlotKind::kStrided;
  bool do_retrieval = true;
  SelectionRule selection = SelectionRule::kCosine;
  int selection_layer = 0;
  std::vector<int> selection_heads;  // empty: all
  Positions positions = Positions::kSum;
  int64_t slot_budget = 0;  // 0: none
  BudgetUnit budget_unit = BudgetUnit::kChunk;
  std::optional<FocusSpec> focus;
  int bos_id = -1;
  int64_t window = 8192;
  std::string rope_scaling;  // JSON; empty: none
  uint64_t seed = 1;
  Keep keep() const { return parse_keep(last_p); }
};

struct Toy {
  explicit Toy(const ToySpec& spec);
  const ToySpec spec;
  Net upper, lower;  // lower: its n_injected layers, a copy of the upper's if shared
  std::vector<Cross> cross;
  std::vector<std::pair<std::string, Matrix>> lora;  // tensors by name; `lower` has them added
  std::vector<Candidate> candidates;                 // of every layer; those that the spec leaves out are the plain ones
};

// The same model with pairs (2m, 2m + 1) in its rotation; in memory or as a GGUF file only.
Toy interleaved(const Toy& toy);

// A directory that goes with its owner.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string path(const std::string& name = "") const { return name.empty() ? path_ : path_ + "/" + name; }
  std::vector<std::string> names() const;  // what lies in it, sorted

 private:
  std::string path_;
};

// The authors' full checkpoint; a base and our adapter; the base alone; a base and its FocusLLM adapter; a base and both adapters.
enum class Layout { kCheckpoint, kAdapter, kPlain, kFocus, kBoth };

// Writes the model into `directory` and says where it lies.
LoadPaths write_toy(const Toy& toy, const std::string& directory, Layout layout);

// The same, the base as a GGUF file with interleaved pairs; family llama, layouts with our adapters or none.
LoadPaths write_gguf_toy(const Toy& toy, const std::string& directory, Layout layout);

// What the environment variable BANYAN_TEST_DEVICE names: "cpu" (default) or "cuda".
std::string test_device();
std::unique_ptr<Device> make_test_device();
bool is_test_device_host();  // whether it reads mapped files

// That device, two threads, unless changed.
LoadOptions toy_options(const LoadPaths& paths, DType kv_dtype = DType::kF32);
std::shared_ptr<Model> load_toy(const Toy& toy, Layout layout = Layout::kAdapter, DType kv_dtype = DType::kF32);

// An engine around the model in memory, without files; the toy must outlive it.
std::shared_ptr<Engine> make_engine(const Toy& toy, DType kv_dtype = DType::kF32, std::unique_ptr<Device> device = make_test_device());

std::string read_bytes(const std::string& path);
void write_bytes(const std::string& path, const std::string& bytes);

}  // namespace banyan::test
