// cache: keys and values of a session's local tokens, per layer of the upper model; keys rotated by their position.
#pragma once

#include <vector>

#include "engine/layer.h"

namespace banyan {

class Cache {
 public:
  Cache(Device& device, const Decoder& upper, DType kv_dtype) : device_(device), upper_(upper), kv_dtype_(kv_dtype), indices_(device) {}

  // Room for n_rows tokens; the first n_kept of them stay. Throws kOutOfMemory that says the bytes (then nothing changed).
  void reserve(Stream& s, int n_rows, int n_kept);
  KvView layer(int index) const;  // [capacity, G, C]
  int capacity() const { return capacity_; }

 private:
  Device& device_;
  const Decoder& upper_;
  const DType kv_dtype_;
  int capacity_ = 0;
  std::vector<Buffer> layers_;  // per layer [keys, values][capacity, G, C]
  IndexTable indices_;
};

}  // namespace banyan
