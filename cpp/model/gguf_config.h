// gguf_config: what the metadata of a GGUF file says about its decoder and tokenizer.
#pragma once

#include <optional>

#include "model/config.h"
#include "model/gguf.h"
#include "model/tensor_table.h"
#include "model/weights.h"

namespace banyan {

// Throws Error: kBadModelFile or kUnsupportedModel, naming the key.
ModelConfig read_gguf_config(const Gguf& gguf);

// Nothing if the file has no tokenizer.
std::optional<TokenizerData> read_gguf_tokenizer(const Gguf& gguf);

TensorTable gguf_tensors(const Gguf& gguf);

}  // namespace banyan
