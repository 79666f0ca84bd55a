// lora: a matrix with a low-rank addition (LoRA, arXiv 2106.09685), made one matrix once at load.
#pragma once

#include "base/aligned.h"
#include "device/device.h"
#include "tensor/tensor.h"

namespace banyan {

// F32 and BF16 stay what they are; everything else becomes F16.
constexpr DType lora_dtype(DType base) { return base == DType::kF32 || base == DType::kBF16 ? base : DType::kF16; }

// base [out, in] + scale * b a with a [r, in] and b [out, r] in F32, F16 or BF16: rows of lora_dtype(base.dtype), summed in float32 and rounded once.
// Throws kOutOfMemory.
AlignedBytes add_lora(Device& device, const WeightView& base, const WeightView& a, const WeightView& b, float scale);

}  // namespace banyan
