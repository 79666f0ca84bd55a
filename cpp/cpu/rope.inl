// rope: rotates pairs of each head by position * inverse frequency (RoFormer, arXiv 2104.09864), then scales by `magnitude`.

struct Rotation {
  float cos, sin;
};

// cos and sin of an angle of any size: reduced to |r| <= pi/4 in double, then float polynomials (Cephes sinf.c), error below 1 ulp or so of 1.
// Position (< 2^24) times inv_freq (24 bits) is exact in double, and so is the reduction to 1e-9 for up to 2^24 turns.
inline Rotation rotation(double angle) {
  const double quarter = std::nearbyint(angle * 0.63661977236758134308);  // 2 / pi
  const float r = static_cast<float>(angle - quarter * 1.57079632679489661923);
  const float z = r * r;
  const float sin = r + r * z * (-1.6666654611e-1f + z * (8.3321608736e-3f + z * -1.9515295891e-4f));
  const float cos = 1.0f - 0.5f * z + z * z * (4.166664568298827e-2f + z * (-1.388731625493765e-3f + z * 2.443315711809948e-5f));
  switch (static_cast<int64_t>(quarter) & 3) {
    case 0: return {cos, sin};
    case 1: return {-sin, cos};
    case 2: return {-cos, -sin};
    default: return {sin, -cos};
  }
}

// (a, b) of pair m <- rotated; all pairs of one head, halves layout.
inline void rotate_halves(float* x, const float* cos, const float* sin, int n_pairs) {
  float* y = x + n_pairs;
  int m = 0;
  for (; m + kLanes <= n_pairs; m += kLanes) {
    const Vec a = load(x + m), b = load(y + m), c = load(cos + m), s = load(sin + m);
    store(x + m, fnma(b, s, mul(a, c)));
    store(y + m, fma(b, c, mul(a, s)));
  }
  if (const int n = n_pairs - m; n > 0) {
    const Vec a = load_n(x + m, n), b = load_n(y + m, n), c = load_n(cos + m, n), s = load_n(sin + m, n);
    store_n(x + m, fnma(b, s, mul(a, c)), n);
    store_n(y + m, fma(b, c, mul(a, s)), n);
  }
}

inline void rotate_interleaved(float* BANYAN_RESTRICT x, const float* BANYAN_RESTRICT cos, const float* BANYAN_RESTRICT sin, int n_pairs) {
  for (int m = 0; m < n_pairs; ++m) {
    const float a = x[2 * m], b = x[2 * m + 1];
    x[2 * m] = a * cos[m] - b * sin[m];
    x[2 * m + 1] = a * sin[m] + b * cos[m];
  }
}

inline void rotate_heads(float* x, const float* cos, const float* sin, int n_heads, int n_pairs, bool is_interleaved) {
  for (int h = 0; h < n_heads; ++h, x += 2 * n_pairs) {
    if (is_interleaved) rotate_interleaved(x, cos, sin, n_pairs);
    else rotate_halves(x, cos, sin, n_pairs);
  }
}

inline void rope_task(const RowsJob<RopeArgs>& job, int index, std::byte* scratch) {
  const RopeArgs& a = job.args;
  const int n_pairs = a.head_dim / 2;
  float* cos = reinterpret_cast<float*>(scratch);
  float* sin = cos + n_pairs;
  for (int64_t t = job.begin(index); t < job.end(index); ++t) {
    for (int m = 0; m < n_pairs; ++m) {
      const Rotation r = rotation(static_cast<double>(a.positions[t]) * static_cast<double>(a.inv_freq[m]));
      cos[m] = r.cos * a.magnitude;
      sin[m] = r.sin * a.magnitude;
    }
    rotate_heads(a.x + t * a.n_heads * a.head_dim, cos, sin, a.n_heads, n_pairs, a.is_interleaved);
  }
}

inline void rope(Stream& stream, const RopeArgs& args) {
  run_rows<RopeArgs, rope_task>(stream, args, args.n_tokens, int64_t{args.n_heads} * args.head_dim);
}
