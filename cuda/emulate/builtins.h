// builtins: the variables and functions that CUDA C++ gives a kernel. Warp functions want the full mask and all 32 lanes.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cuda/emulate/block.h"

#define threadIdx (::banyan::emulate::current->index)
#define blockIdx (::banyan::emulate::block_index)
#define blockDim (::banyan::emulate::block_shape)
#define gridDim (::banyan::emulate::grid_shape)
inline constexpr int warpSize = 32;

namespace banyan::emulate {

template <class T> struct Exchange {
  T value;
  int from;
};

template <class T> T shuffle(unsigned mask, T value, int from, const Where& where) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  if (mask != 0xFFFFFFFFu) fail(where, "a shuffle with a partial mask");
  Exchange<T> mine{value, from};
  warp_collective(mine, where, "a shuffle", [](Exchange<T>** lanes) {
    T values[32];
    for (int i = 0; i < 32; ++i) values[i] = lanes[i]->value;
    for (int i = 0; i < 32; ++i) lanes[i]->value = values[lanes[i]->from];
  });
  return mine.value;
}

inline int lane() { return current->lane; }

}  // namespace banyan::emulate

inline void __syncthreads(const banyan::emulate::Where& where = banyan::emulate::Where::current()) { banyan::emulate::block_meet(0, where); }
inline int __syncthreads_count(int vote, const banyan::emulate::Where& where = banyan::emulate::Where::current()) {
  return banyan::emulate::block_meet(vote != 0, where);
}
inline int __syncthreads_or(int vote, const banyan::emulate::Where& where = banyan::emulate::Where::current()) {
  return banyan::emulate::block_meet(vote != 0, where) != 0;
}
inline int __syncthreads_and(int vote, const banyan::emulate::Where& where = banyan::emulate::Where::current()) {
  return banyan::emulate::block_meet(vote == 0, where) == 0;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, const banyan::emulate::Where& where = banyan::emulate::Where::current()) {
  if (mask != 0xFFFFFFFFu) banyan::emulate::fail(where, "__syncwarp with a partial mask");
  int nothing = 0;
  banyan::emulate::warp_collective(nothing, where, "__syncwarp", [](int**) {});
}
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32, const banyan::emulate::Where& where = banyan::emulate::Where::current()) {
  const int lane = banyan::emulate::lane();
  return banyan::emulate::shuffle(mask, value, (lane & ~(width - 1)) + (from & (width - 1)), where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, const banyan::emulate::Where& where = banyan::emulate::Where::current()) {
  const int lane = banyan::emulate::lane(), from = lane ^ bits;
  return banyan::emulate::shuffle(mask, value, (from & ~(width - 1)) > (lane & ~(width - 1)) ? lane : from, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, const banyan::emulate::Where& where = banyan::emulate::Where::current()) {
  const int lane = banyan::emulate::lane(), in_group = lane & (width - 1);
  return banyan::emulate::shuffle(mask, value, in_group >= static_cast<int>(by) ? lane - static_cast<int>(by) : lane, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, const banyan::emulate::Where& where = banyan::emulate::Where::current()) {
  const int lane = banyan::emulate::lane(), in_group = lane & (width - 1);
  return banyan::emulate::shuffle(mask, value, in_group + static_cast<int>(by) < width ? lane + static_cast<int>(by) : lane, where);
}
inline unsigned __ballot_sync(unsigned mask, int vote, const banyan::emulate::Where& where = banyan::emulate::Where::current()) {
  if (mask != 0xFFFFFFFFu) banyan::emulate::fail(where, "a vote with a partial mask");
  unsigned mine = vote != 0;
  banyan::emulate::warp_collective(mine, where, "a vote", [](unsigned** lanes) {
    unsigned all = 0;
    for (int i = 0; i < 32; ++i) all |= *lanes[i] << i;
    for (int i = 0; i < 32; ++i) *lanes[i] = all;
  });
  return mine;
}
inline int __any_sync(unsigned mask, int vote, const banyan::emulate::Where& where = banyan::emulate::Where::current()) {
  return __ballot_sync(mask, vote, where) != 0;
}
inline int __all_sync(unsigned mask, int vote, const banyan::emulate::Where& where = banyan::emulate::Where::current()) {
  return __ballot_sync(mask, vote, where) == 0xFFFFFFFFu;
}

// clang-format off
template <class T> T __ldg(const T* at) { return *at; }
template <class T> T __ldcs(const T* at) { return *at; }
template <class T> T __ldca(const T* at) { return *at; }
template <class T> T __ldcg(const T* at) { return *at; }
template <class T> void __stcs(T* at, T value) { *at = value; }
template <class T> void __stcg(T* at, T value) { *at = value; }

template <class T> T atomicAdd(T* at, T by) { const T before = *at; *at = before + by; return before; }
template <class T> T atomicMax(T* at, T by) { const T before = *at; *at = by > before ? by : before; return before; }
template <class T> T atomicMin(T* at, T by) { const T before = *at; *at = by < before ? by : before; return before; }
template <class T> T atomicExch(T* at, T by) { const T before = *at; *at = by; return before; }
template <class T> T atomicCAS(T* at, T expected, T by) { const T before = *at; if (before == expected) *at = by; return before; }
inline unsigned atomicInc(unsigned* at, unsigned limit) { const unsigned before = *at; *at = before >= limit ? 0 : before + 1; return before; }

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline long min(long a, long b) { return a < b ? a : b; }
inline long max(long a, long b) { return a > b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
inline unsigned long min(unsigned long a, unsigned long b) { return a < b ? a : b; }
inline unsigned long max(unsigned long a, unsigned long b) { return a > b ? a : b; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __expf(float x) { return exp2f(x * 1.44269504f); }  // as the hardware: the product is rounded
inline float __logf(float x) { return log2f(x) * 0.693147181f; }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline int __float2int_rn(float x) {
  if (x != x) return 0;
  const float rounded = nearbyintf(x);
  return rounded >= 0x1p31f ? 0x7FFFFFFF : rounded < -0x1p31f ? static_cast<int>(0x80000000u) : static_cast<int>(rounded);
}
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32); }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t bytes = static_cast<uint64_t>(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned pick = selector >> (4 * i) & 15;
    unsigned byte = static_cast<unsigned>(bytes >> (8 * (pick & 7)) & 255);
    if ((pick & 8) != 0) byte = (byte & 128) != 0 ? 255 : 0;
    result |= byte << (8 * i);
  }
  return result;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) >> (shift & 31));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) << (shift & 31) >> 32);
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += static_cast<int8_t>(a >> (8 * i)) * static_cast<int8_t>(b >> (8 * i));
  return c;
}
// clang-format on
