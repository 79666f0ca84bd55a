// kv_pool: keys and values of tokens through all layers of the upper model. A pool gives equal pages (one a chunk) out of slabs that many pages share, so
// that attention over neighbouring chunks is one range of rows; a slab lies in memory or, on request, in a mapped file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/buffer.h"
#include "engine/decoder.h"

namespace banyan {

// How one token's keys and values lie.
struct KvShape {
  int n_layers = 0, kv_dim = 0, head_dim = 0;
  DType dtype = DType::kF16;                                                        // kF32, kF16, or kQ8_0 (head_dim is then a multiple of 32)
  size_t row() const { return row_bytes(dtype, kv_dim); }                           // of one layer's keys or values
  size_t token_bytes() const { return 2 * static_cast<size_t>(n_layers) * row(); }  // of everything
};

// Rows of a slab [L][keys, values][n_rows, G, C]. Keys are rotated by their position in what they were computed with.
struct KvRows {
  std::byte* slab = nullptr;  // device memory
  int64_t n_slab_rows = 0;
  int32_t row = 0;                    // the first of ours
  std::shared_ptr<const void> owner;  // keeps the rows
  KvView layer(const KvShape& shape, int index) const {
    std::byte* k = slab + 2 * static_cast<size_t>(index) * static_cast<size_t>(n_slab_rows) * shape.row();
    return {k, k + static_cast<size_t>(n_slab_rows) * shape.row(), shape.dtype, shape.kv_dim, shape.head_dim};
  }
};

// Where pools lie.
struct KvPlace {
  std::string directory;  // empty: memory; else a scratch file there, for a device that reads mapped files
};

class KvPool {
 public:
  KvPool(Device& device, const KvShape& shape, int page_rows, KvPlace place);

  // A free page. Throws kOutOfMemory (says needed and available bytes), kIo (full disk). Engine thread; pages may be given back on any.
  KvRows take();
  // Throws as take() would if this many more pages could not be had.
  void require(size_t n_pages) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace banyan
