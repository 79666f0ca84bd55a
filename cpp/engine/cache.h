// cache: keys and values of a session's local tokens, per layer of the upper model; keys rotated by their position.
#pragma once

#include <vector>

#include "engine/layer.h"

namespace banyan {

class Cache {
 public:
  Cache(Device& device, const Decoder& upper, DType kv_dtype)
      : device_(device), upper_(upper), kv_dtype_(kv_dtype), layers_(device), indices_(device), staged_(device) {}

  // Room for n_rows tokens; the first n_kept of them stay. Throws kOutOfMemory that says the bytes (then nothing changed).
  void reserve(Stream& s, int n_rows, int n_kept);
  // Rows [first, first + n) of all layers become rows `to` and following.
  void move(Stream& s, int first, int to, int n) { copy(s, *this, first, to, n); }
  KvView layer(int index) const;  // [capacity, G, C], or [G, capacity, C] where the device keeps heads apart
  int capacity() const { return capacity_; }

 private:
  void copy(Stream& s, const Cache& from, int first, int to, int n);
  size_t side_bytes() const;  // of one layer's keys or values
  Device& device_;
  const Decoder& upper_;
  const DType kv_dtype_;
  int capacity_ = 0;
  Buffer layers_;  // [L][keys, values]: one memory, so that it lies in huge pages before a session is long
  IndexTable indices_;
  Buffer staged_;  // rows that move
};

}  // namespace banyan
