// peaks: loops that do nothing but what an op is bound by: multiply-adds of floats or bytes over registers, reading over memory.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "cpu/inline.h"
#include "cpu/threads.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace banyan::bench {

inline constexpr int kPeakRounds = 200000;
inline constexpr int kChains = 12;  // independent chains: a latency of 4 or 5 cycles at 2 multiply-adds a cycle needs 10
inline volatile float peak_sink;

// Each returns the multiply-adds one call does. One loop per instruction set, because a loop in generic code would not use it.
#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx512f"))) inline double multiply_adds_avx512() {
  __m512 sums[kChains], a = _mm512_set1_ps(peak_sink);
  for (__m512& sum : sums) sum = a;
  for (int i = 0; i < kPeakRounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_fmadd_ps(a, a, sums[c]);
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm512_add_ps(sums[0], sums[c]);
  peak_sink = _mm512_cvtss_f32(sums[0]);
  return 16.0 * kChains * kPeakRounds;
}
__attribute__((target("avx2,fma"))) inline double multiply_adds_avx2() {
  __m256 sums[kChains], a = _mm256_set1_ps(peak_sink);
  for (__m256& sum : sums) sum = a;
  for (int i = 0; i < kPeakRounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm256_fmadd_ps(a, a, sums[c]);
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm256_add_ps(sums[0], sums[c]);
  peak_sink = _mm256_cvtss_f32(sums[0]);
  return 8.0 * kChains * kPeakRounds;
}
// Products of bytes, summed by fours: what gemm of block formats is bound by where it has them.
__attribute__((target("avx512f,avx512vnni"))) inline double byte_multiply_adds_avx512() {
  __m512i sums[kChains], a = _mm512_set1_epi32(static_cast<int>(peak_sink));
  for (__m512i& sum : sums) sum = a;
  for (int i = 0; i < kPeakRounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbusd_epi32(sums[c], a, a);
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm512_add_epi32(sums[0], sums[c]);
  peak_sink = static_cast<float>(_mm_cvtsi128_si32(_mm512_castsi512_si128(sums[0])) & 1);
  return 64.0 * kChains * kPeakRounds;
}
__attribute__((target("avx2,avxvnni"))) inline double byte_multiply_adds_avxvnni() {
  __m256i sums[kChains], a = _mm256_set1_epi32(static_cast<int>(peak_sink));
  for (__m256i& sum : sums) sum = a;
  for (int i = 0; i < kPeakRounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm256_dpbusd_avx_epi32(sums[c], a, a);
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm256_add_epi32(sums[0], sums[c]);
  peak_sink = static_cast<float>(_mm_cvtsi128_si32(_mm256_castsi256_si128(sums[0])) & 1);
  return 32.0 * kChains * kPeakRounds;
}
// The same in pairs, each added to 16 bits. What is multiplied changes, or one product would do for all.
__attribute__((target("avx2"))) inline double byte_multiply_adds_avx2() {
  __m256i sums[kChains], a = _mm256_set1_epi32(static_cast<int>(peak_sink));
  for (__m256i& sum : sums) sum = a;
  for (int i = 0; i < kPeakRounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) {
      __asm__("" : "+x"(a));
      sums[c] = _mm256_add_epi16(sums[c], _mm256_maddubs_epi16(a, a));
    }
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm256_add_epi16(sums[0], sums[c]);
  peak_sink = static_cast<float>(_mm_cvtsi128_si32(_mm256_castsi256_si128(sums[0])) & 1);
  return 32.0 * kChains * kPeakRounds;
}
// Products of tiles of bf16: 16 x 16 x 32 each, four sums that do not wait for each other.
namespace tiles {
#include "cpu/tiles_amx.inl"
}
inline double tile_multiply_adds() {
  const tiles::TileScope scope;
  alignas(64) uint16_t ones[16 * 32];
  for (uint16_t& one : ones) one = 0x3f80;
  tiles::tile_load<4>(ones);
  tiles::tile_load<5>(ones);
  tiles::tile_zero<0>();
  tiles::tile_zero<1>();
  tiles::tile_zero<2>();
  tiles::tile_zero<3>();
  for (int i = 0; i < kPeakRounds; ++i) {
    tiles::tile_multiply<0, 4, 5>();
    tiles::tile_multiply<1, 4, 5>();
    tiles::tile_multiply<2, 4, 5>();
    tiles::tile_multiply<3, 4, 5>();
  }
  float sums[16 * 16];
  tiles::tile_store<0>(sums);
  peak_sink = sums[0];
  return 4.0 * 16 * 16 * 32 * kPeakRounds;
}
#elif defined(__aarch64__)
inline double multiply_adds_neon() {
  float32x4_t sums[kChains], a = vdupq_n_f32(peak_sink);
  for (float32x4_t& sum : sums) sum = a;
  for (int i = 0; i < kPeakRounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = vfmaq_f32(sums[c], a, a);
  }
  for (int c = 1; c < kChains; ++c) sums[0] = vaddq_f32(sums[0], sums[c]);
  peak_sink = vgetq_lane_f32(sums[0], 0);
  return 4.0 * kChains * kPeakRounds;
}
#if BANYAN_HAS_NEON_PRODUCTS && defined(__GNUC__)
__attribute__((target("arch=armv8.2-a+dotprod"))) inline double byte_multiply_adds_dot() {
  int32x4_t sums[kChains];
  const int8x16_t a = vdupq_n_s8(static_cast<int8_t>(peak_sink));
  for (int32x4_t& sum : sums) sum = vdupq_n_s32(0);
  for (int i = 0; i < kPeakRounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = vdotq_s32(sums[c], a, a);
  }
  for (int c = 1; c < kChains; ++c) sums[0] = vaddq_s32(sums[0], sums[c]);
  peak_sink = static_cast<float>(vgetq_lane_s32(sums[0], 0) & 1);
  return 16.0 * kChains * kPeakRounds;
}
__attribute__((target("arch=armv8.2-a+i8mm"))) inline double byte_multiply_adds_i8mm() {
  int32x4_t sums[kChains];
  const int8x16_t a = vdupq_n_s8(static_cast<int8_t>(peak_sink));
  for (int32x4_t& sum : sums) sum = vdupq_n_s32(0);
  for (int i = 0; i < kPeakRounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = vmmlaq_s32(sums[c], a, a);
  }
  for (int c = 1; c < kChains; ++c) sums[0] = vaddq_s32(sums[0], sums[c]);
  peak_sink = static_cast<float>(vgetq_lane_s32(sums[0], 0) & 1);
  return 32.0 * kChains * kPeakRounds;
}
#endif
#endif
inline double multiply_adds_scalar() {
  float sums[kChains], a = peak_sink;
  for (float& sum : sums) sum = a;
  for (int i = 0; i < kPeakRounds; ++i) {
    for (int c = 0; c < kChains; ++c) {
      sums[c] = a * a + sums[c];
#if defined(__GNUC__)
      __asm__ volatile("" : "+g"(sums[c]));  // one by one: the scalar variant has no vectors either
#endif
    }
  }
  for (int c = 1; c < kChains; ++c) sums[0] += sums[c];
  peak_sink = sums[0];
  return 1.0 * kChains * kPeakRounds;
}

using MultiplyAdds = double (*)();

inline MultiplyAdds peak_loop(const std::string& variant) {
#if defined(__x86_64__) && defined(__GNUC__)
  if (variant == "avx512" || variant == "avx512int8" || variant == "avx512vnni" || variant == "amx") return multiply_adds_avx512;
  if (variant == "avx2" || variant == "avx2int8" || variant == "avxvnni") return multiply_adds_avx2;
#elif defined(__aarch64__)
  if (variant != "scalar") return multiply_adds_neon;
#endif
  return multiply_adds_scalar;
}

// Null for variants whose gemm multiplies no bytes.
inline MultiplyAdds byte_peak_loop(const std::string& variant) {
#if defined(__x86_64__) && defined(__GNUC__)
  if (variant == "avx512vnni" || variant == "amx") return byte_multiply_adds_avx512;
  if (variant == "avxvnni") return byte_multiply_adds_avxvnni;
  if (variant == "avx2int8" || variant == "avx512int8") return byte_multiply_adds_avx2;
#elif BANYAN_HAS_NEON_PRODUCTS && defined(__GNUC__)
  if (variant == "neondot") return byte_multiply_adds_dot;
  if (variant == "neoni8mm") return byte_multiply_adds_i8mm;
#endif
  (void)variant;
  return nullptr;
}

// Null for variants that have none.
inline MultiplyAdds tile_peak_loop(const std::string& variant) {
#if defined(__x86_64__) && defined(__GNUC__)
  if (variant == "amx") return tile_multiply_adds;
#endif
  (void)variant;
  return nullptr;
}

inline void multiply_adds_task(const void* context, int, std::byte*) noexcept { (*static_cast<const MultiplyAdds*>(context))(); }

// A word of each cache line, the line some KiB ahead being asked for, as the ops do: without that cores get less than the memory gives. How far, and that
// it is no multiple of 4096, matters (gemm_int8_few.inl).
struct Reading {
  const std::byte* memory;
  size_t n_bytes;
  int n_tasks;
};

inline void read_task(const void* context, int index, std::byte*) noexcept {
  const Reading& reading = *static_cast<const Reading*>(context);
  const size_t n_bytes = reading.n_bytes / static_cast<size_t>(reading.n_tasks) / 64 * 64;
  const std::byte* at = reading.memory + static_cast<size_t>(index) * n_bytes;
  constexpr size_t kAhead = 3648;
  uint64_t all = 0;
  for (size_t i = 0; i < n_bytes; i += 64) {
    BANYAN_PREFETCH(at + i + kAhead);
    uint64_t word;
    std::memcpy(&word, at + i, sizeof word);
    all |= word;
  }
  peak_sink = static_cast<float>(all);
}

}  // namespace banyan::bench
