// The ops of avx2, on the same machines, but gemm of block formats and injection of Q8_0 slots multiply integers. And the same beside avx512, for machines that have
// AVX-512 without VNNI (Skylake-X): these products take fewer steps than longer vectors of floats.
#include "cpu/kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // Products::sum, which the first step sets
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#define BANYAN_PRODUCTS "cpu/products_maddubs.inl"

namespace banyan {
namespace avx2int8 {
namespace {
#include "cpu/kernels_int8_avx2.inl"

// Longer vectors of floats meet Q8_0 in fewer steps than words, from as many tokens on.
bool is_float(const GemmArgs& args) { return args.w.dtype == DType::kQ8_0 ? args.n_tokens > 48 : traits(args.w.dtype).block_size == 1; }
void gemm_beside_avx512(Stream& stream, const GemmArgs& args) { (is_float(args) ? kernels_avx512() : kernels_avx2int8())->gemm(stream, args); }
bool plan_beside_avx512(const Stream& stream, const GemmArgs& args, int64_t all_bytes, std::byte* x, GemmPlan& plan) {
  return !is_float(args) && plan_int8(stream, args, all_bytes, x, plan);
}
void gemm_together_beside_avx512(Stream& stream, const GemmArgs* all, int n) {
  if (all[0].n_tokens <= 0 || run_together<plan_beside_avx512>(stream, all, n)) return;
  for (int i = 0; i < n; ++i) gemm_beside_avx512(stream, all[i]);
}
void inject_beside_avx512(Stream& stream, const InjectArgs& args) {
  (args.kv.is_tiled ? kernels_avx2int8() : kernels_avx512())->inject(stream, args);
}
}  // namespace
}  // namespace avx2int8
}  // namespace banyan

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

const banyan::Ops* banyan::kernels_avx2int8() {
  static const Ops ops = [] {
    Ops all = *avx2int8::kBase();
    all.name = "avx2int8";
    all.gemm = avx2int8::gemm_int8;
    all.gemm_together = avx2int8::gemm_int8_together;
    all.attend = avx2int8::attend_words<avx2int8::attend_base>;
    all.inject = avx2int8::inject_words;
    all.has_slot_tiles = true;
    return all;
  }();
  return &ops;
}

const banyan::Ops* banyan::kernels_avx512int8() {
  static const Ops ops = [] {
    Ops all = *kernels_avx512();
    all.name = "avx512int8";
    all.gemm = avx2int8::gemm_beside_avx512;
    all.gemm_together = avx2int8::gemm_together_beside_avx512;
    all.inject = avx2int8::inject_beside_avx512;
    all.has_slot_tiles = true;
    return all;
  }();
  return &ops;
}

#else

const banyan::Ops* banyan::kernels_avx2int8() { return nullptr; }
const banyan::Ops* banyan::kernels_avx512int8() { return nullptr; }

#endif
