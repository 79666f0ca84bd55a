// memory: shared memory and the ways into it and past it.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/prim/launch.cuh"

// A variable in shared memory: BANYAN_SHARED(tile, float[64][65]); 16-byte aligned. The emulator fills it with NaN before each block.
// The dynamic shared memory of the block, 128-byte aligned: BANYAN_DYNAMIC_SHARED(bytes); declares `unsigned char* bytes`. _ALIGNED: to a larger power of
// two, which is wasted on a kernel that has other variables there.
#ifdef BANYAN_EMULATE
#define BANYAN_SHARED(name, ...)                             \
  alignas(16) static std::type_identity_t<__VA_ARGS__> name; \
  ::banyan::emulate::fresh_shared(&name, sizeof name)
#define BANYAN_DYNAMIC_SHARED_ALIGNED(name, alignment) unsigned char* const name = ::banyan::emulate::dynamic_shared()
#else
#define BANYAN_SHARED(name, ...) __shared__ __align__(16) std::type_identity_t<__VA_ARGS__> name
#define BANYAN_DYNAMIC_SHARED_ALIGNED(name, alignment) \
  extern __shared__ __align__(alignment)               \
  unsigned char banyan_dynamic_shared[];               \
  unsigned char* const name = banyan_dynamic_shared
#endif
#define BANYAN_DYNAMIC_SHARED(name) BANYAN_DYNAMIC_SHARED_ALIGNED(name, 128)

namespace banyan::cuda {

#ifdef BANYAN_EMULATE

using emulate::Where;

inline void cp_async16(void* shared, const void* global, bool is_valid, const Where& where = Where::current()) {
  emulate::copy_late(shared, is_valid ? global : nullptr, where);
}
inline void cp_async16(uintptr_t shared, const void* global, bool is_valid, const Where& where = Where::current()) {
  cp_async16(reinterpret_cast<void*>(shared), global, is_valid, where);
}
inline void cp_async_commit() { emulate::commit_late_copies(); }
template <int kLeft> void cp_async_wait() { emulate::finish_late_copies(kLeft); }

inline uint4 load_streaming(const uint4* at) { return *at; }
inline float4 load_streaming(const float4* at) { return *at; }
inline void store_streaming(float4* at, float4 value) { *at = value; }

using SharedAddress = uintptr_t;
inline SharedAddress shared_address(const void* shared) { return reinterpret_cast<uintptr_t>(shared); }

void ldmatrix_x4(uint32_t (&r)[4], const void* row, const Where& where = Where::current());
void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, const Where& where = Where::current());
inline void ldmatrix_x4(uint32_t (&r)[4], SharedAddress row, const Where& where = Where::current()) {
  ldmatrix_x4(r, reinterpret_cast<const void*>(row), where);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], SharedAddress row, const Where& where = Where::current()) {
  ldmatrix_x4_trans(r, reinterpret_cast<const void*>(row), where);
}
void ldmatrix_x2(uint32_t (&r)[2], const void* row, const Where& where = Where::current());
void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row, const Where& where = Where::current());

#else

// An address in shared memory as a number, to compute with.
using SharedAddress = uint32_t;
__device__ __forceinline__ SharedAddress shared_address(const void* shared) { return static_cast<uint32_t>(__cvta_generic_to_shared(shared)); }

// Starts a copy of 16 bytes, both addresses 16-byte aligned, that goes past the registers and the L1; zeros if not valid (then `global` is not
// read). It has happened once this thread has waited for its group, and other threads see it after a barrier behind that.
__device__ __forceinline__ void cp_async16(SharedAddress shared, const void* global, bool is_valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(is_valid ? 16 : 0) : "memory");
}
__device__ __forceinline__ void cp_async16(void* shared, const void* global, bool is_valid) { cp_async16(shared_address(shared), global, is_valid); }
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for all groups of this thread but the kLeft latest.
template <int kLeft> __device__ __forceinline__ void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory"); }

// Memory that no kernel of this launch writes and that nobody reads a second time: it does not take the place of others in the L1.
__device__ __forceinline__ uint4 load_streaming(const uint4* at) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w) : "l"(at));
  return value;
}
__device__ __forceinline__ float4 load_streaming(const float4* at) {
  const uint4 bits = load_streaming(reinterpret_cast<const uint4*>(at));
  return {__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z), __uint_as_float(bits.w)};
}
__device__ __forceinline__ void store_streaming(float4* at, float4 value) { __stcs(at, value); }

// Four 8x8 matrices of 16-bit elements. Lane 8i + j gives the address of row j of matrix i (16 bytes, 16-byte aligned, in shared memory); lane l
// receives elements 2(l % 4) and the next one of row l / 4 of matrix i in r[i]. `_trans`: of the transposed matrices. _x2: the first 16 lanes give rows.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) { ldmatrix_x4(r, shared_address(row)); }
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) { ldmatrix_x4_trans(r, shared_address(row)); }
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}

#endif

}  // namespace banyan::cuda
