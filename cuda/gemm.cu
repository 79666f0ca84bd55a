// gemm: chooses how to multiply. What is rounded depends on the format of the weights and on the number of tokens:
//   F32, or exact mode      nothing, float32 throughout                                             gemm_f32.cu
//   up to 16 tokens, with
//   block formats 32        nothing; tensor cores over the sum of 16-bit terms of x                 gemm_few.cu
//   more, BF16              x to bf16                                                               gemm_wgmma.cu, gemm_mma.cu
//   more, F16 and blocks    x to f16 behind a power of two per token, weights d * q to f16          gemm_wgmma.cu, gemm_mma.cu
// Sums are float32 everywhere and the same bits in every run.
#include "cuda/gemm.h"

#include "cuda/backend.h"
#include "cuda/ops.h"

namespace banyan::cuda {

bool gemm_by(const GemmChoice& choice, Stream& stream, const GemmArgs& a) {
  Backend backend = backend_of(stream);
  if (choice.sm_count != 0) backend.sm_count = choice.sm_count;
  if (choice.shared_per_block != 0) backend.shared_per_block = choice.shared_per_block;
  GemmPath path = choice.path;
  const bool is_f32 = a.w.dtype == DType::kF32, is_few = a.n_tokens <= few_tokens(a.w.dtype);
  if (path == GemmPath::kChosen) {
    if (is_f32 || backend.is_exact) path = GemmPath::kF32;
    else if (is_few) path = GemmPath::kFew;
    else if (a.n_tokens >= hopper_tokens(a.w.dtype) && gemm_wgmma(backend, a)) return true;
    else path = GemmPath::kTensor;
  } else if ((is_f32 && path != GemmPath::kF32) || (path == GemmPath::kFew && !is_few)) {
    return false;
  }
  switch (path) {
    case GemmPath::kF32: gemm_f32(backend, a); return true;
    case GemmPath::kFew: gemm_few(backend, a); return true;
    case GemmPath::kHopper: return gemm_wgmma(backend, a);
    default: gemm_mma(backend, a); return true;
  }
}

void gemm(Stream& stream, const GemmArgs& a) {
  if (a.n_tokens <= 0 || a.w.rows <= 0 || a.w.cols <= 0 || stream.cancelled()) return;
  gemm_by({}, stream, a);
}

}  // namespace banyan::cuda
