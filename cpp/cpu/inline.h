// inline: what the kernel files need from the compiler, spelled once.
#pragma once

#if defined(_MSC_VER) && !defined(__clang__)
#define BANYAN_INLINE __forceinline
#define BANYAN_UNROLL
#define BANYAN_PREFETCH(at)
#define BANYAN_PREFETCH_NEAR(at)
#define BANYAN_RESTRICT __restrict
#define BANYAN_OPAQUE(x) (void)(x)
#define BANYAN_NOW(x) (void)(x)
#else
#define BANYAN_INLINE __attribute__((always_inline)) inline
#define BANYAN_RESTRICT __restrict__
#define BANYAN_OPAQUE(x) __asm__("" : "+r"(x))                 // the compiler no longer knows what it came from
#define BANYAN_NOW(x) __asm__("" : "+x"(x))                    // a vector (x86) is worked out here, not later together with others
#define BANYAN_PREFETCH(at) __builtin_prefetch(at, 0, 2)       // into the second-level cache
#define BANYAN_PREFETCH_NEAR(at) __builtin_prefetch(at, 0, 3)  // into the first
#if defined(__clang__)
#define BANYAN_UNROLL _Pragma("unroll")
#else
#define BANYAN_UNROLL _Pragma("GCC unroll 12")  // loops over registers (at most kTileRows = 12) must become straight code, or arrays leave registers
#endif
#endif

// The compilers whose arm_neon.h has SDOT and SMMLA in functions that ask for them, whatever the flags of the file.
#if defined(__aarch64__) || defined(_M_ARM64)
#if defined(__apple_build_version__)
#define BANYAN_HAS_NEON_PRODUCTS (__clang_major__ >= 15)
#elif defined(__clang__)
#define BANYAN_HAS_NEON_PRODUCTS (__clang_major__ >= 16)
#elif defined(__GNUC__)
#define BANYAN_HAS_NEON_PRODUCTS (__GNUC__ >= 10)
#else
#define BANYAN_HAS_NEON_PRODUCTS (_MSC_VER >= 1940)
#endif
#else
#define BANYAN_HAS_NEON_PRODUCTS 0
#endif
