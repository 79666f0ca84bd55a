// types: the vector types of CUDA C++ and the words that mark its functions, for compilers that know neither.
#pragma once

#include <cstdint>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __constant__ static
#define __restrict__ __restrict

// A plain __shared__ variable works (blocks run one after another), but only BANYAN_SHARED (prim/memory.cuh) is filled with NaN before a block.
#define __shared__ static

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 {
  unsigned x, y, z;
};

// clang-format off
#define BANYAN_VECTORS(T, name)                                                                        \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                                   \
  struct name##3 { T x, y, z; };                                                                       \
  struct alignas(4 * sizeof(T)) name##4 { T x, y, z, w; };                                             \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                           \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                   \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
BANYAN_VECTORS(float, float)
BANYAN_VECTORS(int, int)
BANYAN_VECTORS(short, short)
BANYAN_VECTORS(unsigned short, ushort)
BANYAN_VECTORS(signed char, char)
BANYAN_VECTORS(unsigned char, uchar)
#undef BANYAN_VECTORS
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(16) longlong2 { long long x, y; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
// clang-format on
