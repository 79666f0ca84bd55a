// place: pieces of keys or values into a cache, keys turned on the way: read once, written once, nothing between.

struct PlaceJob {
  const Stream& stream;
  const PlaceArgs& args;
};

// One piece. A position turns all of its rows alike.
inline void place_task(const PlaceJob& job, int index, std::byte* scratch) {
  const PlaceArgs& a = job.args;
  const PlacedRows& piece = a.pieces[index];
  const int dim = a.n_heads * a.head_dim, n_pairs = a.head_dim / 2;
  const size_t n_bytes = row_bytes(a.dtype, dim);
  const uint8_t* from = static_cast<const uint8_t*>(piece.from);
  uint8_t* out = static_cast<uint8_t*>(a.out) + static_cast<size_t>(piece.row) * n_bytes;
  if (a.inv_freq == nullptr || piece.position == 0) {
    std::memcpy(out, from, static_cast<size_t>(piece.n_rows) * n_bytes);
    return;
  }
  float* cos = reinterpret_cast<float*>(scratch);
  float* sin = cos + n_pairs;
  float* row = sin + n_pairs;
  for (int m = 0; m < n_pairs; ++m) {
    const Rotation r = rotation(static_cast<double>(piece.position) * static_cast<double>(a.inv_freq[m]));
    cos[m] = r.cos;
    sin[m] = r.sin;
  }
  const Decode decode = decoder_of(a.dtype);
  for (int i = 0; i < piece.n_rows; ++i, from += n_bytes, out += n_bytes) {
    decode(from, dim, row);
    for (int h = 0; h < a.n_heads; ++h) {
      if (a.is_interleaved) rotate_interleaved(row + h * a.head_dim, cos, sin, n_pairs);
      else rotate_halves(row + h * a.head_dim, cos, sin, n_pairs);
    }
    store_row(a.dtype, out, row, dim);
  }
}

inline void place(Stream& stream, const PlaceArgs& args) { run_tasks<PlaceJob, place_task>({stream, args}, args.n_pieces); }
