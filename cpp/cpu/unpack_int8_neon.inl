// unpack_int8_neon: strips of weight rows as signed bytes in the order the integer products read them, and its scales as floats.

constexpr int kStripRows = 8;                     // a strip is what a tile of tokens meets at once
constexpr int kSides = kStripRows / kVectorRows;  // vectors of kVectorRows rows in a strip
constexpr int kPanelRows = 4 * kStripRows;        // of a task, as on x86
constexpr int kPanelBlocks = 16;                  // 512 elements: a strip is 5 KiB and stays in the first-level cache with 24 tokens
constexpr int kPanelDepth = 32 * kPanelBlocks, kDeepDepth = kPanelDepth;
template <DType kFormat> constexpr int kPieceBytes = static_cast<int>(row_bytes(kFormat, kPanelDepth));  // of a row in a panel

// kStep elements of each of kVectorRows rows are one vector, the operand of one instruction.
struct Strip {
  int8_t q[kPanelBlocks][kSides][32 / kStep][16];
  float scales[2][kPanelBlocks][kStripRows];  // Q4_K, Q5_K: scales and minimums; Q6_K: of the first and the second 16; others: one
};

struct Int8Scratch {
  alignas(64) Strip strips[kPanelRows / kStripRows];
};
static_assert(sizeof(Int8Scratch) <= Threads::kScratchBytes);

// A unit of kVectorRows rows from row `row` of the strip on; `units` may be the same for some.
template <DType kFormat> BANYAN_INLINE void unpack_units(const uint8_t* const* units, Strip& strip, int block, int row) {
  using Format = Int8Format<kFormat>;
  int8_t q[kVectorRows][Format::kElements];
  for (int r = 0; r < kVectorRows; ++r) {
    Bytes vectors[8 * Format::kQuads];
    unpack<kFormat, 0>(units[r], vectors);
    if constexpr (Format::kQuads == 2) unpack<kFormat, 1>(units[r], vectors + 8);
    BANYAN_UNROLL
    for (int v = 0; v < Format::kElements / 16; ++v) vst1q_s8(q[r] + 16 * v, vectors[v]);
    Vec scales[Format::kQuads * Format::kGroups], minimums[Format::kQuads];
    load_scales<kFormat>(units[r], scales, minimums);
    constexpr int kBlocks = 4 * Format::kQuads;
    float each[kBlocks * Format::kGroups];
    for (int i = 0; i < Format::kQuads * Format::kGroups; ++i) store(each + 4 * i, scales[i]);
    for (int i = 0; i < kBlocks * Format::kGroups; ++i) strip.scales[i % Format::kGroups][block + i / Format::kGroups][row + r] = each[i];
    if constexpr (Format::kHasMin) {
      for (int i = 0; i < Format::kQuads; ++i) store(each + 4 * i, minimums[i]);
      for (int b = 0; b < kBlocks; ++b) strip.scales[1][block + b][row + r] = each[b];
    }
  }
  for (int k = 0; k < Format::kElements; k += 16) interleave(q[0] + k, Format::kElements, strip.q[block + k / 32][row / kVectorRows][k % 32 / kStep]);
}

// Of Ahead, while a strip is unpacked.
template <DType kFormat> constexpr int unpack_steps(int n_k) { return kSides * static_cast<int>(ceil_div(n_k, Int8Format<kFormat>::kElements)); }

// n_rows rows from `from` on, n_k elements of each. The last row stands in for those that fill up the strip.
template <DType kFormat>
void unpack_strip(Int8Scratch&, Strip& strip, const uint8_t* from, int64_t row_stride, int n_rows, int n_k, const Ahead& ahead) {
  using Format = Int8Format<kFormat>;
  int step = 0;
  for (int row = 0; row < kStripRows; row += kVectorRows) {
    const uint8_t* pieces[kVectorRows];
    for (int r = 0; r < kVectorRows; ++r) pieces[r] = from + std::min(row + r, n_rows - 1) * row_stride;
    int k = 0;
    for (; k + Format::kElements <= n_k; k += Format::kElements) {
      ahead.ask<kPieceBytes<kFormat>>(step++);
      unpack_units<kFormat>(pieces, strip, k / 32, row);
      for (const uint8_t*& piece : pieces) piece += Format::kBytes;
    }
    if (k < n_k) {
      uint8_t rest[kVectorRows][Format::kBytes] = {};
      for (int r = 0; r < kVectorRows; ++r) {
        std::memcpy(rest[r], pieces[r], row_bytes(kFormat, n_k - k));
        pieces[r] = rest[r];
      }
      unpack_units<kFormat>(pieces, strip, k / 32, row);
    }
  }
}
