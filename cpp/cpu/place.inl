// place: pieces of keys or values into a cache, pooled and turned on the way: read once, written once, nothing between but what a tile gathers.

struct PlaceJob {
  const Stream& stream;
  const PlaceArgs& args;
};

// Makes the rows of a piece, some heads at a time.
struct PlacePiece {
  const PlaceArgs& a;
  const PlacedRows& piece;
  const size_t n_bytes;  // of a row
  const bool turns, is_as_it_is;
  SlotTurn turn;
  float *part, *other;
  uint8_t* buffer;  // [kTileSlots] rows of some heads
  Decode decode;
  int turned_row = -1;

  PlacePiece(const PlaceArgs& args, const PlacedRows& placed, std::byte* scratch)
      : a(args),
        piece(placed),
        n_bytes(row_bytes(a.dtype, int64_t{a.n_heads} * a.head_dim)),
        turns(a.inv_freq != nullptr && (piece.position != 0 || piece.step != 0 || piece.index != 0 || a.magnitude != 1.0f)),
        is_as_it_is(!turns && piece.pooled == 1),
        decode(decoder_of(a.dtype)) {
    const int n_pairs = a.head_dim / 2;
    float* cos = reinterpret_cast<float*>(scratch);
    turn = {cos, cos + n_pairs, n_pairs, a.is_interleaved};
    part = cos + 2 * n_pairs;
    other = part + std::max(kSlotPart, a.head_dim);
    buffer = reinterpret_cast<uint8_t*>(other + std::max(kSlotPart, a.head_dim));
  }

  const uint8_t* source(int j) const { return static_cast<const uint8_t*>(piece.from) + static_cast<size_t>(j * piece.stride) * n_bytes; }

  // to = heads [head, head + n_heads) of row j.
  void make(int j, int head, int n_heads, uint8_t* to) {
    const int begin = j * piece.stride, n = std::min(piece.pooled, piece.n_from - begin), n_elements = n_heads * a.head_dim;
    const uint8_t* from = source(j) + row_bytes(a.dtype, int64_t{head} * a.head_dim);
    decode(from, n_elements, part);
    for (int r = 1; r < n; ++r) {
      decode(from + static_cast<size_t>(r) * n_bytes, n_elements, other);
      add_row(part, other, n_elements);
    }
    divide_row(part, n, n_elements);
    if (turns) {
      set_turn(piece.step != 0 ? j : 0);  // without a step all rows of a piece turn alike
      turn.turn(part, n_heads);
    }
    store_row(a.dtype, to, part, n_elements);
  }

 private:
  void set_turn(int j) {
    if (j == turned_row) return;
    turned_row = j;
    const double position = static_cast<double>(piece.position + j * piece.step), slow = static_cast<double>(piece.index);
    turn.set(
        [&](int m) {
          const double angle = position * static_cast<double>(a.inv_freq[m]);
          return a.slow_freq != nullptr ? angle + slow * static_cast<double>(a.slow_freq[m]) : angle;
        },
        a.magnitude);
  }
};

// [G, head_rows, C]: some heads of a row are made together, as they share its angles.
inline void place_apart(PlacePiece& placing, int n_part) {
  const PlaceArgs& a = placing.a;
  const PlacedRows& piece = placing.piece;
  const size_t head_bytes = row_bytes(a.dtype, a.head_dim);
  for (int j = 0; j < piece.n_rows; ++j) {
    for (int first = 0; first < a.n_heads; first += n_part) {
      const int n_heads = std::min(n_part, a.n_heads - first);
      const uint8_t* row = placing.source(j) + static_cast<size_t>(first) * head_bytes;
      if (!placing.is_as_it_is) {
        placing.make(j, first, n_heads, placing.buffer);
        row = placing.buffer;
      }
      for (int i = 0; i < n_heads; ++i, row += head_bytes) {
        std::memcpy(static_cast<uint8_t*>(a.out) + static_cast<size_t>((first + i) * a.head_rows + piece.row + j) * head_bytes, row, head_bytes);
      }
    }
  }
}

inline void place_rows(PlacePiece& placing, int n_part) {
  const PlaceArgs& a = placing.a;
  const PlacedRows& piece = placing.piece;
  const size_t n_bytes = placing.n_bytes;
  uint8_t* out = static_cast<uint8_t*>(a.out) + static_cast<size_t>(piece.row) * n_bytes;
  if (placing.is_as_it_is && piece.stride == 1) {
    std::memcpy(out, piece.from, static_cast<size_t>(piece.n_rows) * n_bytes);
    return;
  }
  for (int j = 0; j < piece.n_rows; ++j, out += n_bytes) {
    if (placing.is_as_it_is) {
      std::memcpy(out, placing.source(j), n_bytes);
      continue;
    }
    for (int head = 0; head < a.n_heads; head += n_part) {
      placing.make(j, head, std::min(n_part, a.n_heads - head), out + row_bytes(a.dtype, int64_t{head} * a.head_dim));
    }
  }
}

