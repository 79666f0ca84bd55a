// The vector vocabulary in NEON (aarch64): 4 lanes. Included inside the variant's namespace.
constexpr int kLanes = 4;
// 12 tokens x 2 vectors = 24 accumulators of the 32 registers, as with AVX-512.
constexpr int kTileRows = 12;

using Vec = float32x4_t;
using IVec = int32x4_t;

BANYAN_INLINE Vec zero() { return vdupq_n_f32(0.0f); }
BANYAN_INLINE Vec broadcast(float x) { return vdupq_n_f32(x); }
BANYAN_INLINE Vec load(const void* at) { return vreinterpretq_f32_u8(vld1q_u8(static_cast<const uint8_t*>(at))); }
BANYAN_INLINE void store(float* at, Vec x) { vst1q_f32(at, x); }
BANYAN_INLINE Vec load_n(const void* at, int n) {  // 0 <= n < kLanes; the rest is 0
  float lanes[4] = {};
  std::memcpy(lanes, at, static_cast<size_t>(n) * sizeof(float));
  return vld1q_f32(lanes);
}
BANYAN_INLINE void store_n(float* at, Vec x, int n) {
  float lanes[4];
  vst1q_f32(lanes, x);
  std::memcpy(at, lanes, static_cast<size_t>(n) * sizeof(float));
}

BANYAN_INLINE Vec add(Vec a, Vec b) { return vaddq_f32(a, b); }
BANYAN_INLINE Vec sub(Vec a, Vec b) { return vsubq_f32(a, b); }
BANYAN_INLINE Vec mul(Vec a, Vec b) { return vmulq_f32(a, b); }
BANYAN_INLINE Vec div(Vec a, Vec b) { return vdivq_f32(a, b); }
BANYAN_INLINE Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }   // a * b + c
BANYAN_INLINE Vec fnma(Vec a, Vec b, Vec c) { return vfmsq_f32(c, a, b); }  // c - a * b
BANYAN_INLINE Vec max(Vec a, Vec b) { return vmaxq_f32(a, b); }             // NaN if either is NaN
BANYAN_INLINE Vec max_number(Vec a, Vec b) { return vmaxnmq_f32(a, b); }    // b where a is NaN
BANYAN_INLINE Vec min(Vec a, Vec b) { return vminq_f32(a, b); }
BANYAN_INLINE float reduce_add(Vec a) { return vaddvq_f32(a); }
BANYAN_INLINE float reduce_max(Vec a) { return vmaxvq_f32(a); }

BANYAN_INLINE Vec round_to_even(Vec a) { return vrndnq_f32(a); }
BANYAN_INLINE Vec power_of_two(Vec n) {  // n whole, -126 <= n <= 127
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
}
BANYAN_INLINE Vec times_power_of_two(Vec a, Vec n) { return mul(a, power_of_two(n)); }
BANYAN_INLINE bool is_any_above(Vec a, float bound) {  // NaN is above
  return vminvq_u32(vcleq_f32(a, vdupq_n_f32(bound))) == 0;
}
BANYAN_INLINE Vec zero_if_below(Vec a, Vec x, Vec bound) { return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), vcltq_f32(x, bound))); }

BANYAN_INLINE Vec load_f16(const void* at) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(static_cast<const uint8_t*>(at)))); }
BANYAN_INLINE void store_f16(void* at, Vec x) { vst1_u8(static_cast<uint8_t*>(at), vreinterpret_u8_f16(vcvt_f16_f32(x))); }
BANYAN_INLINE Vec load_bf16(const void* at) {
  return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(static_cast<const uint8_t*>(at))), 16));
}
BANYAN_INLINE float half(const void* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))), 0);
}

BANYAN_INLINE IVec load_u8(const uint8_t* at) {
  uint32_t bytes;
  std::memcpy(&bytes, at, sizeof bytes);
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes)))));
}
BANYAN_INLINE IVec load_i8(const uint8_t* at) {
  uint32_t bytes;
  std::memcpy(&bytes, at, sizeof bytes);
  return vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(bytes))));
}
BANYAN_INLINE IVec bit_and(IVec a, int b) { return vandq_s32(a, vdupq_n_s32(b)); }
BANYAN_INLINE IVec bit_or(IVec a, IVec b) { return vorrq_s32(a, b); }
template <int kBits> BANYAN_INLINE IVec shift_right(IVec a) {
  if constexpr (kBits == 0) return a;  // the instruction starts at 1
  else return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), kBits));
}
template <int kBits> BANYAN_INLINE IVec shift_left(IVec a) { return vshlq_n_s32(a, kBits); }
BANYAN_INLINE Vec to_float(IVec a) { return vcvtq_f32_s32(a); }

// out[c, r] = in[r, c] for 4 x 4.
BANYAN_INLINE void transpose(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
  const float32x4_t r0 = vld1q_f32(in), r1 = vld1q_f32(in + in_stride);
  const float32x4_t r2 = vld1q_f32(in + 2 * in_stride), r3 = vld1q_f32(in + 3 * in_stride);
  const float64x2_t low01 = vreinterpretq_f64_f32(vzip1q_f32(r0, r1)), high01 = vreinterpretq_f64_f32(vzip2q_f32(r0, r1));
  const float64x2_t low23 = vreinterpretq_f64_f32(vzip1q_f32(r2, r3)), high23 = vreinterpretq_f64_f32(vzip2q_f32(r2, r3));
  vst1q_f32(out, vreinterpretq_f32_f64(vzip1q_f64(low01, low23)));
  vst1q_f32(out + out_stride, vreinterpretq_f32_f64(vzip2q_f64(low01, low23)));
  vst1q_f32(out + 2 * out_stride, vreinterpretq_f32_f64(vzip1q_f64(high01, high23)));
  vst1q_f32(out + 3 * out_stride, vreinterpretq_f32_f64(vzip2q_f64(high01, high23)));
}

// kLanes sums across lanes, here in one step: lane i of sum_rest is the sum of the lanes of the i-th vector.
constexpr int kKeysAtOnce = 4;
BANYAN_INLINE Vec sum_some(const Vec* x) { return vpaddq_f32(vpaddq_f32(x[0], x[1]), vpaddq_f32(x[2], x[3])); }
BANYAN_INLINE Vec sum_rest(const Vec* x) { return *x; }
