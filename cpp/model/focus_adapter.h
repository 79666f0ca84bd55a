// focus_adapter: the FocusLLM part of a model: which candidate projections are stored, and how documents are cut.
#pragma once

#include <string_view>

#include "base/json.h"
#include "model/config.h"
#include "model/tensor_table.h"

namespace banyan {

// Whether the tensors hold candidate projections ("beacon" in the authors' code), or the configuration names them.
bool has_focus(const JsonKeys& keys, const TensorTable& tensors);

// The authors' keys (beacon_param, memory_stride) and ours (chunk_size, query_cap). Throws kBadAdapter.
FocusConfig read_focus(const JsonKeys& keys);

// model.layers.N.self_attn.beacon_{q,k,v,o}_proj.{weight,bias} of these layers, or the embedding that the authors store and never read.
bool is_focus_tensor(std::string_view name, const ModelConfig& upper);

}  // namespace banyan
