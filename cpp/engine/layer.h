// layer: one decoder layer, told once in ops. The lower pass, the query pass and the upper model all compose these five verbs;
// they differ only in which rows go on, where keys and values live, and whether a memory is injected.
// Legend: T rows of the batch, D model dim, H query heads, G kv heads, C head dim, F feed-forward dim.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "engine/decoder.h"

namespace banyan {

// The activations of one engine thread: one table, grown to the largest batch seen, shared by all passes.
class Activations {
 public:
  Activations(Device& device, const Decoder& upper, const Decoder& lower);
  void reserve(int n_rows);  // throws kOutOfMemory
  void reserve_groups();     // what only queries with several groups of keys need, for as many rows

  Buffer x, y;            // [T, D] residual stream, and the rows of it that go on
  Buffer normed, picked;  // [T, D] input of the projections, and the rows of it that ask
  Buffer k, v, moved;     // [T, G, C] keys and values of the batch; keys in another order or rotation
  Buffer q, mixed;        // [T, H, C] queries; output of attention
  Buffer gate, up;        // [mlp_rows at most, F]
  // Several groups of keys: another rotation or order of the queries, one group's output, and the log-sums of all groups so far and of one.
  Buffer turned, other, lse, other_lse;

  const int mlp_rows;  // that go through gate and up at a time

 private:
  size_t dim_, kv_dim_, q_dim_, ffn_dim_, n_heads_;
  int n_rows_ = 0;
};

// int32 arrays on the device, one upload for all of a batch's indices: add() all, then upload(), then at().
class IndexTable {
 public:
  explicit IndexTable(Device& device) : device_(device), buffer_(device) {}
  void clear() { host_.clear(); }
  size_t add(const std::vector<int32_t>& values) {
    const size_t at = host_.size();
    host_.insert(host_.end(), values.begin(), values.end());
    return at;
  }
  void upload() {
    buffer_.reserve(host_.size() * sizeof(int32_t));
    if (!host_.empty()) device_.to_device(buffer_.as<int32_t>(), host_.data(), host_.size() * sizeof(int32_t));
  }
  const int32_t* at(size_t offset) const { return buffer_.as<int32_t>() + offset; }

 private:
  Device& device_;
  Buffer buffer_;
  std::vector<int32_t> host_;
};

// Some of the keys that queries see; all pointers on the device. A query's softmax goes over the keys of all its groups.
struct KeyGroup {
  KvView kv;
  int first = 0, n = 0;                // which queries: [first, first + n) of the order they attend in
  const int32_t* kv_begin = nullptr;   // [n] visible rows of `kv`
  const int32_t* kv_end = nullptr;     // [n]
  const int32_t* positions = nullptr;  // [n] the queries' rotation towards these keys; null: their own
  float temperature = 1;               // divides the scores
  float power = 1, bias = 0;           // the log-sum of the groups before counts power times plus bias once this group joins (MergeArgs)
  uint64_t n_pairs = 0;                // sum of kv_end - kv_begin
  bool is_first = true;                // of its queries' groups; all of them have one before it, or none
};

// How queries with several groups of keys attend; all pointers on the device.
struct GroupedQueries {
  int n = 0;
  const int32_t* rows = nullptr;       // [n] as in Queries
  bool are_asked = false;              // as in Queries
  const int32_t* positions = nullptr;  // [n] rotation
  const int32_t* order = nullptr;      // [n] the row that attends i-th; null: as they come
  const int32_t* place = nullptr;      // [n] the inverse of order
  const int32_t* identity = nullptr;   // [n] 0, 1, ...: needed where a group has positions
  float* asked = nullptr;              // [H, C] receives the rotated query of row *last, if not null
  const int32_t* last = nullptr;
  std::span<const KeyGroup> groups;  // cover all queries
};

// The rows that attend; all pointers on the device.
struct Queries {
  int n = 0;
  const int32_t* rows = nullptr;       // [n] rows of the batch; null: all of it
  const int32_t* positions = nullptr;  // [n] rotation of the query
  const int32_t* kv_begin = nullptr;   // [n] visible rows of `kv`
  const int32_t* kv_end = nullptr;
  uint64_t n_pairs = 0;    // sum of kv_end - kv_begin
  bool are_asked = false;  // keys_values_queries has made them, of all of the batch
};

// One layer's part of an injected memory, the rows that attend to it, and how their queries turn towards it.
struct InjectionView {
  int first = 0, n = 0;
  KvView kv;                                // [n_slots, G, C]
  int n_slots = 0;                          // 0: nothing is injected
  const int32_t* positions = nullptr;       // [n] the same number for every row (rows of the memory + 1)
  const float* inv_freq = nullptr;          // of the lower model; another table for the released one-token step
  const int32_t* fast_positions = nullptr;  // banded: [n] of the fast pairs, whose table is fast_freq; inv_freq has the slow ones then
  const float* fast_freq = nullptr;
  float rope_magnitude = 1;
  bool is_interleaved = false;
  int n_kv_heads = 0;
};

// What a pass changes about a layer.
struct LayerOptions {
  const Rotation* rotation = nullptr;           // null: the decoder's
  const CandidateWeights* candidate = nullptr;  // FocusLLM: projections of the last n_candidates rows
  int n_candidates = 0;
};

class Layer {
 public:
  Layer(const Decoder& decoder, int index, const LayerOptions& options = {})
      : d_(decoder),
        w_(decoder.weights.layers[static_cast<size_t>(index)]),
        rotation_(options.rotation != nullptr ? *options.rotation : decoder.rotation),
        candidate_(options.candidate != nullptr ? *options.candidate : kNoCandidate),
        n_candidates_(options.n_candidates) {}

