// unpack_int8: strips of weight rows as unsigned bytes in the order the integer products read them, and their scales as floats (x86). Blocks are transposed
// packed, as they lie in the file, and become bytes afterwards: 4-bit weights move half as much, and scales of kLanes rows are worked out at once.

constexpr int kPanelVectors = 2;                    // vectors of kLanes rows in a strip
constexpr int kStripRows = kLanes * kPanelVectors;  // a strip is what a tile of tokens meets at once
constexpr int kPanelRows = kStripRows;              // of a task. More strips, which read x less often, were slower at any number of tokens
constexpr int kPanelBlocks = 16;                    // 512 elements: a strip is 16 KiB (AVX2: 8) and stays in the first-level cache with 24 tokens
constexpr int kDeepBlocks = 64;  // of many tokens: 64 KiB (AVX2: 32), from the second level; sums go to memory and back a quarter as often
constexpr int kPanelDepth = 32 * kPanelBlocks, kDeepDepth = 32 * kDeepBlocks;
template <DType kFormat> constexpr int kPieceBytes = static_cast<int>(row_bytes(kFormat, kPanelDepth));  // of a row in a panel

// 4 elements of each of kLanes rows are one vector, the operand of one VPDPBUSD or VPMADDUBSW.
constexpr int kVectorBytes = 4 * kLanes;
// With weights in words (kIsInWords, products_maddubs.inl) it has two elements of each, and a block two parts of eight vectors.
template <DType kFormat> constexpr int kPartsOf = kIsInWords<kFormat> ? 2 : 1;
struct Strip {
  alignas(64) uint8_t q[kDeepBlocks * std::max(kPartsOf<DType::kQ8_0>, kPartsOf<DType::kQ4_0>)][8][kPanelVectors][kVectorBytes];
  float scales[2][kDeepBlocks][kPanelVectors][kLanes];  // Q4_K, Q5_K: scales and minimums; Q6_K: of the first and the second 16; others: one
};

constexpr int kRestBytes = static_cast<int>(row_bytes(DType::kQ8_0, kDeepDepth));  // a row of the format with the most
struct Int8Scratch {
  alignas(64) Strip strips[kPanelRows / kStripRows];
  alignas(64) uint8_t rest[kLanes][kRestBytes];  // the last rows, where there are fewer than kLanes
};
static_assert(sizeof(Int8Scratch) <= Threads::kScratchBytes);

// The rows of a strip that one vector holds, from a block on: where its bytes and its scales begin, so that all else is a constant distance.
template <DType kFormat> struct StripPart {
  uint8_t* q;
  float* scales;
  StripPart(Strip& strip, int block, int vector)
      : q(strip.q[kPartsOf<kFormat> * block][0][vector]),
        scales(reinterpret_cast<float*>(strip.scales) + (block * kPanelVectors + vector) * kLanes) {}

  BANYAN_INLINE void put(int b, int k, Bytes bytes) const { store_bytes(q + (8 * kPartsOf<kFormat> * b + k) * kPanelVectors * kVectorBytes, bytes); }
  BANYAN_INLINE void put_scales(int group, int b, Vec values) const { store(scales + (group * kDeepBlocks + b) * kPanelVectors * kLanes, values); }
};

// Byte `i` of every dword.
BANYAN_INLINE IVec byte_of(IVec dwords, int i) { return bit_and(shift_right_by(dwords, 8 * i), 255); }
BANYAN_INLINE IVec signed_byte_of(IVec dwords, int i) { return shift_right_signed<24>(shift_left_by(dwords, 24 - 8 * i)); }

// Q4_K, Q5_K: `head` has the first 16 bytes of each block, dword by dword (scale_min in dequant.inl).
template <DType kFormat> BANYAN_INLINE void put_scales_mins(const StripPart<kFormat>& part, const IVec* head) {
  const Vec factors[] = {lower_half(head[0]), lower_half(shift_right<16>(head[0]))};
  BANYAN_UNROLL
  for (int m = 0; m < 2; ++m) {  // scales, minimums
    const IVec low = bit_and(head[1 + m], 0x3f3f3f3f);
    const IVec nibbles = bit_and(m == 0 ? head[3] : shift_right<4>(head[3]), 0x0f0f0f0f);
    const IVec high = and_or(shift_right<2>(head[1 + m]), bytes_of(48), nibbles);
    BANYAN_UNROLL
    for (int b = 0; b < 4; ++b) {
      part.put_scales(m, b, mul(to_float(byte_of(low, b)), factors[m]));
      part.put_scales(m, 4 + b, mul(to_float(byte_of(high, b)), factors[m]));
    }
  }
}

