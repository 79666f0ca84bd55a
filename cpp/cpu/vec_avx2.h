// The vector vocabulary in AVX2 with FMA and F16C: 8 lanes. Included inside the variant's namespace.
constexpr const char* kVariant = "avx2";
constexpr int kLanes = 8;
// 6 tokens x 2 vectors = 12 accumulators, 2 vectors of weights and 1 broadcast: 15 of the 16 registers.
constexpr int kTileRows = 6;

using Vec = __m256;    // floats
using IVec = __m256i;  // as many int32

BANYAN_INLINE Vec zero() { return _mm256_setzero_ps(); }
BANYAN_INLINE Vec broadcast(float x) { return _mm256_set1_ps(x); }
BANYAN_INLINE Vec load(const void* at) { return _mm256_castsi256_ps(_mm256_loadu_si256(static_cast<const __m256i*>(at))); }
BANYAN_INLINE void store(float* at, Vec x) { _mm256_storeu_ps(at, x); }
BANYAN_INLINE __m256i first_lanes(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
BANYAN_INLINE Vec load_n(const void* at, int n) {  // 0 <= n < kLanes; the rest is 0
  return _mm256_castsi256_ps(_mm256_maskload_epi32(static_cast<const int*>(at), first_lanes(n)));
}
BANYAN_INLINE void store_n(float* at, Vec x, int n) { _mm256_maskstore_ps(at, first_lanes(n), x); }

BANYAN_INLINE Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
BANYAN_INLINE Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
BANYAN_INLINE Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
BANYAN_INLINE Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
BANYAN_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }    // a * b + c
BANYAN_INLINE Vec fnma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a * b
BANYAN_INLINE Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }                // b if either is NaN
BANYAN_INLINE Vec max_number(Vec a, Vec b) { return max(a, b); }                   // b where a is NaN
BANYAN_INLINE Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
BANYAN_INLINE float reduce_add(Vec a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
BANYAN_INLINE float reduce_max(Vec a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

BANYAN_INLINE Vec round_to_even(Vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
BANYAN_INLINE Vec power_of_two(Vec n) {  // n whole, -126 <= n <= 127
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
BANYAN_INLINE Vec times_power_of_two(Vec a, Vec n) { return mul(a, power_of_two(n)); }
BANYAN_INLINE bool is_any_above(Vec a, float bound) {  // NaN is above
  return _mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_set1_ps(bound), _CMP_NLE_UQ)) != 0;
}
BANYAN_INLINE Vec zero_if_below(Vec a, Vec x, Vec bound) { return _mm256_and_ps(a, _mm256_cmp_ps(x, bound, _CMP_NLT_UQ)); }

BANYAN_INLINE float half(const void* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}
BANYAN_INLINE Vec load_f16(const void* at) { return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(at))); }
BANYAN_INLINE void store_f16(void* at, Vec x) {
  _mm_storeu_si128(static_cast<__m128i*>(at), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
BANYAN_INLINE Vec load_bf16(const void* at) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(at))), 16));
}

BANYAN_INLINE IVec load_u8(const uint8_t* at) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))); }
BANYAN_INLINE IVec load_i8(const uint8_t* at) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))); }
BANYAN_INLINE IVec bit_and(IVec a, int b) { return _mm256_and_si256(a, _mm256_set1_epi32(b)); }
BANYAN_INLINE IVec bit_or(IVec a, IVec b) { return _mm256_or_si256(a, b); }
template <int kBits> BANYAN_INLINE IVec shift_right(IVec a) { return _mm256_srli_epi32(a, kBits); }
template <int kBits> BANYAN_INLINE IVec shift_left(IVec a) { return _mm256_slli_epi32(a, kBits); }
BANYAN_INLINE Vec to_float(IVec a) { return _mm256_cvtepi32_ps(a); }
BANYAN_INLINE Vec as_float(IVec bits) { return _mm256_castsi256_ps(bits); }

// Four dwords of each of 8 rows, `stride` bytes apart: columns[c] has dword c of every row. Half j of z[i] holds row 4j + i, so one 4x4 transposition per half
// gives whole columns, and the rows arrive by cheap inserts from memory.
BANYAN_INLINE void load_columns(const void* at, int64_t stride, IVec* columns) {
  const auto row = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(static_cast<const char*>(at) + i * stride)); };
  __m256i z[4];
  BANYAN_UNROLL
  for (int i = 0; i < 4; ++i) z[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(row(i)), row(i + 4), 1);
  const __m256i low01 = _mm256_unpacklo_epi32(z[0], z[1]), high01 = _mm256_unpackhi_epi32(z[0], z[1]);
  const __m256i low23 = _mm256_unpacklo_epi32(z[2], z[3]), high23 = _mm256_unpackhi_epi32(z[2], z[3]);
  columns[0] = _mm256_unpacklo_epi64(low01, low23);
  columns[1] = _mm256_unpackhi_epi64(low01, low23);
  columns[2] = _mm256_unpacklo_epi64(high01, high23);
  columns[3] = _mm256_unpackhi_epi64(high01, high23);
}

// out[c, r] = in[r, c] for kLanes x kLanes.
BANYAN_INLINE void transpose(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
  BANYAN_UNROLL
  for (int c = 0; c < 8; c += 4) {
    IVec columns[4];
    load_columns(in + c, in_stride * static_cast<int64_t>(sizeof(float)), columns);
    BANYAN_UNROLL
    for (int i = 0; i < 4; ++i) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (c + i) * out_stride), columns[i]);
  }
}

// kLanes sums across lanes in two steps, that of kKeysAtOnce vectors at a time and that of the results: lane i of sum_rest is the sum of the lanes of
// the i-th vector.
constexpr int kKeysAtOnce = 2;
BANYAN_INLINE Vec sum_some(const Vec* x) { return add(_mm256_unpacklo_ps(x[0], x[1]), _mm256_unpackhi_ps(x[0], x[1])); }
BANYAN_INLINE Vec add_pairs(Vec a, Vec b) { return add(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee)); }
BANYAN_INLINE Vec sum_rest(const Vec* x) {
  const Vec low = add_pairs(x[0], x[1]), high = add_pairs(x[2], x[3]);
  return add(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}
