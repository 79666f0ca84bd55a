// AVX-512 with VNNI: Ice Lake, Zen 4 and later. The ops of avx512, but gemm of block formats, attention of few queries over Q8_0 keys and of many over
// those and F16, and injection of such slots multiply integers.
#include "cpu/kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <type_traits>

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // as in kernels_avx512.cc
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#endif

namespace banyan {
namespace avx512vnni {
namespace {
constexpr auto kBase = kernels_avx512;
#include "cpu/vec_avx512.h"
#include "cpu/vec_math.inl"
#include "cpu/tasks.inl"
#include "cpu/gemm_plan.inl"
#include "cpu/int8_format.inl"
#include "cpu/float_base.inl"
#include "cpu/quantize_rows.inl"
#include "cpu/quantize_tile.inl"
#include "cpu/dot_unit.inl"
#include "cpu/gemm_int8_few.inl"
#include "cpu/ahead.inl"
#include "cpu/unpack_int8.inl"
#include "cpu/multiply_strip.inl"
#include "cpu/gemm_int8.inl"

#include "cpu/dequant.inl"
#include "cpu/multiply.inl"
#include "cpu/attend.inl"
#include "cpu/attend_few.inl"
#include "cpu/attend_keys.inl"
#include "cpu/inject.inl"
#include "cpu/attend_few_int8.inl"
#include "cpu/slot_tiles.inl"
#include "cpu/tile_scales.inl"
#include "cpu/tile_products.inl"
#include "cpu/attend_tiles.inl"
#include "cpu/attend_words.inl"
}  // namespace
}  // namespace avx512vnni
}  // namespace banyan

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

const banyan::Ops* banyan::kernels_avx512vnni() {
  static const Ops ops = [] {
    Ops all = *avx512vnni::kBase();
    all.name = "avx512vnni";
    all.gemm = avx512vnni::gemm_int8;
    all.gemm_together = avx512vnni::gemm_int8_together;
    all.attend = avx512vnni::attend_words<avx512vnni::attend_int8>;
    all.inject = avx512vnni::inject_words;
    all.has_slot_tiles = true;
    return all;
  }();
  return &ops;
}

#else

const banyan::Ops* banyan::kernels_avx512vnni() { return nullptr; }

#endif