// A block of Q8_0 becomes slot `slot` of a block of a tile.
BANYAN_INLINE void put_key(uint8_t* tile, int slot, const uint8_t* block) {
  std::memcpy(tile + scale_in_tile(slot), block, 2);
  for (int j = 0; j < 32; j += 4) {
    uint32_t four;
    std::memcpy(&four, block + 2 + j, sizeof four);
    four ^= 0x80808080u;
    std::memcpy(tile + key_in_tile(slot, j), &four, sizeof four);
  }
}
BANYAN_INLINE void put_value(uint8_t* tile, int slot, const uint8_t* block) {
  std::memcpy(tile + scale_in_tile(slot), block, 2);
  for (int e = 0; e < 32; ++e) tile[value_in_tile(slot, e)] = block[2 + e];
}
// Slots `slot` and slot + 16, whose bytes lie side by side.
BANYAN_INLINE void put_values(uint8_t* BANYAN_RESTRICT tile, int slot, const uint8_t* BANYAN_RESTRICT first, const uint8_t* BANYAN_RESTRICT second) {
  std::memcpy(tile + scale_in_tile(slot), first, 2);
  std::memcpy(tile + scale_in_tile(slot + 16), second, 2);
  uint8_t* to = tile + value_in_tile(slot, 0);
  for (int e = 0; e < 32; ++e) {
    to[2 * e] = first[2 + e];
    to[2 * e + 1] = second[2 + e];
  }
}

// n rows of n_blocks blocks, `stride` bytes apart, become slots `slot` and following of a tile.
inline void put_in_tile(SlotOrder order, uint8_t* tile, int slot, int n, const uint8_t* rows, size_t stride, int n_blocks) {
  for (int b = 0; b < n_blocks; ++b, tile += kTileBlockBytes, rows += row_bytes(DType::kQ8_0, 32)) {
    const auto block = [&](int i) { return rows + static_cast<size_t>(i) * stride; };
    if (order == SlotOrder::kKeyTiles) {
      for (int i = 0; i < n; ++i) put_key(tile, slot + i, block(i));
    } else if (n == kTileSlots) {
      for (int i = 0; i < 16; ++i) put_values(tile, i, block(i), block(i + 16));
    } else {
      for (int i = 0; i < n; ++i) put_value(tile, slot + i, block(i));
    }
  }
}

// Pieces that share a tile write other bytes of it.
inline void place_tiles(PlacePiece& placing, int n_part) {
  const PlaceArgs& a = placing.a;
  const PlacedRows& piece = placing.piece;
  for (int j = 0, n = 0; j < piece.n_rows; j += n) {
    const int slot = (piece.row + j) % kTileSlots;
    n = std::min(kTileSlots - slot, piece.n_rows - j);
    const size_t head_bytes = row_bytes(DType::kQ8_0, a.head_dim);
    for (int head = 0; head < a.n_heads; head += n_part) {
      const int n_heads = std::min(n_part, a.n_heads - head);
      const uint8_t* rows = placing.source(j) + static_cast<size_t>(head) * head_bytes;
      size_t stride = static_cast<size_t>(piece.stride) * placing.n_bytes;
      if (!placing.is_as_it_is) {
        rows = placing.buffer;
        stride = static_cast<size_t>(n_heads) * head_bytes;
        for (int i = 0; i < n; ++i) placing.make(j + i, head, n_heads, placing.buffer + static_cast<size_t>(i) * stride);
      }
      for (int i = 0; i < n_heads; ++i) {
        const int64_t tile = (head + i) * a.head_rows + piece.row + j - slot;
        put_in_tile(a.order, static_cast<uint8_t*>(a.out) + static_cast<size_t>(tile) * head_bytes, slot, n,
            rows + static_cast<size_t>(i) * head_bytes, stride, a.head_dim / 32);
      }
    }
  }
}

inline void place_task(const PlaceJob& job, int index, std::byte* scratch) {
  const PlaceArgs& a = job.args;
  PlacePiece placing(a, a.pieces[index], scratch);
  const int n_part = heads_of_part(a.head_dim);
  if (a.order != SlotOrder::kRows) place_tiles(placing, n_part);
  else if (a.head_rows != 0) place_apart(placing, n_part);
  else place_rows(placing, n_part);
}

inline void place(Stream& stream, const PlaceArgs& args) { run_tasks<PlaceJob, place_task>({stream, args}, args.n_pieces); }
