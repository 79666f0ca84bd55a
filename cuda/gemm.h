// gemm: the ways to multiply, one file each; gemm.cu chooses. Arguments: GemmArgs (device/ops.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/ops.h"

namespace banyan::cuda {

struct Backend;

enum class GemmPath {
  kChosen,
  kFew,     // gemm_few.cu: up to few_tokens(), not F32: bandwidth bound; x is not rounded
  kTensor,  // gemm_mma.cu: mma.sync, not F32; x rounded to 16 bits
  kHopper,  // gemm_wgmma.cu: wgmma, compute capability 9.0 only, not F32; x rounded to 16 bits
  kF32,     // gemm_f32.cu: float32 throughout, any format
};

// Up to so many tokens kFew multiplies, and is chosen. Weights in blocks are worth it longer: kTensor has to unpack them for every few tokens.
constexpr int kFewTokens = 16, kFewBlockTokens = 32;
constexpr int few_tokens(DType dtype) { return traits(dtype).block_size == 1 ? kFewTokens : kFewBlockTokens; }

// From so many tokens on kHopper is chosen where it can. Blocks have to be unpacked to memory for it: 5 bytes to move for each weight are worth it once
// what they save on each token, about 2 (1 / 300e12 - 1 / 650e12) s, is as much: 350 to 900 tokens by that estimate. Not measured yet.
constexpr int kHopperTokens = 65, kHopperBlockTokens = 512;
constexpr int hopper_tokens(DType dtype) { return traits(dtype).block_size == 1 ? kHopperTokens : kHopperBlockTokens; }

constexpr int kDepth = 64;  // elements of a step along the columns in kTensor and kHopper

// How to multiply, for tests and benches: a path, and what the choices within it (tiles, slices) think the device to be; 0: as it is.
struct GemmChoice {
  GemmPath path = GemmPath::kChosen;
  int sm_count = 0;
  size_t shared_per_block = 0;
};

// As gemm, so. False, and nothing done, where that path cannot multiply these.
bool gemm_by(const GemmChoice& choice, Stream& stream, const GemmArgs& args);

// One each. They assume that there is something to do.
void gemm_few(Backend& backend, const GemmArgs& args);
void gemm_mma(Backend& backend, const GemmArgs& args);
bool gemm_wgmma(Backend& backend, const GemmArgs& args);  // false, and nothing done, if this machine cannot
void gemm_f32(Backend& backend, const GemmArgs& args);

// ---- what kTensor and kHopper share: gemm_operands.cu ----

// Columns padded to whole steps; what lies behind the columns is zero.
inline int64_t padded_cols(int64_t cols) { return (cols + kDepth - 1) / kDepth * kDepth; }

// BF16 weights meet bf16 activations, all others f16.
inline bool is_bf16(DType dtype) { return dtype == DType::kBF16; }

// x[T, cols] as 16-bit floats, to [T, padded_cols]. As f16 each row is first multiplied by a power of two that brings its largest element near 2^14;
// inverse_scales[T] undo that (1 with bf16).
void round_activations(Backend& backend, uint16_t* to, float* inverse_scales, const GemmArgs& args);

// Weights as f16 (BF16: as they are), to [rows, padded_cols]: d * q in float32, rounded once.
void unpack_weights(Backend& backend, uint16_t* to, const WeightView& w);

// out (+)= the sum over the slices of partials[slices, T, rows], in this order, + bias.
void sum_slices(Backend& backend, const float* partials, int n_slices, const GemmArgs& args);

// Pieces of scratch memory, each 256-byte aligned.
class Layout {
 public:
  size_t add(size_t n_bytes) {
    const size_t at = total_;
    total_ += (n_bytes + 255) / 256 * 256;
    return at;
  }
  size_t total() const { return total_ + 256; }
  static unsigned char* base(void* scratch) { return reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(scratch) + 255) / 256 * 256); }

 private:
  size_t total_ = 0;
};

}  // namespace banyan::cuda