// One block of each of kLanes rows, `stride` apart.
template <DType kFormat> BANYAN_INLINE void unpack_blocks(const uint8_t* from, int64_t stride, const StripPart<kFormat>& part) {
  IVec c[8];
  if constexpr (kFormat == DType::kQ8_0) {
    part.put_scales(0, 0, load_halves(from, stride));
    load_columns(from + 2, stride, c);
    load_columns(from + 18, stride, c + 4);
    BANYAN_UNROLL
    for (int k = 0; k < 8; ++k) {
      if constexpr (kIsInWords<kFormat>) {
        part.put(0, 2 * k, Products<kFormat>::words_of(c[k], 0));
        part.put(0, 2 * k + 1, Products<kFormat>::words_of(c[k], 1));
      } else {
        part.put(0, k, flip(c[k], bytes_of(128)));
      }
    }
  } else if constexpr (kFormat == DType::kQ4_0) {
    part.put_scales(0, 0, load_halves(from, stride));
    load_columns(from + 2, stride, c);
    BANYAN_UNROLL
    for (int k = 0; k < 4; ++k) {
      part.put(0, k, low_nibbles(c[k]));
      part.put(0, 4 + k, high_nibbles(c[k]));
    }
  } else if constexpr (kFormat == DType::kQ6_K) {
    const Vec d = load_halves<true>(from + 206, stride);
    load_columns(from + 192, stride, c);
    BANYAN_UNROLL
    for (int j = 0; j < 4; ++j) {
      BANYAN_UNROLL
      for (int i = 0; i < 4; ++i) part.put_scales(i % 2, 2 * j + i / 2, mul(to_float(signed_byte_of(c[j], i)), d));
    }
    // Halves of 128 elements: 64 bytes of nibbles and 32 of upper bits, two for each of four blocks.
    BANYAN_UNROLL
    for (int h = 0; h < 2; ++h) {
      load_columns(from + 128 + 32 * h, stride, c);
      load_columns(from + 144 + 32 * h, stride, c + 4);
      BANYAN_UNROLL
      for (int piece = 0; piece < 4; ++piece) {
        IVec nibbles[4];
        load_columns(from + 64 * h + 16 * piece, stride, nibbles);
        BANYAN_UNROLL
        for (int j = 0; j < 4; ++j) {
          const int k = piece % 2 * 4 + j, b = 4 * h + piece / 2;
          const IVec upper = c[k];
          const IVec low = shift_bits(upper, piece / 2 == 0 ? 4 : 2), high = shift_bits(upper, piece / 2 == 0 ? 0 : -2);
          part.put(b, k, and_or(low, bytes_of(48), low_nibbles(nibbles[j])));
          part.put(b + 2, k, and_or(high, bytes_of(48), high_nibbles(nibbles[j])));
        }
      }
    }
  } else {
    load_columns(from, stride, c);
    put_scales_mins(part, c);
    if constexpr (kFormat == DType::kQ5_K) {
      load_columns(from + 16, stride, c);
      load_columns(from + 32, stride, c + 4);
    }
    const uint8_t* nibbles_at = from + (kFormat == DType::kQ4_K ? 16 : 48);
    BANYAN_UNROLL
    for (int piece = 0; piece < 8; ++piece) {
      IVec nibbles[4];
      load_columns(nibbles_at + 16 * piece, stride, nibbles);
      BANYAN_UNROLL
      for (int j = 0; j < 4; ++j) {
        const int k = piece % 2 * 4 + j, b = piece / 2 * 2;
        IVec low = low_nibbles(nibbles[j]), high = high_nibbles(nibbles[j]);
        if constexpr (kFormat == DType::kQ5_K) {  // bit b of the fifth bits belongs to the low nibbles, the next to the high
          low = and_or(shift_bits(c[k], 4 - b), bytes_of(16), low);
          high = and_or(shift_bits(c[k], 3 - b), bytes_of(16), high);
        }
        part.put(b, k, low);
        part.put(b + 1, k, high);
      }
    }
  }
}

// Of Ahead, while a strip is unpacked.
template <DType kFormat> constexpr int unpack_steps(int n_k) { return kPanelVectors * n_k / traits(kFormat).block_size; }

// n_rows rows from `from` on, n_k elements of each. What lies behind them up to the end of their strip is a copy of the last: nobody stores it.
template <DType kFormat>
void unpack_strip(Int8Scratch& s, Strip& strip, const uint8_t* from, int64_t row_stride, int n_rows, int n_k, const Ahead& ahead) {
  constexpr int kElements = traits(kFormat).block_size, kBytes = traits(kFormat).block_bytes;
  const size_t piece_bytes = row_bytes(kFormat, n_k);
  int step = 0;
  for (int v = 0; v < kPanelVectors; ++v, from += kLanes * row_stride) {
    const int n = std::min(kLanes, n_rows - kLanes * v);
    if (n <= 0) return;
    const uint8_t* rows = from;
    int64_t stride = row_stride;
    if (n < kLanes) {
      for (int i = 0; i < kLanes; ++i) std::memcpy(s.rest[i], from + std::min(i, n - 1) * row_stride, piece_bytes);
      rows = s.rest[0];
      stride = kRestBytes;
    }
    for (int k = 0; k < n_k; k += kElements, rows += kBytes) {
      ahead.ask<kPieceBytes<kFormat>>(step++);
      unpack_blocks<kFormat>(rows, stride, {strip, k / 32, v});
    }
  }
}
