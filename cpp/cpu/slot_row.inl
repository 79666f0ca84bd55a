// slot_row: a row [G, C] of keys or values on its way into a slot: what compress and place share.

// out += x, or out = x.
inline void add_row(float* out, const float* x, int dim, bool is_first) {
  int c = 0;
  for (; c + kLanes <= dim; c += kLanes) store(out + c, is_first ? load(x + c) : add(load(out + c), load(x + c)));
  for (; c < dim; ++c) out[c] = is_first ? x[c] : out[c] + x[c];
}

inline void divide_row(float* row, int n, int dim) {
  if (n == 1) return;
  const float divisor = static_cast<float>(n);
  int c = 0;
  for (; c + kLanes <= dim; c += kLanes) store(row + c, div(load(row + c), broadcast(divisor)));
  for (; c < dim; ++c) row[c] /= divisor;
}

// The cosines and sines of one row's pairs, and how it turns by them.
struct SlotTurn {
  float *cos, *sin;  // [n_pairs]
  int n_heads, n_pairs;
  bool is_interleaved;

  // angle(m) of pair m.
  template <class Angle> void set(const Angle& angle, float magnitude) const {
    for (int m = 0; m < n_pairs; ++m) {
      const Rotation r = rotation(angle(m));
      cos[m] = r.cos * magnitude;
      sin[m] = r.sin * magnitude;
    }
  }
  void turn(float* row) const { rotate_heads(row, cos, sin, n_heads, n_pairs, is_interleaved); }
};
