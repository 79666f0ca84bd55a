// ahead: weights that are needed next, asked for while others are unpacked and multiplied.

// Pieces of rows, too short for the memory's own prefetchers: some rows at each step, so that memory is never asked for much at once.
struct Ahead {
  const uint8_t* at;
  int64_t row_stride, piece_bytes;
  int n_rows, rows_per_step;

  // Its rows from `begin` to `end`, in n_steps steps.
  Ahead part(int begin, int end, int n_steps) const {
    return {at + begin * row_stride, row_stride, piece_bytes, end - begin, static_cast<int>(ceil_div(end - begin, n_steps))};
  }
  // kBytes: piece_bytes where the caller knows them, which makes the inner loop straight code (1 to 4 % of gemm with 8 tokens).
  template <int kBytes = 0> BANYAN_INLINE void ask(int step) const {
    const int64_t n_bytes = kBytes > 0 ? kBytes : piece_bytes;
    const int begin = step * rows_per_step, end = std::min(n_rows, begin + rows_per_step);
    for (int row = begin; row < end; ++row) {
      const uint8_t* piece = at + row * row_stride;
      BANYAN_UNROLL
      for (int64_t b = 0; b < n_bytes; b += 64) BANYAN_PREFETCH(piece + b);
      BANYAN_PREFETCH(piece + n_bytes - 1);
    }
  }
};
