// fingerprint: tells models apart by what they compute, so that a saved document is only read with the model that made it.
#pragma once

#include <string>
#include <vector>

#include "model/tensor_table.h"
#include "model/weights.h"

namespace banyan {

// 32 hex digits: see ModelFiles::fingerprint. lora_scale: alpha / rank; 0: no LoRA. added: the tensors of each adapter; tensors: the model's own.
// Reads 4 KiB of each tensor's beginning, middle and end.
std::string fingerprint_of(const ModelFiles& model, float lora_scale, const std::vector<TensorTable>& added, const TensorTable& tensors);

}  // namespace banyan
