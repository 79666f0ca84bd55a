// The vector vocabulary in plain C++: 1 lane. Included inside the variant's namespace.
constexpr const char* kVariant = "scalar";
constexpr int kLanes = 1;
// 4 tokens x 2 weights = 8 accumulators; every machine has 16 float registers.
constexpr int kTileRows = 4;

using Vec = float;
using IVec = int32_t;

BANYAN_INLINE Vec zero() { return 0.0f; }
BANYAN_INLINE Vec broadcast(float x) { return x; }
BANYAN_INLINE Vec load(const void* at) {
  float x;
  std::memcpy(&x, at, sizeof x);
  return x;
}
BANYAN_INLINE void store(float* at, Vec x) { *at = x; }
BANYAN_INLINE Vec load_n(const void*, int) { return 0.0f; }  // n is always 0
BANYAN_INLINE void store_n(float*, Vec, int) {}

BANYAN_INLINE Vec add(Vec a, Vec b) { return a + b; }
BANYAN_INLINE Vec sub(Vec a, Vec b) { return a - b; }
BANYAN_INLINE Vec mul(Vec a, Vec b) { return a * b; }
BANYAN_INLINE Vec div(Vec a, Vec b) { return a / b; }
BANYAN_INLINE Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }  // not std::fma, which is a slow function where the instruction is missing
BANYAN_INLINE Vec fnma(Vec a, Vec b, Vec c) { return c - a * b; }
BANYAN_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }     // b if either is NaN
BANYAN_INLINE Vec max_number(Vec a, Vec b) { return max(a, b); }  // b where a is NaN
BANYAN_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }
BANYAN_INLINE float reduce_add(Vec a) { return a; }
BANYAN_INLINE float reduce_max(Vec a) { return a; }

// Adding 1.5 * 2^23 leaves no bits for a fraction; good for |a| < 2^22, and exp needs 2^7.
BANYAN_INLINE Vec round_to_even(Vec a) {
  const volatile float shifted = a + 12582912.0f;  // volatile: the compiler must not simplify the pair away
  return shifted - 12582912.0f;
}
BANYAN_INLINE Vec power_of_two(Vec n) {  // n whole, -126 <= n <= 127
  const uint32_t bits = n == n ? static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23 : 0;
  Vec power;
  std::memcpy(&power, &bits, sizeof power);
  return power;
}
BANYAN_INLINE Vec times_power_of_two(Vec a, Vec n) { return mul(a, power_of_two(n)); }
BANYAN_INLINE bool is_any_above(Vec a, float bound) { return !(a <= bound); }  // NaN is above
BANYAN_INLINE Vec zero_if_below(Vec a, Vec x, Vec bound) { return x < bound ? 0.0f : a; }

BANYAN_INLINE float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
BANYAN_INLINE float half(const void* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  const uint32_t sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return from_bits(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));   // inf, NaN
  if (magnitude >= 0x0400u) return from_bits(sign | ((magnitude << 13) + (uint32_t{112} << 23)));  // normal: 112 = 127 - 15
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;                                // subnormal or 0
  return sign != 0 ? -subnormal : subnormal;
}
BANYAN_INLINE Vec load_f16(const void* at) { return half(at); }
BANYAN_INLINE void store_f16(void* at, Vec x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  uint32_t result;
  if (magnitude > 0x7f800000u) result = 0x7e00u | ((magnitude >> 13) & 0x3ffu);  // NaN stays NaN
  else if (magnitude >= 0x477ff000u) result = 0x7c00u;                           // 65520 and more round to inf
  else if (magnitude >= 0x38800000u) {                                           // normal: round the 13 lost bits to even
    result = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - (uint32_t{112} << 23)) >> 13;
  } else {  // subnormal: adding 0.5 aligns the bits and rounds to even
    const volatile float aligned = from_bits(magnitude) + 0.5f;
    const float copy = aligned;
    std::memcpy(&result, &copy, sizeof result);
    result -= 0x3f000000u;
  }
  const uint16_t half_bits = static_cast<uint16_t>(sign | result);
  std::memcpy(at, &half_bits, sizeof half_bits);
}
BANYAN_INLINE Vec load_bf16(const void* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return from_bits(static_cast<uint32_t>(bits) << 16);
}

BANYAN_INLINE IVec load_u8(const uint8_t* at) { return *at; }
BANYAN_INLINE IVec load_i8(const uint8_t* at) { return static_cast<int8_t>(*at); }
BANYAN_INLINE IVec bit_and(IVec a, int b) { return a & b; }
BANYAN_INLINE IVec bit_or(IVec a, IVec b) { return a | b; }
template <int kBits> BANYAN_INLINE IVec shift_right(IVec a) { return static_cast<IVec>(static_cast<uint32_t>(a) >> kBits); }
template <int kBits> BANYAN_INLINE IVec shift_left(IVec a) { return static_cast<IVec>(static_cast<uint32_t>(a) << kBits); }
BANYAN_INLINE Vec to_float(IVec a) { return static_cast<float>(a); }

BANYAN_INLINE void transpose(const float* in, int64_t, float* out, int64_t) { *out = *in; }

constexpr int kKeysAtOnce = 1;
BANYAN_INLINE Vec sum_some(const Vec* x) { return *x; }
BANYAN_INLINE Vec sum_rest(const Vec* x) { return *x; }
