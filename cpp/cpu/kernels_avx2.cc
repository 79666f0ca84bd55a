// AVX2, FMA and F16C: Haswell, Zen and later.
#include "cpu/kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace banyan {
namespace avx2 {
namespace {
#include "cpu/vec_avx2.h"
#include "cpu/kernels.inl"
}  // namespace
}  // namespace avx2
}  // namespace banyan

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

const banyan::Ops* banyan::kernels_avx2() { return &avx2::kOps; }

#else

const banyan::Ops* banyan::kernels_avx2() { return nullptr; }

#endif
