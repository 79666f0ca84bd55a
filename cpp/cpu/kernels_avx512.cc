// AVX-512 F, BW, VL and DQ: Skylake-X, Zen 4 and later.
#include "cpu/kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC bug 105593: its own header reads an undefined vector on purpose
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")
#endif

namespace banyan {
namespace avx512 {
namespace {
constexpr const char* kVariant = "avx512";
#include "cpu/vec_avx512.h"
#include "cpu/kernels.inl"
}  // namespace
}  // namespace avx512
}  // namespace banyan

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

const banyan::Ops* banyan::kernels_avx512() { return &avx512::kOps; }

#else

const banyan::Ops* banyan::kernels_avx512() { return nullptr; }

#endif
