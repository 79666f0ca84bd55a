// random_model: a Llama of a given shape with random BF16 weights and its SharedLLM adapter, written to a folder as Hugging Face and we write them.
#pragma once

#include <string>

#include "model/weights.h"
#include "size.h"

namespace banyan::bench {

// Takes what an earlier call of the same shape left there. `window`: most tokens that full attention may see. Throws kIo.
LoadPaths write_random_model(const std::string& folder, const Shape& shape, int64_t window);

}  // namespace banyan::bench
