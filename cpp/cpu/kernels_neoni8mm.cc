// NEON with SMMLA (FEAT_I8MM: Neoverse V1 and N2, Apple M2 and later). The ops of neondot, but many tokens meet block formats in matrix products.
#include "cpu/kernels.h"

#if BANYAN_HAS_NEON_PRODUCTS

#include <arm_neon.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("i8mm"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("no-schedule-insns")  // it moves loads so far up that sums lose their registers
#pragma GCC target("arch=armv8.2-a+i8mm")
#endif

namespace banyan {
namespace neoni8mm {
namespace {
constexpr auto kBase = kernels_neondot;
constexpr int kFewInt8Tokens = 8;  // as there
template <DType> constexpr int kFewInt8TokensOf = kFewInt8Tokens;
#include "cpu/vec_neon.h"
#include "cpu/tasks.inl"
#include "cpu/gemm_plan.inl"
#include "cpu/products_matrix.inl"
#include "cpu/int8_format_neon.inl"
#include "cpu/quantize_rows_neon.inl"
#include "cpu/ahead.inl"
#include "cpu/unpack_int8_neon.inl"
#include "cpu/multiply_strip_neon.inl"
template <DType> bool plan_int8_few(const Stream&, const GemmArgs&, int64_t, std::byte*, GemmPlan&) { return false; }
#include "cpu/gemm_int8.inl"

// Few tokens are neondot's.
inline void gemm_together(Stream& stream, const GemmArgs* all, int n) {
  if (all[0].n_tokens <= kFewInt8Tokens) kBase()->gemm_together(stream, all, n);
  else gemm_int8_together(stream, all, n);
}
}  // namespace
}  // namespace neoni8mm
}  // namespace banyan

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

const banyan::Ops* banyan::kernels_neoni8mm() {
  static const Ops ops = [] {
    Ops all = *neoni8mm::kBase();
    all.name = "neoni8mm";
    all.gemm = neoni8mm::gemm_int8;
    all.gemm_together = neoni8mm::gemm_together;
    return all;
  }();
  return &ops;
}

#else

const banyan::Ops* banyan::kernels_neoni8mm() { return nullptr; }

#endif
