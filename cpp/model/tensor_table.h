// tensor_table: the tensors of a checkpoint by name, whatever files they lie in. Filled by the readers, looked up by weights.cc.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/half.h"
#include "tensor/tensor.h"

namespace banyan {

struct StoredTensor {
  TensorView view;
  std::string file;          // path of the file, for messages
  std::string refused_type;  // not empty: the file's name of an element type we cannot run; then `view` has no data
};

using TensorTable = std::map<std::string, StoredTensor>;

// Elements of a tensor whose shape was checked against its file.
inline int64_t element_count(const TensorView& view) {
  int64_t n = 1;
  for (int i = 0; i < view.n_dims; ++i) n *= view.shape[static_cast<size_t>(i)];
  return n;
}

inline bool is_float_vector(const TensorView& view) {
  return view.n_dims == 1 && (view.dtype == DType::kF32 || view.dtype == DType::kF16 || view.dtype == DType::kBF16);
}

// A float vector as float32. The file promises no alignment.
inline std::vector<float> to_floats(const TensorView& view) {
  std::vector<float> values(static_cast<size_t>(element_count(view)));
  if (values.empty()) return values;
  if (view.dtype == DType::kF32) {
    std::memcpy(values.data(), view.data, values.size() * sizeof(float));
    return values;
  }
  const auto* from = static_cast<const unsigned char*>(view.data);
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + 2 * i, sizeof bits);
    values[i] = view.dtype == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
  }
  return values;
}

}  // namespace banyan
