// config: the hyper-parameters of one decoder, whatever file they came from, and what an adapter adds. Plain data; read_* in gguf/huggingface.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace banyan {

enum class RopeScaling : uint8_t { kNone, kLinear, kNtk, kDynamicNtk, kYarn, kLlama3 };

struct RopeConfig {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;                   // of the window
  int64_t original_window = 0;           // tokens the base was trained with (yarn, llama3)
  double low_freq_factor = 1.0;          // llama3
  double high_freq_factor = 4.0;         // llama3
  double beta_fast = 32.0;               // yarn
  double beta_slow = 1.0;                // yarn
  double attention_factor = 0.0;         // yarn; 0: 0.1 ln(factor) + 1
  std::vector<float> freq_factors = {};  // GGUF tensor rope_freqs.weight [C/2]: divides the frequencies; empty: none
  bool is_interleaved = false;           // pairs (2m, 2m+1): GGUF files of the llama architecture; else (m, m + C/2)
};

// One decoder (upper or lower model). Sizes are validated: positive, heads divisible, head_dim even, products fit.
struct ModelConfig {
  std::string architecture;  // "llama", "mistral", "qwen2", "qwen3"
  int n_layers = 0;
  int dim = 0;  // D
  int ffn_dim = 0;
  int n_heads = 0;     // H
  int n_kv_heads = 0;  // G
  int head_dim = 0;    // C; H * C need not equal D
  int vocab_size = 0;
  int64_t window = 0;  // max_position_embeddings / context_length, tokens
  float norm_eps = 1e-5f;
  RopeConfig rope = {};
  bool is_tied = false;       // lm_head is the embedding
  bool has_qkv_bias = false;  // qwen2
  bool has_o_bias = false;    // attention_bias of llama
  bool has_mlp_bias = false;
  bool has_qk_norm = false;    // qwen3
  int64_t sliding_window = 0;  // mistral v0.1; 0: none. Local tokens beyond it are refused, not silently attended
  std::vector<int32_t> eos_ids = {};
  int32_t bos_id = -1;
};

// Throws Error{code} naming the first setting that breaks what ModelConfig promises; `where` (file, perhaps key prefix) begins the message.
void check_config(const ModelConfig& config, const std::string& where, Code code);

// inv_freq [C/2] with all scaling applied, and the factor that multiplies cos and sin (YaRN; 1 otherwise).
std::vector<float> rope_frequencies(const RopeConfig& rope, int head_dim, float* magnitude);

enum class Semantics : uint8_t {
  kReleased,   // the authors' code, accidents included (cross-chunk pairing, foreign leaf rows, one-angle decode step)
  kCorrected,  // the authors' weights with sibling pairing and the same rotation in prefill and decode
  kPaper,      // what the paper means; what we train: own halves, own leaves, keys carry the chunk index
  kNested,     // ours: a chunk is encoded once, whole; the slots of all its nodes are made of that (docs/methods.md)
};
// The authors' weights, hence their exact halves and their order of rows; the others halve anything and keep the document's order.
constexpr bool is_authors(Semantics semantics) { return semantics == Semantics::kReleased || semantics == Semantics::kCorrected; }
enum class SlotKind : uint8_t { kStrided, kMean };
enum class SelectionRule : uint8_t {
  kCosine,     // the paper's: last token of each half after layer 0 against the question's token after layer 0
  kTokenKeys,  // ours: the adapter's own cross query against one lower layer's key of every token (docs/architecture.md)
};

// Nested only: how keys and queries of the memory are turned.
enum class Positions : uint8_t {
  kSum,     // all pairs by the token's offset in its chunk plus the chunk's index
  kBanded,  // the fast half of the pairs by the offset, the slow half by the chunk's index
};
// What joins a limited memory as one piece, best first.
enum class BudgetUnit : uint8_t {
  kChunk,  // the selected nodes of a chunk
  kGroup,  // single fine groups: nested with token keys; no node is opened
};

// How many slots a node keeps: an integer count (<= 0: all) or a fraction of the node.
struct Keep {
  bool is_fraction = false;
  int64_t count = 64;  // the authors' default
  double fraction = 0.0;
};
// "32", "32,32" (first entry), "0.25", "-1", one level of extra quotes allowed. Throws kBadAdapter; never evaluates. A fraction is in (0, 1].
Keep parse_keep(const std::string& last_p);

// How a session reads its documents.
enum class Method : uint8_t {
  kShared,     // SharedLLM (arXiv 2410.19318): tree, selection, self-injection; needs its adapter
  kFocus,      // FocusLLM (arXiv 2408.11745): every chunk with the question, one candidate of each; needs its adapter
  kParallel,   // adaptive parallel encoding (arXiv 2502.05431): all layers attend to chunks encoded apart
  kStreaming,  // StreamingLLM (arXiv 2309.17453): attention sinks and a sliding window
  kFull,       // attention to every token, with or without scaled positions
};
inline constexpr const char* kMethodNames[] = {"sharedllm", "focusllm", "parallel", "streaming", "full"};

// FocusLLM settings of an adapter or of an authors' checkpoint. A projection without a candidate copy falls back to the plain one.
struct FocusConfig {
  bool is_present = false;
  bool has_q = true, has_k = true, has_v = true, has_o = true;  // beacon_param
  int chunk_size = 1024;                                        // memory_stride, tokens
  int query_cap = 512;                                          // longest query suffix, tokens; a constant in the authors' code
};

// SharedLLM settings of an adapter (adapter_config.json) or of an authors' full checkpoint (config.json).
struct TreeConfig {
  Semantics semantics = Semantics::kPaper;  // full checkpoints: kReleased
  SlotKind slot_kind = SlotKind::kStrided;
  int n_injected_layers = 0;  // M; 0: no adapter. num_cross_attn_layers = -M in the files; positive is refused
  int depth = 3;              // D >= 1
  Keep keep = {};
  int chunk_size = 1024;  // tokens, C
  bool do_retrieval = true;
  SelectionRule selection = SelectionRule::kCosine;
  int selection_layer = 0;           // token keys: which of the M layers matches, 0-based
  std::vector<int> selection_heads;  // token keys: its query heads that match; empty: all
  Positions positions = Positions::kSum;
  int64_t slot_budget = 0;  // most slots of a memory; 0: all that was selected
  BudgetUnit budget_unit = BudgetUnit::kChunk;
};
// What contradicts the positions or the budget of this tree, as "positions ..." or "slot_budget ..."; empty: nothing does.
std::string find_conflict(const TreeConfig& tree);
// Throws Error{kBadAdapter} unless depth and chunk_size are in range and nothing conflicts; for the authors' semantics chunk_size must also be divisible by
// 2^(depth-1) and at least 2^depth.
void check_tree(const TreeConfig& tree, const std::string& where);

}  // namespace banyan
