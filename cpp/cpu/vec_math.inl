// vec_math: functions every variant builds from its vocabulary.

// e^x, |relative error| < 2 ulp for -87.33 <= x <= 88.37, which x must not exceed. Below -87.33 it is 0 (so are masked scores, -inf). NaN stays NaN.
// x = n ln2 + r, |r| <= ln2 / 2; ln2 in two parts, the first with 9 trailing zero bits so that n times it is exact (Cody and Waite).
// The polynomial is the Taylor series to r^7: its remainder, r^8 / 8! < 6e-9, is a tenth of an ulp.
BANYAN_INLINE Vec exp_bounded(Vec x) {
  const Vec lowest = broadcast(-87.33f);
  const Vec clamped = max(lowest, x);
  const Vec n = round_to_even(mul(clamped, broadcast(1.44269504f)));
  Vec r = fnma(n, broadcast(0.693359375f), clamped);
  r = fnma(n, broadcast(-2.12194440e-4f), r);
  Vec p = broadcast(1.0f / 5040);
  p = fma(p, r, broadcast(1.0f / 720));
  p = fma(p, r, broadcast(1.0f / 120));
  p = fma(p, r, broadcast(1.0f / 24));
  p = fma(p, r, broadcast(1.0f / 6));
  p = fma(p, r, broadcast(0.5f));
  p = fma(p, r, broadcast(1.0f));
  p = fma(p, r, broadcast(1.0f));
  return zero_if_below(times_power_of_two(p, n), x, lowest);
}

// The same for any x; above 88.37 it stays at e^88.37: silu needs no infinity.
BANYAN_INLINE Vec exp(Vec x) { return exp_bounded(min(broadcast(88.37f), x)); }

// The same for one number; every lane count gives the same bits.
BANYAN_INLINE float exp_one(float x) {
  float lanes[kLanes];
  store(lanes, exp(broadcast(x)));
  return lanes[0];
}

// The first n < kLanes of halves, the rest 0.
BANYAN_INLINE Vec load_f16_n(const void* at, int n) {
  uint16_t halves[kLanes] = {};
  std::memcpy(halves, at, static_cast<size_t>(n) * sizeof halves[0]);
  return load_f16(halves);
}
BANYAN_INLINE Vec load_bf16_n(const void* at, int n) {
  uint16_t halves[kLanes] = {};
  std::memcpy(halves, at, static_cast<size_t>(n) * sizeof halves[0]);
  return load_bf16(halves);
}
BANYAN_INLINE void store_f16_n(void* at, Vec x, int n) {
  uint16_t halves[kLanes];
  store_f16(halves, x);
  std::memcpy(at, halves, static_cast<size_t>(n) * sizeof halves[0]);
}
