// cases: one table per op, shared by the tests and by the bench. Shapes are odd on purpose: 0, 1, one less and one more than every lane count
// (1, 4, 8, 16) and tile (6, 12, 32, 48, 64, 128, 256), grouped heads, tails, data that is not aligned.
#pragma once

#include <vector>

#include "tensor/dtype.h"

namespace banyan::test {

inline constexpr DType kWeightTypes[] = {
    DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// ---- tests ----

// What the activations are. kHuge: one element a token is 1e30; kTiny: subnormals; kSpread: blocks from 1e-38 to 1e3, with zeros of both signs.
enum class Activations { kUniform, kZeros, kHuge, kTiny, kSpread };

struct GemmCase {
  DType dtype;
  int tokens;
  int64_t rows, cols;
  bool has_bias, is_accumulated;
  int misalignment;
  Activations activations = Activations::kUniform;
};

inline std::vector<GemmCase> gemm_cases() {
  std::vector<GemmCase> cases;
  for (const DType dtype : kWeightTypes) {
    const bool is_plain = traits(dtype).block_size == 1;
    const int64_t block = traits(dtype).block_size;
    const std::vector<int64_t> cols =
        is_plain ? std::vector<int64_t>{1, 3, 15, 17, 64, 255, 257} : std::vector<int64_t>{block, 3 * block, 288 / block * block + block};
    for (const int64_t n_cols : cols) {
      for (const int tokens : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 49}) {
        for (const int64_t rows : {0, 1, 31, 33, 129}) {
          const int i = static_cast<int>(cases.size());
          cases.push_back({dtype, tokens, rows, n_cols, i % 3 == 1, i % 2 == 1, i % 4});
        }
      }
    }
    cases.push_back({dtype, 1, 300, 2048, false, false, 0});
    cases.push_back({dtype, 5, 100, 1536, false, true, 2});
    cases.push_back({dtype, 200, 200, 1024, true, false, 1});
    if (dtype == DType::kF16) cases.push_back({dtype, 97, 5, 20480, false, true, 1});  // in tiles, x in rounds
    if (is_plain) {  // of few tokens: wide rows, rows in pieces, tiles of rows with some left over, two groups of tokens
      cases.push_back({dtype, 1, 37, 6211, true, true, 1});
      cases.push_back({dtype, 2, 45, 6211, false, true, 2});
      cases.push_back({dtype, 4, 135, 2300, true, false, 1});
      cases.push_back({dtype, 8, 67, 2049, false, true, 2});
      cases.push_back({dtype, 11, 71, 1531, true, true, 3});
      continue;
    }
    cases.push_back({dtype, 1, 40, 8192, true, true, 3});    // of few tokens: whole rows
    cases.push_back({dtype, 2, 300, 8192, false, true, 1});  // tasks of many rows
    cases.push_back({dtype, 7, 70, 8192, false, false, 1});  // rows in pieces
    cases.push_back({dtype, 64, 161, 2048, true, true, 2});
    cases.push_back({dtype, 257, 130, 512 + block, false, true, 3});
    cases.push_back({dtype, 260, 35, 2304, false, true, 1});                              // deep panels, and what is left of a row
    if (dtype == DType::kQ8_0) cases.push_back({dtype, 250, 33, 20480, true, false, 0});  // x in rounds
    for (const Activations activations : {Activations::kZeros, Activations::kHuge, Activations::kTiny, Activations::kSpread}) {
      for (const int tokens : {1, 3, 8, 17}) cases.push_back({dtype, tokens, 35, 1024 + block, tokens == 3, tokens == 8, 1, activations});
    }
  }
  return cases;
}

// kNodes: runs of tokens with their own begin; kSome: every third empty; kPairs: every two tokens have keys of their own, the second sees one more.
enum class Ranges { kCausal, kWindow, kNodes, kRandom, kSome, kEmpty, kPairs };

struct AttendCase {
  DType dtype;
  int tokens, heads, kv_heads, head_dim, keys;
  Ranges ranges;
  bool is_head_major;
  float spread;
};

inline std::vector<AttendCase> attend_cases() {
  std::vector<AttendCase> cases;
  constexpr Ranges kRanges[] = {Ranges::kCausal, Ranges::kWindow, Ranges::kNodes, Ranges::kRandom, Ranges::kSome};
  for (const int head_dim : {2, 8, 10, 16, 32, 64, 80, 128}) {
    for (const int tokens : {0, 1, 3, 17, 50}) {
      for (const int keys : {1, 15, 63, 65, 200}) {
        const int i = static_cast<int>(cases.size());
        constexpr int kHeads[][2] = {{1, 1}, {4, 2}, {6, 2}, {8, 1}, {7, 1}};
        cases.push_back({i % 2 == 0 ? DType::kF32 : DType::kF16, tokens, kHeads[i % 5][0], kHeads[i % 5][1], head_dim, keys,
            kRanges[i % 4 + (i % 7 == 0)], i % 3 == 0, 1.0f});
      }
    }
  }
  for (const int head_dim : {32, 64, 96, 128}) {
    for (const int tokens : {1, 3, 17, 50}) {
      for (const int keys : {1, 63, 65, 200}) {
        const int i = static_cast<int>(cases.size());
        cases.push_back({DType::kQ8_0, tokens, i % 3 == 0 ? 8 : 4, i % 3 == 1 ? 4 : 2, head_dim, keys, kRanges[i % 5], i % 2 == 0, 1.0f});
      }
    }
  }
  cases.push_back({DType::kQ8_0, 1, 8, 2, 64, 3000, Ranges::kCausal, false, 1.0f});
  cases.push_back({DType::kQ8_0, 2, 4, 4, 32, 1300, Ranges::kCausal, true, 1.0f});
  cases.push_back({DType::kQ8_0, 10, 8, 2, 64, 600, Ranges::kPairs, true, 1.0f});
  cases.push_back({DType::kF16, 32, 8, 8, 64, 16 * 70, Ranges::kPairs, false, 1.0f});
  cases.push_back({DType::kF32, 5, 16, 2, 128, 3 * 600, Ranges::kPairs, false, 1.0f});
  cases.push_back({DType::kF16, 1, 8, 2, 64, 3000, Ranges::kCausal, false, 1.0f});  // few queries, many keys: splits
  cases.push_back({DType::kF32, 5, 4, 1, 128, 2500, Ranges::kRandom, true, 1.0f});
  cases.push_back({DType::kF32, 3, 2, 2, 80, 1100, Ranges::kSome, true, 1.0f});
  cases.push_back({DType::kF16, 4, 100, 1, 16, 130, Ranges::kCausal, false, 1.0f});  // a group larger than a tile
  cases.push_back({DType::kF32, 9, 4, 2, 32, 300, Ranges::kCausal, false, 40.0f});   // scores of hundreds: most weights vanish
  cases.push_back({DType::kF32, 4, 4, 2, 256, 70, Ranges::kWindow, false, 1.0f});
  cases.push_back({DType::kF32, 2, 1, 1, 1024, 70, Ranges::kWindow, false, 1.0f});
  cases.push_back({DType::kF32, 6, 4, 2, 64, 90, Ranges::kEmpty, false, 1.0f});
  return cases;
}

struct InjectCase {
  DType dtype;
  int tokens, heads, kv_heads, head_dim, slots;
};

inline constexpr InjectCase kInjectCases[] = {
    {DType::kF16, 1, 32, 8, 128, 4 * 128 + 3},
    {DType::kF32, 1, 4, 4, 64, 1},
    {DType::kF32, 7, 4, 2, 64, 31},
    {DType::kF16, 33, 6, 2, 80, 97},
    {DType::kF16, 2, 8, 8, 16, 1500},
    {DType::kF32, 3, 4, 2, 32, 0},
    {DType::kF32, 0, 4, 2, 32, 100},
    {DType::kF32, 65, 2, 1, 8, 129},
    {DType::kQ8_0, 1, 8, 2, 64, 1500},
    {DType::kQ8_0, 33, 6, 2, 96, 97},
    {DType::kQ8_0, 1, 6, 2, 96, 33},
    {DType::kQ8_0, 2, 8, 2, 64, 79},
    {DType::kQ8_0, 4, 4, 1, 128, 1000},
    {DType::kQ8_0, 1, 4, 4, 32, 1},
    {DType::kQ8_0, 3, 8, 8, 32, 16},
    {DType::kQ8_0, 64, 32, 8, 64, 1000},
    {DType::kQ8_0, 17, 8, 2, 32, 65},
    {DType::kQ8_0, 5, 8, 2, 128, 40},
    {DType::kQ8_0, 50, 4, 1, 256, 77},
    {DType::kQ8_0, 20, 2, 1, 32, 8},
    {DType::kQ8_0, 17, 3, 3, 64, 16},
};

struct RowsCase {
  int rows, dim;
};  // embed, norm, merge, gather, swiglu

inline constexpr RowsCase kRowsCases[] = {{0, 8}, {1, 1}, {1, 3}, {2, 4}, {3, 5}, {5, 7}, {4, 8}, {3, 9}, {2, 15}, {7, 16}, {3, 17}, {2, 63},
    {5, 100}, {2, 128}, {40, 1000}, {9, 4096}, {300, 257}};

struct RopeCase {
  int tokens, heads, head_dim;
  bool is_interleaved;
  float magnitude;
  int first_position;
};

inline constexpr RopeCase kRopeCases[] = {
    {0, 2, 8, false, 1.0f, 0},
    {1, 1, 2, false, 1.0f, 1},
    {3, 2, 6, true, 1.0f, 5},
    {5, 3, 10, false, 1.25f, 100},
    {2, 4, 64, false, 1.0f, 900},
    {7, 2, 80, true, 1.1f, 32000},
    {4, 8, 128, false, 1.0f, 1 << 20},
    {300, 4, 64, false, 1.0f, 0},
};

struct StoreCase {
  DType dtype;
  int tokens, heads, head_dim;
  bool is_head_major;
};

inline constexpr StoreCase kStoreCases[] = {
    {DType::kF32, 0, 1, 8, false},
    {DType::kF32, 3, 2, 6, false},
    {DType::kF16, 1, 1, 2, false},
    {DType::kF16, 5, 3, 10, true},
    {DType::kF16, 7, 2, 64, true},
    {DType::kF16, 90, 4, 80, false},
    {DType::kF32, 90, 4, 128, true},
    {DType::kF16, 2, 1, 30, false},
    {DType::kQ8_0, 0, 1, 32, false},
    {DType::kQ8_0, 1, 1, 32, false},
    {DType::kQ8_0, 7, 3, 96, true},
    {DType::kQ8_0, 90, 4, 64, false},
};

// ---- bench: shapes of a 1B Llama (2048 wide, 8192 inner, 32 and 8 heads of 64) and one of an 8B ----

struct GemmBench {
  DType dtype;
  int tokens;
  int64_t rows, cols;
};

inline std::vector<GemmBench> gemm_benches() {
  std::vector<GemmBench> cases;
  for (const DType dtype : kWeightTypes) cases.push_back({dtype, 1, 8192, 2048});
  for (const int tokens : {2, 4, 8, 16, 32}) {
    for (const DType dtype : {DType::kF16, DType::kQ8_0, DType::kQ4_K}) cases.push_back({dtype, tokens, 8192, 2048});
  }
  for (const DType dtype : kWeightTypes) cases.push_back({dtype, 512, 2048, 2048});
  cases.push_back({DType::kF16, 128, 4096, 14336});
  // Block formats in the shapes of a 1B Llama's layer that are not among those above.
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    for (const int tokens : {1, 8, 512}) {
      if (tokens < 512) cases.push_back({dtype, tokens, 2048, 2048});
      if (tokens == 512) cases.push_back({dtype, tokens, 8192, 2048});
      cases.push_back({dtype, tokens, 2048, 8192});
      cases.push_back({dtype, tokens, 512, 2048});
    }
  }
  return cases;
}

