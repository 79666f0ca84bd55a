// features: what the processor and the operating system together let us run. Asked at run time; the build needs no -march.
#pragma once

#include <cstdint>

namespace banyan {

// Bits of a set of features. A bit means "the instructions exist and the system saves their registers".
enum Feature : uint32_t {
  kAvx2 = 1u << 0,    // AVX2, FMA and F16C: they always come together
  kAvx512 = 1u << 1,  // AVX-512 F, BW, VL and DQ (Skylake-X, Zen 4 and later)
  kAvx512Bf16 = 1u << 2,
  kAvx512Vnni = 1u << 3,
  kNeon = 1u << 4,      // every aarch64
  kNeonDot = 1u << 5,   // FEAT_DotProd: SDOT
  kNeonI8mm = 1u << 6,  // FEAT_I8MM: SMMLA
  kAvxVnni = 1u << 8,   // VPDPBUSD of AVX registers (Alder Lake, Zen 5 and later)
  kAmx = 1u << 7,       // AMX with products of bf16 (Sapphire Rapids and later); only where the system lets a process use it, as Linux does from 5.16
};

uint32_t cpu_features();

// Physical cores this process may run on (hyperthreads counted once); at least 1.
int physical_cores();

}  // namespace banyan
