// tensor: views of data somebody else owns. Views never free.
#pragma once

#include <array>
#include <cstdint>

#include "tensor/dtype.h"

namespace banyan {

// Any tensor of a file. Shape in row-major order, outermost first (GGUF's reversed order is turned round by its reader).
struct TensorView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int n_dims = 0;
  std::array<int64_t, 4> shape{};
};

// A matrix [rows, cols] in its file's format, row-major, each row a whole number of blocks. No alignment of `data` is promised.
struct WeightView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  explicit operator bool() const { return data != nullptr; }
  bool operator==(const WeightView&) const = default;
};

// Keys and values of one layer: row r, head g starts at element r * row_stride + g * head_stride; C elements are contiguous.
// Of kQ8_0, C and both strides are multiples of 32: element e of a side is at byte e / 32 * 34. A memory of kQ8_0 may lie in tiles (slot_tile.h), then
// row_stride is C, head_stride that of whole tiles, and a tile starts where its first row would.
struct KvView {
  void* k = nullptr;
  void* v = nullptr;
  DType dtype = DType::kF32;  // kF32, kF16 or kQ8_0
  int64_t row_stride = 0;
  int64_t head_stride = 0;
  bool is_tiled = false;
  bool operator==(const KvView&) const = default;
};

}  // namespace banyan
