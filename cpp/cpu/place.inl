// place: pieces of keys or values into a cache, pooled and turned on the way: read once, written once, nothing between.

struct PlaceJob {
  const Stream& stream;
  const PlaceArgs& args;
};

inline void place_task(const PlaceJob& job, int index, std::byte* scratch) {
  const PlaceArgs& a = job.args;
  const PlacedRows& piece = a.pieces[index];
  const int dim = a.n_heads * a.head_dim, n_pairs = a.head_dim / 2;
  const size_t n_bytes = row_bytes(a.dtype, dim);
  const uint8_t* from = static_cast<const uint8_t*>(piece.from);
  uint8_t* out = static_cast<uint8_t*>(a.out) + static_cast<size_t>(piece.row) * n_bytes;
  const bool turns = a.inv_freq != nullptr && (piece.position != 0 || piece.step != 0 || piece.index != 0 || a.magnitude != 1.0f);
  if (!turns && piece.pooled == 1) {
    if (piece.stride == 1) return static_cast<void>(std::memcpy(out, from, static_cast<size_t>(piece.n_rows) * n_bytes));
    for (int j = 0; j < piece.n_rows; ++j)
      std::memcpy(out + static_cast<size_t>(j) * n_bytes, from + static_cast<size_t>(j * piece.stride) * n_bytes, n_bytes);
    return;
  }
  const int n_part = heads_of_part(a.head_dim);
  float* cos = reinterpret_cast<float*>(scratch);
  const SlotTurn turn{cos, cos + n_pairs, n_pairs, a.is_interleaved};
  float *part = cos + 2 * n_pairs, *other = part + std::max(kSlotPart, a.head_dim);
  const Decode decode = decoder_of(a.dtype);
  for (int j = 0; j < piece.n_rows; ++j, out += n_bytes) {
    const int begin = j * piece.stride, n = std::min(piece.pooled, piece.n_from - begin);
    if (turns && (j == 0 || piece.step != 0)) {  // without a step all rows of a piece turn alike
      const double position = static_cast<double>(piece.position + j * piece.step), slow = static_cast<double>(piece.index);
      turn.set(
          [&](int m) {
            const double angle = position * static_cast<double>(a.inv_freq[m]);
            return a.slow_freq != nullptr ? angle + slow * static_cast<double>(a.slow_freq[m]) : angle;
          },
          a.magnitude);
    }
    for (int head = 0; head < a.n_heads; head += n_part) {
      const int n_heads = std::min(n_part, a.n_heads - head), n_elements = n_heads * a.head_dim;
      const size_t first = row_bytes(a.dtype, head * a.head_dim);
      decode(from + static_cast<size_t>(begin) * n_bytes + first, n_elements, part);
      for (int r = 1; r < n; ++r) {
        decode(from + static_cast<size_t>(begin + r) * n_bytes + first, n_elements, other);
        add_row(part, other, n_elements);
      }
      divide_row(part, n, n_elements);
      if (turns) turn.turn(part, n_heads);
      store_row(a.dtype, out + first, part, n_elements);
    }
  }
}

inline void place(Stream& stream, const PlaceArgs& args) { run_tasks<PlaceJob, place_task>({stream, args}, args.n_pieces); }
