// mma: d += a b on the tensor cores, 32-bit float sums; fragments as the PTX ISA draws them (mma.m16n8k16, mma.m16n8k8). With group = lane / 4 and
// pair = lane % 4:
//   a of k16: a[0] = (row group,     columns 2 pair, 2 pair + 1)   a[1] = (row group + 8, same columns)   a[2], a[3] = those 8 columns further
//   b of k16: b[0] = (rows 2 pair, 2 pair + 1, column group)       b[1] = those 8 rows further
//   d:        d[0], d[1] = (row group, columns 2 pair, 2 pair + 1) d[2], d[3] = (row group + 8, same columns)
//   tf32 k8:  a[0] = (group, pair)  a[1] = (group + 8, pair)  a[2] = (group, pair + 4)  a[3] = (group + 8, pair + 4); b[0] = (pair, group)  b[1] = (pair + 4, group)
#pragma once

#include <cstdint>

#include "cuda/prim/launch.cuh"

namespace banyan::cuda {

struct F16Tag {};
struct BF16Tag {};

#ifdef BANYAN_EMULATE

void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], F16Tag, const emulate::Where& where = emulate::Where::current());
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], BF16Tag, const emulate::Where& where = emulate::Where::current());
void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const emulate::Where& where = emulate::Where::current());
inline uint32_t float_to_tf32(float x) {
  const uint32_t bits = __float_as_uint(x);
  return (bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FFFFFFFu : (bits + 0x1000u) & 0xFFFFE000u;
}

#else

__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], F16Tag) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], BF16Tag) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Operands are float_to_tf32 of floats.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Nearest, ties away from zero: 10 bits of fraction.
__device__ __forceinline__ uint32_t float_to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

#endif

}  // namespace banyan::cuda
