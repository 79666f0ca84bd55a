// AVX-VNNI: Alder Lake, Zen 5 and later, most of Intel's without AVX-512. As avx2int8, with VPDPBUSD and VPDPWSSD.
#include "cpu/kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avxvnni"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // Products::sum, which the first step sets
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avxvnni")
#endif

#define BANYAN_PRODUCTS "cpu/products_dpbusd.inl"

namespace banyan {
namespace avxvnni {
namespace {
#include "cpu/kernels_int8_avx2.inl"
}  // namespace
}  // namespace avxvnni
}  // namespace banyan

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

const banyan::Ops* banyan::kernels_avxvnni() {
  static const Ops ops = [] {
    Ops all = *avxvnni::kBase();
    all.name = "avxvnni";
    all.gemm = avxvnni::gemm_int8;
    all.gemm_together = avxvnni::gemm_int8_together;
    all.attend = avxvnni::attend_words<avxvnni::attend_base>;
    all.inject = avxvnni::inject_words;
    all.has_slot_tiles = true;
    return all;
  }();
  return &ops;
}

#else

const banyan::Ops* banyan::kernels_avxvnni() { return nullptr; }

#endif
