// banyan: the public C++ API, and the only header that addon/ includes. Ids in, ids out: the engine never sees text.
//
// Words: upper model (the whole decoder), lower model (its M lowest layers, or an adapter's own), document (token ids in chunks), chunk (root
// of a binary tree), node (a span of a chunk; level d covers 1/2^d of it), slot (a kept key/value pair of a node), memory (the slots of the nodes
// a query selected, as injected), session (local tokens + documents + cache), run (one generation).
//
// Threads: Model::load and everything named `begin_*` may be called from any thread. Jobs run on the model's one engine thread in fair slices (one
// batch of nodes, one piece of prefill, one token), so jobs interleave. Hooks are called on the engine thread; they must not block or throw.
// Every job ends with exactly one on_done. Setting a job's cancel flag ends it with kAborted within about 100 ms; nothing finished is lost.
// Objects keep what they need alive (a session its documents and model); Model::close ends all jobs with kDisposed.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/config.h"
#include "model/weights.h"

namespace banyan {

using CancelFlag = std::shared_ptr<std::atomic<bool>>;

struct LoadOptions {
  LoadPaths paths;
  std::string device = "auto";         // "auto", "cpu", "cuda"; "cuda" without one throws kNoDevice, "auto" falls back to the CPU
  std::string cpu_variant;             // "" (best), or a name of the table in cpp/cpu/dispatch.cc
  int n_threads = 0;                   // 0: one per physical core
  DType kv_dtype = DType::kF16;        // of slots, memory and local cache: kF16, kF32 or kQ8_0
  std::optional<DType> pool_dtype;     // of whole chunks (FocusLLM, parallel encoding): kF16, kF32 or kQ8_0; default: kv_dtype
  bool has_8_bit_adapter = false;      // the adapter's matrices become Q8_0
  std::string kv_directory;            // whole chunks lie in nameless scratch files here, not in memory; empty: in memory
  std::optional<Semantics> semantics;  // overrides of the adapter's own settings
  std::optional<int> depth;
  std::optional<std::string> last_p;
  std::function<void(uint64_t done, uint64_t total)> on_progress;  // bytes of the files looked at
  CancelFlag cancel;
};

struct ModelInfo {
  ModelConfig upper;
  TreeConfig tree;               // n_injected_layers = 0: no SharedLLM adapter
  FocusConfig focus;             // is_present: has a FocusLLM adapter
  std::optional<Method> method;  // of sessions that name none: the adapter's, SharedLLM's first; empty without an adapter
  bool is_lower_shared = true;
  std::string device;         // "cpu (avx512, 2 threads)"
  std::string device_reason;  // why not a GPU, empty if one is used
  std::string fingerprint;
  uint64_t n_parameters = 0, n_bytes = 0;
  DType kv_dtype = DType::kF16, pool_dtype = DType::kF16;
};

struct DocumentInfo {
  int64_t n_tokens = 0;
  int n_chunks = 0, chunk_size = 0, depth = 0;
  int64_t n_nodes = 0, n_nodes_encoded = 0;  // of the trees; whose slots exist. Nested: chunks, which are encoded as a whole
  int64_t n_slots = 0;                       // encoded so far
  int n_chunks_encoded = 0;                  // chunks all of whose keys and values exist (FocusLLM, parallel encoding)
  uint64_t n_bytes = 0;                      // all of this, in memory or mapped
};

// One encoded node of the memory of a run; under a budget of groups, a run of fine groups (level: the depth of its chunk's tree).
struct OpenedNode {
  int document = 0;            // index into the session's documents
  int chunk = 0;               // within that document
  int level = 0;               // 0: the chunk itself
  int64_t begin = 0, end = 0;  // token range in the document
  int n_slots = 0;
  bool is_finest = false;  // a leaf of the opened span (the rest was thinned more coarsely)
  float score = 0;         // likeness to the query: of the node itself, for leaves that of the opened span; NaN if none was computed
};

struct Retrieval {
  std::vector<OpenedNode> nodes;  // in document order
  int64_t n_slots = 0;
  int n_nodes_encoded = 0;  // encoded for this query (the rest was there)
};

// How a session reads, and the settings of its method; those of other methods are ignored.
struct MethodOptions {
  std::optional<Method> method;  // default: ModelInfo::method
  // SharedLLM: overrides of the adapter's budget (docs/methods.md). kInvalidArgument where its selection has no scores.
  std::optional<int64_t> slot_budget;  // most slots injected; 0: all that were selected
  std::optional<BudgetUnit> budget_unit;
  // FocusLLM. The defaults are exact; other values cost less and compute something else (docs/methods.md).
  int query_cap = 0;       // longest query suffix, tokens; 0: the adapter's
  int refresh_every = 1;   // candidates are computed anew for every so many tokens
  int refresh_chunks = 0;  // only of the chunks that the last token looked at most; 0: of all
  // Full attention.
  RopeScaling rope_scaling = RopeScaling::kNone;  // kLinear, kNtk, kDynamicNtk, kYarn
  double rope_factor = 1.0;                       // the window becomes so many times larger
  // StreamingLLM.
  int n_sinks = 4;
  int64_t window = 0;  // tokens that one token sees, sinks and itself included; 0: the model's window
  // Parallel encoding: the documents' scores are divided by the temperature, their weight multiplied by the scale (arXiv 2502.05431). 1 and 1: none of it.
  float context_temperature = 0.9f;
  float context_scale = 0.9f;
};

struct SamplerOptions {
  float temperature = 0.0f;  // 0: greedy
  int top_k = 0;             // 0: off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  int penalty_window = 64;  // last tokens looked at by the penalties
  uint64_t seed = 0;
  std::vector<std::pair<int32_t, float>> logit_bias;  // -inf bans
};

struct GenerateRequest {
  std::vector<int32_t> ids;  // ALL local tokens (system, history, question); the cache of a common prefix is reused
  int64_t query_index = -1;  // SharedLLM: the token whose vector selects; -1: the last
  int max_tokens = 0;
  std::vector<int32_t> stop_ids;
  SamplerOptions sampler;
};

enum class FinishReason : uint8_t { kStop, kLength };

struct GenerateResult {
  FinishReason finish = FinishReason::kLength;
  int32_t stop_id = -1;
  int n_prompt = 0, n_cached = 0, n_generated = 0;  // tokens
  double select_ms = 0, encode_ms = 0, prefill_ms = 0, decode_ms = 0;
};

struct JobHooks {
  CancelFlag cancel;
  std::function<void(uint64_t done, uint64_t total)> on_progress;  // may be empty
  std::function<void(const Error* error)> on_done;                 // null: success
};

struct GenerateHooks {
  CancelFlag cancel;
  std::function<void(const char* phase, uint64_t done, uint64_t total)> on_progress;  // "select", "encode" (nodes), "prefill" (tokens)
  std::function<void(const Retrieval&)> on_retrieval;                                 // once, before the first token, if there are documents
  std::function<void(int32_t id)> on_token;
  std::function<void(const Error* error, const GenerateResult&)> on_done;
};

// How likely given tokens are behind a prompt (perplexity, ranking of answers). They are read as the method would read them if it had generated them.
struct ScoreRequest {
  std::vector<int32_t> ids;      // ALL local tokens before the scored ones
  std::vector<int32_t> targets;  // at least one
  int64_t query_index = -1;      // SharedLLM: the token of ids whose vector selects; -1: the last
};
struct ScoreResult {
  std::vector<float> log_probabilities;  // of each target, natural logarithm
  int n_cached = 0;                      // tokens of ids that needed no reading
};
struct ScoreHooks {
  CancelFlag cancel;
  std::function<void(const char* phase, uint64_t done, uint64_t total)> on_progress;
  std::function<void(const Retrieval&)> on_retrieval;  // once, if there are documents
  std::function<void(const Error* error, const ScoreResult&)> on_done;
};

// Everything a conformance run compares (npm run golden). Float32 throughout.
struct TraceRequest {
  std::vector<int32_t> ids;
  int64_t query_index = -1;
  int max_new_tokens = 0;
  bool recompute = false;       // greedy without a cache: every step runs all local tokens again (tree kept)
  std::vector<int32_t> forced;  // tokens that are fed instead of the greedy ones (perplexity); may be shorter
};
struct Trace {
  std::vector<float> logits;         // [L, V] of the prompt
  std::vector<int32_t> greedy;       // [max_new_tokens]
  std::vector<float> greedy_logits;  // [max_new_tokens, V]
  std::vector<float> query_vector;   // [D]; token keys: the cross query [H, C]
  Retrieval retrieval;
  std::vector<int64_t> slot_positions;  // [n_slots] document position (group's first for mean slots), in injection order
  std::vector<float> keys, values;      // [M, n_slots, G, C] as injected
  // FocusLLM: candidates of the first two steps [steps, L, m, G, C], keys before rotation; and of every chunk the kept keys and values
  // [L, sum of chunk_rows, G, C], document then suffix, keys rotated by their position behind the chunk's first token.
  std::vector<float> candidate_keys, candidate_values, chunk_keys, chunk_values;
  std::vector<int32_t> chunk_rows;  // [m]
  uint64_t multiply_adds = 0;       // of the whole trace, encoding included
};

class Document {
 public:
  virtual ~Document() = default;
  virtual DocumentInfo info() const = 0;                                      // thread-safe
  virtual std::vector<int32_t> tokens(int64_t begin, int64_t end) const = 0;  // thread-safe; clamps
  virtual std::string attribute(const std::string& key) const = 0;            // "" if absent: what save() was given
  // Appends tokens: full chunks are indexed now (what choosing needs), a last partial chunk when it is first needed.
  virtual void begin_append(std::vector<int32_t> ids, JobHooks hooks) = 0;
  // Indexes the partial chunk too; eager: encodes every node of every tree (nested: the index has all of them).
  virtual void begin_complete(bool is_eager, JobHooks hooks) = 0;
  // Writes the document atomically (temporary file, sync, rename); `attributes` (tokenizer fingerprint, title, ...) go into the header.
  virtual void begin_save(std::string path, std::vector<std::pair<std::string, std::string>> attributes, JobHooks hooks) = 0;
};

class Session {
 public:
  virtual ~Session() = default;
  // Takes effect at the next run. All documents must belong to the session's model.
  virtual void set_documents(std::vector<std::shared_ptr<Document>> documents) = 0;
  // Most local tokens that this prompt of n_prompt tokens and its answer may have beside the documents; may be negative. Throws kEmptyDocument.
  virtual int64_t room(size_t n_prompt) const = 0;
  virtual void begin_generate(GenerateRequest request, GenerateHooks hooks) = 0;
  virtual void begin_score(ScoreRequest request, ScoreHooks hooks) = 0;
  virtual void begin_trace(TraceRequest request, CancelFlag cancel, std::function<void(const Error*, const Trace&)> on_done) = 0;
};

struct DocumentOptions {
  int chunk_size = 0;            // tokens; 0: the adapter's
  std::optional<Method> method;  // whose data are computed at once; default: the model's. What other methods need is computed when they first ask
  std::vector<uint8_t> mask;     // conformance only: per token 1 valid, 0 padding (released code's treatment); empty: all valid
};

class Model {
 public:
  // Blocks; call it on a thread of its own. Throws Error.
  static std::shared_ptr<Model> load(LoadOptions options);
  virtual ~Model() = default;
  virtual const ModelInfo& info() const = 0;
  virtual const TokenizerData* tokenizer() const = 0;  // GGUF only, else null
  virtual std::shared_ptr<Document> create_document(const DocumentOptions& options) = 0;
  // Opens a saved document: verifies format, model fingerprint and every checksum before on_done. `document` is set on success.
  virtual void begin_open(std::string path, JobHooks hooks, std::function<void(std::shared_ptr<Document>)> on_document) = 0;
  // Throws kAdapterMismatch for a method whose adapter is not loaded, kInvalidArgument for settings out of range, or without a method.
  virtual std::shared_ptr<Session> create_session(const MethodOptions& options = {}) = 0;
  virtual uint64_t multiply_adds() const = 0;  // of all jobs so far: matrix products and attention
  virtual void close() = 0;                    // ends all jobs (kDisposed), joins the engine thread; idempotent; never from a hook
};

// Where models can run here; names as ModelInfo::device.
struct DevicesHere {
  std::string cpu;            // with the best variant and default threads
  std::string cuda;           // empty: none
  std::string cuda_obstacle;  // why none ("this build has no CUDA", "no CUDA driver is installed", ...); else empty
};
DevicesHere devices_here();

std::vector<std::string> cpu_variants_here();  // best first
const char* version();

}  // namespace banyan
