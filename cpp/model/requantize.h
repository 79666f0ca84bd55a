// requantize: an adapter's matrices in 8 bits, made once at load. Where the base is quantized, an adapter in 16 bits is a large part of what a token reads.
#pragma once

#include <deque>

#include "base/aligned.h"
#include "model/weights.h"

namespace banyan {

// The matrices in F32, F16 or BF16 that are not the upper model's own become Q8_0, where their rows are whole blocks: `rows` owns them. Norms, biases
// and what is quantized already stay. Throws kOutOfMemory.
void requantize_adapter(ModelFiles& files, std::deque<AlignedBytes>& rows);

}  // namespace banyan
