// NEON with SDOT (FEAT_DotProd: Cortex-A76, Neoverse N1, Apple A13 and later). The ops of neon, but gemm of block formats multiplies integers.
#include "cpu/kernels.h"

#if BANYAN_HAS_NEON_PRODUCTS

#include <arm_neon.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("no-schedule-insns")  // it moves loads so far up that sums lose their registers
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

namespace banyan {
namespace neondot {
namespace {
constexpr auto kBase = kernels_neon;
constexpr int kFewInt8Tokens = 8;  // above it the unpacking of gemm_int8.inl pays
template <DType> constexpr int kFewInt8TokensOf = kFewInt8Tokens;
#include "cpu/vec_neon.h"
#include "cpu/tasks.inl"
#include "cpu/gemm_plan.inl"
#include "cpu/products_dot.inl"
#include "cpu/int8_format_neon.inl"
#include "cpu/quantize_rows_neon.inl"
#include "cpu/dot_unit_neon.inl"
#include "cpu/gemm_int8_few.inl"
#include "cpu/ahead.inl"
#include "cpu/unpack_int8_neon.inl"
#include "cpu/multiply_strip_neon.inl"
#include "cpu/gemm_int8.inl"
}  // namespace
}  // namespace neondot
}  // namespace banyan

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

const banyan::Ops* banyan::kernels_neondot() {
  static const Ops ops = [] {
    Ops all = *neondot::kBase();
    all.name = "neondot";
    all.gemm = neondot::gemm_int8;
    all.gemm_together = neondot::gemm_int8_together;
    return all;
  }();
  return &ops;
}

#else

const banyan::Ops* banyan::kernels_neondot() { return nullptr; }

#endif