// Ranges::kPairs: the keys of token t of `tokens` that share `keys` evenly.
inline void pair_range(int t, int tokens, int keys, std::vector<int32_t>& begin, std::vector<int32_t>& end) {
  const int n_each = keys / ((tokens + 1) / 2);
  begin.push_back(t / 2 * n_each);
  end.push_back(begin.back() + n_each - 1 + t % 2);
}

inline constexpr AttendCase kAttendBenches[] = {
    {DType::kF16, 512, 32, 8, 64, 512, Ranges::kCausal, true, 1.0f},
    {DType::kF16, 512, 32, 8, 64, 4096, Ranges::kCausal, true, 1.0f},
    {DType::kF16, 512, 32, 8, 128, 4096, Ranges::kCausal, true, 1.0f},
    {DType::kF16, 512, 8, 8, 64, 4096, Ranges::kCausal, true, 1.0f},
    {DType::kF16, 1, 32, 8, 64, 8192, Ranges::kCausal, true, 1.0f},
    {DType::kF32, 1, 32, 8, 64, 8192, Ranges::kCausal, true, 1.0f},
    {DType::kF16, 1, 32, 8, 128, 8192, Ranges::kCausal, true, 1.0f},
    {DType::kF16, 1, 32, 32, 128, 8192, Ranges::kCausal, true, 1.0f},
    // One token over a long memory, and chunks that are read side by side: two tokens each.
    {DType::kF16, 1, 32, 8, 64, 20000, Ranges::kCausal, true, 1.0f},
    {DType::kQ8_0, 1, 32, 8, 64, 20000, Ranges::kCausal, true, 1.0f},
    {DType::kF16, 1, 32, 8, 128, 20000, Ranges::kCausal, true, 1.0f},
    {DType::kQ8_0, 1, 32, 8, 128, 20000, Ranges::kCausal, true, 1.0f},
    {DType::kF16, 1, 32, 32, 128, 20000, Ranges::kCausal, true, 1.0f},
    {DType::kQ8_0, 1, 32, 32, 128, 20000, Ranges::kCausal, true, 1.0f},
    {DType::kF16, 2 * 16, 32, 8, 64, 16 * 2600, Ranges::kPairs, true, 1.0f},
    {DType::kQ8_0, 2 * 16, 32, 8, 64, 16 * 2600, Ranges::kPairs, true, 1.0f},
    {DType::kF16, 2 * 200, 32, 8, 64, 200 * 500, Ranges::kPairs, true, 1.0f},
    {DType::kF16, 2 * 16, 40, 8, 128, 16 * 1000, Ranges::kPairs, true, 1.0f},
    {DType::kF16, 2 * 16, 32, 32, 128, 16 * 1000, Ranges::kPairs, true, 1.0f},
    {DType::kQ8_0, 2 * 16, 32, 32, 128, 16 * 1000, Ranges::kPairs, true, 1.0f},
    // As the engine's caches lie: all heads of a token together.
    {DType::kF16, 512, 32, 8, 64, 2560, Ranges::kCausal, false, 1.0f},
    {DType::kF16, 1, 32, 8, 64, 20000, Ranges::kCausal, false, 1.0f},
    {DType::kF16, 1, 32, 32, 128, 8192, Ranges::kCausal, false, 1.0f},
};

// A 1B Llama reads 128K tokens in 128 chunks of 4 nodes with 32 slots each.
inline constexpr InjectCase kInjectBenches[] = {{DType::kF16, 1, 32, 8, 64, 4096}, {DType::kF16, 256, 32, 8, 64, 4096},
    {DType::kF16, 1, 32, 8, 128, 32768}, {DType::kF16, 1, 32, 8, 64, 16384}, {DType::kQ8_0, 1, 32, 8, 64, 16384}, {DType::kF32, 1, 32, 8, 64, 16384},
    {DType::kF16, 2, 32, 8, 64, 16384}, {DType::kF16, 8, 32, 8, 64, 16384}, {DType::kF16, 64, 32, 8, 64, 16384}, {DType::kF16, 512, 32, 8, 64, 16384},
    {DType::kQ8_0, 64, 32, 8, 64, 16384}};

}  // namespace banyan::test
