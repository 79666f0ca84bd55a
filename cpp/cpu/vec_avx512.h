// The vector vocabulary in AVX-512: 16 lanes. Included inside the variant's namespace.
constexpr int kLanes = 16;
// 12 tokens x 2 vectors = 24 accumulators of the 32 registers; 12 broadcasts and 2 loads feed 24 multiply-adds.
constexpr int kTileRows = 12;

using Vec = __m512;    // floats
using IVec = __m512i;  // as many int32

BANYAN_INLINE Vec zero() { return _mm512_setzero_ps(); }
BANYAN_INLINE Vec broadcast(float x) { return _mm512_set1_ps(x); }
BANYAN_INLINE Vec load(const void* at) { return _mm512_loadu_ps(at); }
BANYAN_INLINE void store(float* at, Vec x) { _mm512_storeu_ps(at, x); }
BANYAN_INLINE __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
BANYAN_INLINE Vec load_n(const void* at, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), at); }  // 0 <= n < kLanes; the rest is 0
BANYAN_INLINE void store_n(float* at, Vec x, int n) { _mm512_mask_storeu_ps(at, first_lanes(n), x); }

BANYAN_INLINE Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
BANYAN_INLINE Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
BANYAN_INLINE Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
BANYAN_INLINE Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
BANYAN_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
BANYAN_INLINE Vec fnma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
BANYAN_INLINE Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }                // b if either is NaN
BANYAN_INLINE Vec max_number(Vec a, Vec b) { return max(a, b); }                   // b where a is NaN
BANYAN_INLINE Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
BANYAN_INLINE float reduce_add(Vec a) { return _mm512_reduce_add_ps(a); }
BANYAN_INLINE float reduce_max(Vec a) { return _mm512_reduce_max_ps(a); }

BANYAN_INLINE Vec round_to_even(Vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
BANYAN_INLINE Vec times_power_of_two(Vec a, Vec n) { return _mm512_scalef_ps(a, n); }  // n whole, -126 <= n <= 127
BANYAN_INLINE bool is_any_above(Vec a, float bound) { return _mm512_cmp_ps_mask(a, _mm512_set1_ps(bound), _CMP_NLE_UQ) != 0; }  // NaN is above
BANYAN_INLINE Vec zero_if_below(Vec a, Vec x, Vec bound) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, bound, _CMP_NLT_UQ), a); }

BANYAN_INLINE float half(const void* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}
BANYAN_INLINE Vec load_f16(const void* at) { return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(at))); }
BANYAN_INLINE void store_f16(void* at, Vec x) {
  _mm256_storeu_si256(static_cast<__m256i*>(at), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
BANYAN_INLINE Vec load_bf16(const void* at) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(at))), 16));
}

BANYAN_INLINE IVec load_u8(const uint8_t* at) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))); }
BANYAN_INLINE IVec load_i8(const uint8_t* at) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))); }
BANYAN_INLINE IVec bit_and(IVec a, int b) { return _mm512_and_si512(a, _mm512_set1_epi32(b)); }
BANYAN_INLINE IVec bit_or(IVec a, IVec b) { return _mm512_or_si512(a, b); }
template <int kBits> BANYAN_INLINE IVec shift_right(IVec a) { return _mm512_srli_epi32(a, kBits); }
template <int kBits> BANYAN_INLINE IVec shift_left(IVec a) { return _mm512_slli_epi32(a, kBits); }
BANYAN_INLINE Vec to_float(IVec a) { return _mm512_cvtepi32_ps(a); }
BANYAN_INLINE Vec as_float(IVec bits) { return _mm512_castsi512_ps(bits); }

// The addresses of 16 rows, `stride` bytes apart. Left alone, the compiler keeps 15 distances in registers that there are not, and takes each of them out of a
// vector register whenever it is needed; an address can add a stride or two of them by itself.
struct Rows16 {
  const char* at;
  int64_t stride, three;
  BANYAN_INLINE Rows16(const void* first, int64_t bytes) : at(static_cast<const char*>(first)), stride(bytes), three(3 * bytes) {
    BANYAN_OPAQUE(three);
  }
  BANYAN_INLINE const char* operator[](int i) const { return at + i / 3 * three + i % 3 * stride; }
};

// Four dwords of each of 16 rows, `stride` bytes apart: columns[c] has dword c of every row. Quarter j of z[i] holds row 4j + i, so one 4x4 transposition
// per quarter gives whole columns, and the rows arrive by cheap inserts from memory.
BANYAN_INLINE void load_columns(const void* at, int64_t stride, IVec* columns) {
  const Rows16 rows(at, stride);
  const auto row = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i])); };
  __m512i z[4];
  BANYAN_UNROLL
  for (int i = 0; i < 4; ++i) {
    z[i] = _mm512_castsi128_si512(row(i));
    z[i] = _mm512_inserti32x4(z[i], row(i + 4), 1);
    z[i] = _mm512_inserti32x4(z[i], row(i + 8), 2);
    z[i] = _mm512_inserti32x4(z[i], row(i + 12), 3);
  }
  const __m512i low01 = _mm512_unpacklo_epi32(z[0], z[1]), high01 = _mm512_unpackhi_epi32(z[0], z[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(z[2], z[3]), high23 = _mm512_unpackhi_epi32(z[2], z[3]);
  columns[0] = _mm512_unpacklo_epi64(low01, low23);
  columns[1] = _mm512_unpackhi_epi64(low01, low23);
  columns[2] = _mm512_unpacklo_epi64(high01, high23);
  columns[3] = _mm512_unpackhi_epi64(high01, high23);
}

// out[c, r] = in[r, c] for 16 rows and 4 columns.
BANYAN_INLINE void transpose_columns(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
  IVec columns[4];
  load_columns(in, in_stride * static_cast<int64_t>(sizeof(float)), columns);
  BANYAN_UNROLL
  for (int c = 0; c < 4; ++c) _mm512_storeu_si512(out + c * out_stride, columns[c]);
}

// out[c, r] = in[r, c] for kLanes x kLanes.
BANYAN_INLINE void transpose(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
  BANYAN_UNROLL
  for (int c = 0; c < 16; c += 4) transpose_columns(in + c, in_stride, out + c * out_stride, out_stride);
}

// kLanes sums across lanes in two steps, that of kKeysAtOnce vectors at a time and that of the results: lane i of sum_rest is the sum of the lanes of
// the i-th vector.
constexpr int kKeysAtOnce = 4;
BANYAN_INLINE Vec sum_some(const Vec* x) {  // per quarter of 128 bits
  const Vec ab = add(_mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1]));
  const Vec cd = add(_mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3]));
  return add(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
}
BANYAN_INLINE Vec add_quarters(Vec a, Vec b) { return add(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd)); }
BANYAN_INLINE Vec sum_rest(const Vec* x) { return add_quarters(add_quarters(x[0], x[1]), add_quarters(x[2], x[3])); }
