// dtype: element formats of weights and memory. Block formats are those of GGUF (ggml): a row is a whole number of blocks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace banyan {

enum class DType : uint8_t { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_K, kQ5_K, kQ6_K, kI32, kI8, kU8, kF64, kI64, kI16, kBool };

struct DTypeTraits {
  const char* name;
  int block_size;   // elements in a block
  int block_bytes;  // bytes of a block
};

constexpr DTypeTraits traits(DType dtype) {
  switch (dtype) {
    case DType::kF32: return {"F32", 1, 4};
    case DType::kF16: return {"F16", 1, 2};
    case DType::kBF16: return {"BF16", 1, 2};
    case DType::kQ8_0: return {"Q8_0", 32, 34};
    case DType::kQ4_0: return {"Q4_0", 32, 18};
    case DType::kQ4_K: return {"Q4_K", 256, 144};
    case DType::kQ5_K: return {"Q5_K", 256, 176};
    case DType::kQ6_K: return {"Q6_K", 256, 210};
    case DType::kI32: return {"I32", 1, 4};
    case DType::kI8: return {"I8", 1, 1};
    case DType::kU8: return {"U8", 1, 1};
    case DType::kF64: return {"F64", 1, 8};
    case DType::kI64: return {"I64", 1, 8};
    case DType::kI16: return {"I16", 1, 2};
    case DType::kBool: return {"BOOL", 1, 1};
  }
  return {"?", 1, 1};
}

// True for the formats a matrix of the model may have.
constexpr bool is_weight_dtype(DType dtype) { return dtype <= DType::kQ6_K; }

// Bytes of one row of `n_elements`; the caller guarantees a whole number of blocks.
constexpr size_t row_bytes(DType dtype, int64_t n_elements) {
  const DTypeTraits t = traits(dtype);
  return static_cast<size_t>(n_elements / t.block_size) * static_cast<size_t>(t.block_bytes);
}

}  // namespace banyan
