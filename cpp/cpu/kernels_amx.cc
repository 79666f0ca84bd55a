// AMX: Sapphire Rapids and later. The ops of avx512vnni, but gemm of many tokens, and attention of many queries over all but float32 keys,
// multiply tiles of bf16.
#include "cpu/kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <type_traits>

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16"))), apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // as in kernels_avx512.cc
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")
#endif

#ifndef BANYAN_TILES  // a test brings its own
#define BANYAN_TILES "cpu/tiles_amx.inl"
#endif

namespace banyan {
namespace amx {
namespace {
constexpr auto kBase = kernels_avx512vnni;
#include "cpu/vec_avx512.h"
#include "cpu/vec_math.inl"
#include "cpu/tasks.inl"
#include "cpu/dequant.inl"
#include "cpu/ahead.inl"
#include BANYAN_TILES
#include "cpu/gemm_tiles.inl"

#include "cpu/multiply.inl"
#include "cpu/attend.inl"
#include "cpu/attend_few.inl"
#include "cpu/attend_keys.inl"
#include "cpu/inject.inl"
#include "cpu/slot_tiles.inl"
#include "cpu/tile_scales.inl"
#include "cpu/pack_terms.inl"
#include "cpu/attend_bf16.inl"
}  // namespace
}  // namespace amx
}  // namespace banyan

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const banyan::Ops* banyan::kernels_amx() {
  static const Ops ops = [] {
    Ops all = *amx::kBase();
    all.name = "amx";
    all.gemm = amx::gemm_tiles;
    all.gemm_together = amx::gemm_tiles_together;
    all.attend = amx::attend_bf16;
    all.inject = amx::inject_bf16;
    return all;
  }();
  return &ops;
}

#else

const banyan::Ops* banyan::kernels_amx() { return nullptr; }

#endif
