// ops: the arithmetic of a backend, one row an op, arguments as plain structs. A backend (cpu, cuda) is one filled `Ops` table; the engine calls
// the inline functions below, which count the multiply-adds and forward.
// Legend: T tokens, D model dim, K inner dim, H query heads, G kv heads, C head dim, N rows of keys or slots.
// All activations are float32, dense and row-major; pointers are device memory. Counts may be 0 (then nothing happens). Ops cannot fail.
// An op may return early, leaving its output undefined, once *stream.cancel is true; whoever set the flag discards the result.
// What an op does follows from its arguments and from what they point to, and from nothing else on the host: arguments that are equal may be run again
// as they were run before (device.h, begin_replay). Nothing that they point to lies on the host, where the device's memory is another.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "tensor/slot_tile.h"
#include "tensor/tensor.h"

namespace banyan {

// The rows below are a table; a formatter would break them up.
// clang-format off

struct Ops;

// Where ops run and what they cost. One stream is used by one thread at a time.
struct Stream {
  const Ops* ops = nullptr;
  void* backend = nullptr;                     // owned by the device (CPU: its thread pool)
  const std::atomic<bool>* cancel = nullptr;   // null: never cancelled
  uint64_t multiply_adds = 0;                  // of gemm, attend and inject since the stream was made
  bool cancelled() const { return cancel != nullptr && cancel->load(std::memory_order_relaxed); }
};

// out[T, D] = rows `ids` of the table; 0 <= ids[t] < table.rows.
struct EmbedArgs {
  float* out; WeightView table; const int32_t* ids; int n_tokens;
  bool operator==(const EmbedArgs&) const = default;
};

// out[T, D] = x / sqrt(mean(x^2) + eps) * weight. Statistics in float32 or better. out may be x. Also used per head (T*H rows of C).
struct NormArgs {
  float* out; const float* x; const float* weight; int n_rows, dim; float eps;
  bool operator==(const NormArgs&) const = default;
};

// out[T, rows] (+)= x[T, cols] w[rows, cols]^T + bias. bias [rows] may be null; accumulate adds to what out holds (the residual stream).
// With weights in a block format a backend may first round x to 8 bits per block of 32, as ggml does: d = max|x| / 127 in float32, at least 2^-126,
// and q = x * (1 / d) to nearest even; it then multiplies d * q. So each x is off by at most d / 2 of its block, and an output by at most the sum over
// the blocks of d / 2 * sum|w|. On the CPU whether x is rounded depends on w only, never on T: prefill and decode agree; but with tiles (gemm_tiles.inl), beyond
// 48 tokens (Q5_K, Q6_K: 64), x and the weights of block formats are rounded to bf16 instead, which is nearer, and with AVX-512 but no VNNI x is
// not rounded where more than 48 tokens meet Q8_0. The CUDA backend rounds nothing for up to 16 tokens
// (32 with block formats) and with F32 weights; beyond that both operands have 16 bits, x bf16 with BF16 weights and else f16 behind a power of two per token, and
// sums are float32 (cuda/gemm.cu). x that is not finite makes outputs of its token that are not.
struct GemmArgs {
  float* out; const float* x; WeightView w; const float* bias; int n_tokens; bool accumulate;
  bool operator==(const GemmArgs&) const = default;
};

// Rotates x[T, heads, C] in place: pair (a, b) of row t turns by positions[t] * inv_freq[m], then both are multiplied by `magnitude`
// (YaRN's attention factor; 1 otherwise). Pairs are (m, m + C/2), or (2m, 2m+1) if interleaved. Angles are computed in float64 or as exactly.
struct RopeArgs {
  float* x; const int32_t* positions; const float* inv_freq;  // [T, heads, C], [T], [C/2]
  int n_tokens, n_heads, head_dim; float magnitude; bool is_interleaved;
  bool operator==(const RopeArgs&) const = default;
};

// Writes x[T, G, C] into rows `rows[t]` of one side (keys or values) of a cache, converting to its dtype (round to nearest even): F32, F16 or Q8_0,
// whose C and strides are multiples of 32 elements and whose x is finite. A Q8_0 block takes d = max |x| / 127 as a half and q = x / d with that
// half, so no element is further from x than ggml's, which divides by the float.
struct StoreArgs {
  void* out; DType dtype; int64_t row_stride, head_stride;
  const float* x; const int32_t* rows; int n_tokens, n_heads, head_dim;
  bool operator==(const StoreArgs&) const = default;
};

// Rows of keys or values out of many places into one side of a cache of the same dtype (F32, F16 or Q8_0). Rows [G, C] lie dense where they come from, and
// in the cache too, unless its heads lie apart: [G, head_rows, C] (on the CPU only).
// Row j of a piece is the mean of its rows j * stride, ..., `pooled` of them or what is left, summed in that order; with inv_freq (keys) turned by the angles
// (position + j * step) * inv_freq[m] + index * slow_freq[m], as rope turns; rounded as store rounds. What is neither pooled nor turned keeps its bits.
// In tiles (slot_tile.h) only where Ops::has_slot_tiles says so, and of Q8_0; heads lie apart then, and head_rows is a multiple of kTileSlots.
struct PlacedRows {
  const void* from; int32_t n_from, stride, pooled;  // n_from rows
  int32_t row, n_rows;                               // they become rows `row` and following of the cache
  int32_t position, step, index;
};
struct PlaceArgs {
  void* out; DType dtype; const PlacedRows* pieces; int n_pieces;         // pieces in device memory
  const float* inv_freq; const float* slow_freq; float magnitude;         // [C/2] each or null; slow_freq only beside inv_freq
  int n_heads, head_dim; bool is_interleaved;
  SlotOrder order = SlotOrder::kRows; int64_t head_rows = 0;              // of out; 0: rows lie dense
  bool operator==(const PlaceArgs&) const = default;
};

// out[t, h] = softmax(scale * q[t, h] . k[n, g]) v[n, g] over kv_begin[t] <= n < kv_end[t]; g = h / (H / G). An empty range gives zeros.
// Ranges are arbitrary, but consecutive tokens mostly share kv_begin (causal rows of one node, or of the local window).
// With F16 or Q8_0 keys a backend rounds to halves, if it likes: scale * log2(e) * q after a power of two per row, the weights e^(score - highest) and the
// elements of Q8_0; sums and logarithms are float32. With Q8_0 keys it may also round to integers: scale * q to 16 bits a block of 32, the weights times the
// values' scales to 16 bits for up to 32 keys; the products are exact then. Or it takes q, weights, keys and values as sums of two terms of bf16 (of halves that is
// exact), without the product of the second ones. With F32 keys it does none of these.
// lse[t, h] = ln(sum of e^(scale * q[t, h] . k[n, g])) over the same keys, -infinity where there are none; null: not wanted.
struct AttendArgs {
  float* out; const float* q; KvView kv;         // [T, H, C] both
  const int32_t* kv_begin; const int32_t* kv_end;  // [T]
  int n_tokens, n_heads, n_kv_heads, head_dim; float scale;
  float* lse = nullptr;                            // [T, H]
  bool operator==(const AttendArgs&) const = default;
};

// Self-injection: attention of every token over all n_slots slots of the memory, no mask (SharedLLM 2410.19318, cross attention).
// No slots give zeros. Slots in tiles (KvView) only where Ops::has_slot_tiles says so.
struct InjectArgs {
  float* out; const float* q; KvView kv;
  int n_slots, n_tokens, n_heads, n_kv_heads, head_dim; float scale;
  bool operator==(const InjectArgs&) const = default;
};

// Attention over two sets of keys from the attention over each: out = (a e^u + b e^v) / (e^u + e^v) with u = a_power * a_lse + a_bias, v = b_lse, per row.
// lse = ln(e^u + e^v), may be null. A side whose lse is -infinity counts nothing, whatever a_power; two of them give zeros and -infinity. out may be
// a or b, lse may be a_lse or b_lse. Rows are (token, head) pairs. a_power is 1 and a_bias 0 except for adaptive parallel encoding
// (arXiv 2502.05431): its temperature, and the logarithm of its scaling factor.
struct MergeArgs {
  float* out; float* lse;                   // [n_rows, dim], [n_rows]
  const float* a; const float* a_lse; const float* b; const float* b_lse;
  int n_rows, dim; float a_power; float a_bias = 0;
  bool operator==(const MergeArgs&) const = default;
};

// out[i, dim] = float(x[rows[i], dim]); x is F32, F16, BF16 or Q8_0 with `dim` elements a row, in Q8_0 a multiple of 32.
struct GatherArgs {
  float* out; const void* x; DType dtype; const int32_t* rows; int n_rows; int64_t dim;
  bool operator==(const GatherArgs&) const = default;
};

// Tree compression (SharedLLM 2410.19318): slots out of the keys or values of a batch's tokens, one layer's and one side's. Slot i is the mean of the rows
// begin[i] <= r < end[i] of x[., G, C], summed in that order (end null: the row begin[i]), turned by positions[i] as rope turns (inv_freq null: not), rounded as
// store rounds, and goes to row rows[i] + side * strides[i] of out, whose rows [G, C] lie dense: F32, F16, or Q8_0 with head dims of whole blocks.
struct CompressArgs {
  void* out; DType dtype; const int32_t* rows; const int32_t* strides; int side;
  const float* x; const int32_t* begin; const int32_t* end;
  const int32_t* positions; const float* inv_freq; float magnitude;  // [n_slots], [C/2], as in RopeArgs
  int n_slots, n_heads, head_dim; bool is_interleaved;
  bool operator==(const CompressArgs&) const = default;
};

// out[i] = a . b / (max(|a|, 1e-6) max(|b|, 1e-6)) with a = rows[i], b = query, both [dim]; sums in float64 (sharedllm-semantics 5). Rows lie anywhere.
struct CosineArgs {
  float* out; const float* const* rows; const float* query; int n_rows, dim;  // rows [n_rows] in device memory
  bool operator==(const CosineArgs&) const = default;
};

// Products of query heads with the keys of all tokens of some chunks, made comparable: out[t] = the highest over the heads of (x - mean) /
// max(deviation, 1e-6), with mean and deviation of the head's products over all tokens, in float64. Not-a-number counts nothing.
// Chunk c has the tokens begin[c] .. begin[c + 1] of n_tokens, at least one. x [P, chunk by chunk [group, its tokens]]: P parts of `group` heads each;
// heads[h] is part * group + the place in its part.
struct StandardizeArgs {
  float* out; const float* x; const int32_t* begin; const int32_t* heads;  // [n_tokens], .., [n_chunks + 1], [n_heads]
  double* sums;                                                            // [n_heads, n_chunks + 1, 2] working memory
  int n_chunks, n_heads, group, n_tokens;
  bool operator==(const StandardizeArgs&) const = default;
};

// out[i] = the highest of x[begin[i]] .. x[end[i] - 1]; ranges are not empty. Not-a-number counts nothing; where there is nothing else: -infinity.
struct HighestArgs {
  float* out; const float* x; const int32_t* begin; const int32_t* end; int n_groups;
  bool operator==(const HighestArgs&) const = default;
};

// out[n] = silu(gate[n]) * up[n]; out may be gate.
struct SwigluArgs {
  float* out; const float* gate; const float* up; int64_t n;
  bool operator==(const SwigluArgs&) const = default;
};

// ids[i] = a token out of logits[i, V], drawn as rows[i] says; -1 if none is left. In this order:
//   1. The row's edits, in place, no id twice: x + bias, then divided by `repetition` if above 0, else multiplied by it, then less `subtracted`.
//   2. Not-a-number and -infinity are banned. If the highest logit is infinite or `scale` is: the lowest id that has it.
//   3. Kept are the logits of at least highest + reach, of them the first top_k (0 or less: all) by logit, highest first, and then by id, of them the
//      fewest in that order whose weights reach top_p of theirs (from 1 on: all), at least one.
//   4. In the order of ids, the first token with which the weights of the kept ones sum to more than draw of all of them.
// A weight is the whole part of 2^40 e^((logit - highest) * scale), V at most kMaxVocabulary. So sums are exact in 64 bits, whatever their order, and less than
// 2^-40 of the highest's probability is taken from a token: 2^-23 of it from the 128 K of a large vocabulary, as much as float32 would. A token of
// weight 0 is never drawn. e^x is within 2 ulp and the same float32 operations everywhere, none of them fused: equal logits give equal ids on all devices.
// Rows, edits and ids are device memory; what changes from token to token lies behind the same addresses.
inline constexpr int kMaxVocabulary = 1 << 22;  // all weights together have 62 bits; larger models are refused (model/config.cc)
struct SampleRow {
  float scale;           // 1 / temperature; infinite: greedy
  float reach;           // temperature * ln(min_p); -infinity: off
  float top_p;
  int32_t top_k;
  double draw;           // 0 <= draw < 1
  int32_t first_edit, n_edits;
};
struct LogitEdit { int32_t id; float bias, repetition, subtracted; };  // 0, 1 and 0 change nothing
struct SampleArgs {
  int32_t* ids; float* logits; const SampleRow* rows; const LogitEdit* edits;  // edits may be null if no row has any
  int n_rows, vocab_size;
  bool operator==(const SampleArgs&) const = default;
};

inline constexpr int kMostTogether = 4;

struct Ops {
  const char* name;  // "scalar", "avx2", ...
  void (*embed)(Stream&, const EmbedArgs&);
  void (*norm)(Stream&, const NormArgs&);
  void (*gemm)(Stream&, const GemmArgs&);
  void (*rope)(Stream&, const RopeArgs&);
  void (*store)(Stream&, const StoreArgs&);
  void (*place)(Stream&, const PlaceArgs&);
  void (*attend)(Stream&, const AttendArgs&);
  void (*inject)(Stream&, const InjectArgs&);
  void (*merge)(Stream&, const MergeArgs&);
  void (*gather)(Stream&, const GatherArgs&);
  void (*compress)(Stream&, const CompressArgs&);
  void (*cosine)(Stream&, const CosineArgs&);
  void (*standardize)(Stream&, const StandardizeArgs&);
  void (*highest)(Stream&, const HighestArgs&);
  void (*swiglu)(Stream&, const SwigluArgs&);
  void (*sample)(Stream&, const SampleArgs&);
  // gemm with each of n matrices, at most kMostTogether, that meet the same x [T, cols]: so x is made ready once, and threads wait for each other once.
  // It gives the bits that gemm gives. Null: a backend that gains nothing by it; the function below then calls gemm.
  void (*gemm_together)(Stream&, const GemmArgs* all, int n) = nullptr;
  bool has_slot_tiles = false;  // whether inject reads slots of Q8_0 in tiles (KvView), and faster; else it reads none
};

inline void embed(Stream& s, const EmbedArgs& a) { s.ops->embed(s, a); }
inline void norm(Stream& s, const NormArgs& a) { s.ops->norm(s, a); }
inline uint64_t multiply_adds_of(const GemmArgs& a) {
  return static_cast<uint64_t>(a.n_tokens) * static_cast<uint64_t>(a.w.rows) * static_cast<uint64_t>(a.w.cols);
}
inline void gemm(Stream& s, const GemmArgs& a) {
  s.multiply_adds += multiply_adds_of(a);
  s.ops->gemm(s, a);
}
// Matrices that meet the same x (GemmArgs::x, n_tokens); their outputs do not overlap.
inline void gemm_together(Stream& s, std::span<const GemmArgs> all) {
  if (s.ops->gemm_together == nullptr || all.size() == 1 || all.size() > kMostTogether) {
    for (const GemmArgs& a : all) gemm(s, a);
    return;
  }
  for (const GemmArgs& a : all) s.multiply_adds += multiply_adds_of(a);
  s.ops->gemm_together(s, all.data(), static_cast<int>(all.size()));
}
inline void rope(Stream& s, const RopeArgs& a) { s.ops->rope(s, a); }
inline void store(Stream& s, const StoreArgs& a) { s.ops->store(s, a); }
inline void place(Stream& s, const PlaceArgs& a) { s.ops->place(s, a); }
// The engine knows the ranges on the host; `n_pairs` is the sum of kv_end - kv_begin over the tokens.
inline void attend(Stream& s, const AttendArgs& a, uint64_t n_pairs) {
  s.multiply_adds += 2 * n_pairs * static_cast<uint64_t>(a.n_heads) * static_cast<uint64_t>(a.head_dim);
  s.ops->attend(s, a);
}
inline void inject(Stream& s, const InjectArgs& a) {
  s.multiply_adds += 2 * static_cast<uint64_t>(a.n_tokens) * static_cast<uint64_t>(a.n_slots) * static_cast<uint64_t>(a.n_heads) *
                     static_cast<uint64_t>(a.head_dim);
  s.ops->inject(s, a);
}
inline void merge(Stream& s, const MergeArgs& a) { s.ops->merge(s, a); }
inline void gather(Stream& s, const GatherArgs& a) { s.ops->gather(s, a); }
inline void compress(Stream& s, const CompressArgs& a) { s.ops->compress(s, a); }
inline void cosine(Stream& s, const CosineArgs& a) { s.ops->cosine(s, a); }
inline void standardize(Stream& s, const StandardizeArgs& a) { s.ops->standardize(s, a); }
inline void highest(Stream& s, const HighestArgs& a) { s.ops->highest(s, a); }
inline void swiglu(Stream& s, const SwigluArgs& a) { s.ops->swiglu(s, a); }
inline void sample(Stream& s, const SampleArgs& a) { s.ops->sample(s, a); }

// clang-format on

}  // namespace banyan