  // a.normed = norm(a.x); a.k from row `first` on = its keys, with k norm, unrotated. n rows.
  void keys(Stream& s, Activations& a, int n, int first = 0) const;
  // The same, and so a.v = its values.
  void keys_values(Stream& s, Activations& a, int n, int first = 0) const;
  // The same, and so a.q = its queries, with q norm, unrotated; what few rows gain by it is that threads wait for each other once.
  void keys_values_queries(Stream& s, Activations& a, int n) const;
  // a.v from row `first` on = the values of a.normed. n rows.
  void values(Stream& s, Activations& a, int n, int first = 0) const;
  const Rotation& rotation() const { return rotation_; }
  // Rotates keys [n, G, C] in place.
  void rotate_keys(Stream& s, float* k, const int32_t* positions, int n) const;
  // Queries from a.normed (unless they are there), attention over kv, output projection, residual. With queries.rows only those rows of a.x remain (compacted).
  void attention(Stream& s, Activations& a, const KvView& kv, const Queries& queries) const;
  // The same over several groups of keys; a.reserve_groups() comes before.
  void attention(Stream& s, Activations& a, const GroupedQueries& queries) const;
  // a.q = the cross-attention's queries of a.x, unrotated. n rows.
  void cross_queries(Stream& s, Activations& a, const CrossWeights& cross, int n) const;
  // Self-injection (SharedLLM): norm, query, attention over the memories, output projection, residual. n rows of a.x, each in one of the views.
  void injection(Stream& s, Activations& a, const CrossWeights& cross, std::span<const InjectionView> memories, int n) const;
  // Norm, SwiGLU, residual. n rows of a.x.
  void mlp(Stream& s, Activations& a, int n) const;

 private:
  struct Projection {
    float* out;
    WeightView w;
    const float* bias;
    WeightView candidate;  // of the candidates' rows
    const float* candidate_bias;
  };
  Projection to_queries(float* out) const;
  Projection to_keys(float* out) const;
  Projection to_values(float* out) const;
  void norm_input(Stream& s, Activations& a, int n) const;
  void norm_heads(Stream& s, float* x, const float* weight, int n, int n_heads) const;
  void project(Stream& s, const float* x, std::initializer_list<Projection> all, int n, bool accumulate) const;
  void ask(Stream& s, Activations& a, const int32_t* rows, int n) const;
  void rotate_queries(Stream& s, float* q, const int32_t* positions, int n) const;
  void answer(Stream& s, Activations& a, int n) const;
  float scale() const;
  static inline const CandidateWeights kNoCandidate{};
  const Decoder& d_;
  const LayerWeights& w_;
  const Rotation& rotation_;
  const CandidateWeights& candidate_;
  const int n_candidates_;
};

// Throws kAborted once the stream is cancelled; ops after that leave garbage.
inline void check_cancelled(const Stream& s) {
  if (s.cancelled()) throw Error(Code::kAborted, "aborted");
}

}  // namespace banyan
