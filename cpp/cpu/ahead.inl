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
  // kBytes: the usual piece_bytes, for which the inner loop is straight code (1 to 4 % of gemm with 8 tokens); for less, as much is asked for.
  template <int kBytes = 0> BANYAN_INLINE void ask(int step) const {
    if (kBytes > 0 && piece_bytes <= kBytes) ask_bytes(step, kBytes);
    else ask_bytes(step, piece_bytes);
  }

 private:
  BANYAN_INLINE void ask_bytes(int step, int64_t n_bytes) const {
    const int begin = step * rows_per_step, end = std::min(n_rows, begin + rows_per_step);
    for (int row = begin; row < end; ++row) {
      const uint8_t* piece = at + row * row_stride;
      BANYAN_UNROLL
      for (int64_t b = 0; b < n_bytes; b += 64) BANYAN_PREFETCH(piece + b);
      BANYAN_PREFETCH(piece + n_bytes - 1);
    }
  }
};
