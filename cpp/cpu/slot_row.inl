// slot_row: a row [G, C] of keys or values on its way into a slot: what compress and place share.

// Heads are taken so many at a time that their elements stay in the first-level cache, and in a task's memory however many there are.
constexpr int kSlotPart = 2048;
BANYAN_INLINE int heads_of_part(int head_dim) { return std::max(1, kSlotPart / head_dim); }

// out[dim] = the mean of n rows, `stride` apart, summed in their order.
inline void mean_of_rows(float* out, const float* x, int64_t stride, int n, int dim) {
  if (n == 1) return static_cast<void>(std::memcpy(out, x, static_cast<size_t>(dim) * sizeof(float)));
  const float divisor = static_cast<float>(n);
  int c = 0;
  for (; c + kLanes <= dim; c += kLanes) {
    Vec sum = load(x + c);
    for (int r = 1; r < n; ++r) sum = add(sum, load(x + r * stride + c));
    store(out + c, div(sum, broadcast(divisor)));
  }
  for (; c < dim; ++c) {
    float sum = x[c];
    for (int r = 1; r < n; ++r) sum += x[r * stride + c];
    out[c] = sum / divisor;
  }
}

// The same in steps, where rows have to be decoded first: sum += x for each further row, then sum /= n.
inline void add_row(float* sum, const float* x, int dim) {
  int c = 0;
  for (; c + kLanes <= dim; c += kLanes) store(sum + c, add(load(sum + c), load(x + c)));
  for (; c < dim; ++c) sum[c] += x[c];
}
inline void divide_row(float* sum, int n, int dim) {
  if (n == 1) return;
  const float divisor = static_cast<float>(n);
  int c = 0;
  for (; c + kLanes <= dim; c += kLanes) store(sum + c, div(load(sum + c), broadcast(divisor)));
  for (; c < dim; ++c) sum[c] /= divisor;
}

// The cosines and sines of one row's pairs, and how it turns by them.
struct SlotTurn {
  float *cos, *sin;  // [n_pairs]
  int n_pairs;
  bool is_interleaved;

  // angle(m) of pair m.
  template <class Angle> void set(const Angle& angle, float magnitude) const {
    for (int m = 0; m < n_pairs; ++m) {
      const Rotation r = rotation(angle(m));
      cos[m] = r.cos * magnitude;
      sin[m] = r.sin * magnitude;
    }
  }
  void turn(float* x, int n_heads) const { rotate_heads(x, cos, sin, n_heads, n_pairs, is_interleaved); }
};
