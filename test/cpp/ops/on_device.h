// on_device: calls an op with arguments in host memory on a device that has memory of its own. What an argument points to is copied there, as far
// as the op may read or write it, and what the op wrote is copied back. Where two arguments are the same memory, so they are there.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "device/buffer.h"
#include "device/device.h"

namespace banyan::test {

class OnDevice {
 public:
  OnDevice(Device& device, Stream& stream) : device_(device), stream_(stream) {}

  // Waits for the op and brings back what it wrote.
  void finish() {
    device_.sync();
    for (const auto& [host, copy] : copies_) {
      if (copy.is_output) device_.to_host(const_cast<void*>(host), copy.at, copy.n_bytes);
    }
  }

  void embed(EmbedArgs a) {
    const auto dim = static_cast<size_t>(a.table.cols), n = static_cast<size_t>(a.n_tokens);
    call(::banyan::embed, EmbedArgs{out(a.out, n * dim), table(a.table), in(a.ids, n), a.n_tokens});
  }
  void norm(NormArgs a) {
    const size_t n = static_cast<size_t>(a.n_rows) * static_cast<size_t>(a.dim);
    const float* x = in(a.x, n);
    const float* weight = in(a.weight, static_cast<size_t>(a.dim));
    call(::banyan::norm, NormArgs{out(a.out, n), x, weight, a.n_rows, a.dim, a.eps});
  }
  void gemm(GemmArgs a) {
    const auto tokens = static_cast<size_t>(a.n_tokens), rows = static_cast<size_t>(a.w.rows), cols = static_cast<size_t>(a.w.cols);
    call(::banyan::gemm, GemmArgs{out(a.out, tokens * rows), in(a.x, tokens * cols), table(a.w), in(a.bias, rows), a.n_tokens, a.accumulate});
  }
  void rope(RopeArgs a) {
    const auto tokens = static_cast<size_t>(a.n_tokens);
    a.x = out(a.x, tokens * static_cast<size_t>(a.n_heads) * static_cast<size_t>(a.head_dim));
    a.positions = in(a.positions, tokens);
    a.inv_freq = in(a.inv_freq, static_cast<size_t>(a.head_dim / 2));
    call(::banyan::rope, a);
  }
  void store(StoreArgs a) {
    const auto tokens = static_cast<size_t>(a.n_tokens);
    const size_t n_bytes = side_bytes(a.dtype, highest(a.rows, tokens), a.row_stride, a.head_stride, a.n_heads, a.head_dim);
    a.out = copy(a.out, n_bytes, true);
    a.x = in(a.x, tokens * static_cast<size_t>(a.n_heads) * static_cast<size_t>(a.head_dim));
    a.rows = in(a.rows, tokens);
    call(::banyan::store, a);
  }
  void place(PlaceArgs a) {
    std::vector<PlacedRows> pieces(a.pieces, a.pieces + a.n_pieces);
    const size_t row = row_bytes(a.dtype, static_cast<int64_t>(a.n_heads) * a.head_dim);
    int last = 0;
    for (PlacedRows& piece : pieces) {
      last = std::max(last, piece.row + piece.n_rows);
      piece.from = copy(piece.from, row * static_cast<size_t>(piece.n_from), false);
    }
    a.pieces = in(pieces.data(), pieces.size());
    a.out = copy(a.out, row * static_cast<size_t>(last), true);
    a.inv_freq = in(a.inv_freq, static_cast<size_t>(a.head_dim / 2));
    a.slow_freq = in(a.slow_freq, static_cast<size_t>(a.head_dim / 2));
    call(::banyan::place, a);
  }
  void attend(AttendArgs a, uint64_t n_pairs) {
    const auto tokens = static_cast<size_t>(a.n_tokens), heads = static_cast<size_t>(a.n_heads), dim = static_cast<size_t>(a.head_dim);
    a.kv = side_views(a.kv, highest(a.kv_end, tokens) - 1, a.n_kv_heads, a.head_dim);
    a.out = out(a.out, tokens * heads * dim);
    a.q = in(a.q, tokens * heads * dim);
    a.kv_begin = in(a.kv_begin, tokens);
    a.kv_end = in(a.kv_end, tokens);
    a.lse = out(a.lse, tokens * heads);
    ::banyan::attend(stream_, a, n_pairs);
    finish();
  }
  void inject(InjectArgs a) {
    const size_t n = static_cast<size_t>(a.n_tokens) * static_cast<size_t>(a.n_heads) * static_cast<size_t>(a.head_dim);
    a.kv = side_views(a.kv, a.n_slots - 1, a.n_kv_heads, a.head_dim);
    a.out = out(a.out, n);
    a.q = in(a.q, n);
    call(::banyan::inject, a);
  }
  void merge(MergeArgs a) {
    const size_t rows = static_cast<size_t>(a.n_rows), n = rows * static_cast<size_t>(a.dim);
    a.a = in(a.a, n);
    a.b = in(a.b, n);
    a.a_lse = in(a.a_lse, rows);
    a.b_lse = in(a.b_lse, rows);
    a.out = out(a.out, n);
    a.lse = out(a.lse, rows);
    call(::banyan::merge, a);
  }
  void gather(GatherArgs a) {
    const auto rows = static_cast<size_t>(a.n_rows);
    a.x = copy(a.x, row_bytes(a.dtype, a.dim) * static_cast<size_t>(highest(a.rows, rows) + 1), false);
    a.out = out(a.out, rows * static_cast<size_t>(a.dim));
    a.rows = in(a.rows, rows);
    call(::banyan::gather, a);
  }
  void compress(CompressArgs a) {
    const auto slots = static_cast<size_t>(a.n_slots), dim = static_cast<size_t>(a.n_heads) * static_cast<size_t>(a.head_dim);
    int last = -1;
    for (size_t i = 0; i < slots; ++i) last = std::max(last, a.rows[i] + a.side * a.strides[i]);
    const int n_rows = a.end != nullptr ? highest(a.end, slots) : highest(a.begin, slots) + 1;
    a.out = copy(a.out, row_bytes(a.dtype, static_cast<int64_t>(dim)) * static_cast<size_t>(last + 1), true);
    a.x = in(a.x, static_cast<size_t>(std::max(0, n_rows)) * dim);
    a.rows = in(a.rows, slots);
    a.strides = in(a.strides, slots);
    a.begin = in(a.begin, slots);
    a.end = in(a.end, slots);
    a.positions = in(a.positions, slots);
    a.inv_freq = in(a.inv_freq, static_cast<size_t>(a.head_dim / 2));
    call(::banyan::compress, a);
  }
  void cosine(CosineArgs a) {
    const auto n = static_cast<size_t>(a.n_rows), dim = static_cast<size_t>(a.dim);
    std::vector<const float*> rows(a.rows, a.rows + n);
    for (const float*& row : rows) row = in(row, dim);
    a.rows = in(rows.data(), n);
    a.query = in(a.query, dim);
    a.out = out(a.out, n);
    call(::banyan::cosine, a);
  }
  void standardize(StandardizeArgs a) {
    const auto chunks = static_cast<size_t>(a.n_chunks), heads = static_cast<size_t>(a.n_heads), tokens = static_cast<size_t>(a.n_tokens);
    const auto n_parts = static_cast<size_t>(highest(a.heads, heads) / a.group + 1);
    a.x = in(a.x, n_parts * static_cast<size_t>(a.group) * tokens);
    a.begin = in(a.begin, chunks + 1);
    a.heads = in(a.heads, heads);
    a.sums = out(a.sums, heads * (chunks + 1) * 2);
    a.out = out(a.out, tokens);
    call(::banyan::standardize, a);
  }
  void highest(HighestArgs a) {
    const auto groups = static_cast<size_t>(a.n_groups);
    a.x = in(a.x, static_cast<size_t>(std::max(0, highest(a.end, groups))));
    a.out = out(a.out, groups);
    a.begin = in(a.begin, groups);
    a.end = in(a.end, groups);
    call(::banyan::highest, a);
  }
  void sample(SampleArgs a) {
    const auto rows = static_cast<size_t>(a.n_rows);
    int n_edits = 0;
    for (size_t i = 0; i < rows; ++i) n_edits = std::max(n_edits, a.rows[i].first_edit + a.rows[i].n_edits);
    a.ids = out(a.ids, rows);
    a.logits = out(a.logits, rows * static_cast<size_t>(a.vocab_size));
    a.rows = in(a.rows, rows);
    a.edits = in(a.edits, static_cast<size_t>(n_edits));
    call(::banyan::sample, a);
  }
  void swiglu(SwigluArgs a) {
    const auto n = static_cast<size_t>(a.n);
    a.gate = in(a.gate, n);
    a.up = in(a.up, n);
    a.out = out(a.out, n);
    call(::banyan::swiglu, a);
  }

 private:
  struct Copy {
    Buffer memory;
    uint8_t* at;
    size_t n_bytes;
    bool is_output;
  };

  template <class Args> void call(void (*op)(Stream&, const Args&), const Args& args) {
    op(stream_, args);
    finish();
  }

  // Highest of n numbers, -1 if there are none.
  static int highest(const int32_t* numbers, size_t n) {
    int most = -1;
    for (size_t i = 0; i < n; ++i) most = std::max(most, numbers[i]);
    return most;
  }

  static size_t side_bytes(DType dtype, int last_row, int64_t row_stride, int64_t head_stride, int heads, int head_dim) {
    if (last_row < 0 || heads == 0) return 0;
    return row_bytes(dtype, last_row * row_stride + (heads - 1) * head_stride + head_dim);
  }

  KvView side_views(KvView kv, int last_row, int heads, int head_dim) {
    const size_t n_bytes = side_bytes(kv.dtype, last_row, kv.row_stride, kv.head_stride, heads, head_dim);
    kv.k = copy(kv.k, n_bytes, false);
    kv.v = copy(kv.v, n_bytes, false);
    return kv;
  }

  WeightView table(WeightView w) {
    w.data = copy(w.data, row_bytes(w.dtype, w.cols) * static_cast<size_t>(w.rows), false);
    return w;
  }

  template <class T> const T* in(const T* host, size_t n) { return static_cast<const T*>(copy(host, n * sizeof(T), false)); }
  template <class T> T* out(T* host, size_t n) { return static_cast<T*>(copy(host, n * sizeof(T), true)); }

  // As aligned as the host's memory is, up to 16 bytes, and not more.
  void* copy(const void* host, size_t n_bytes, bool is_output) {
    if (host == nullptr) return nullptr;
    auto found = copies_.find(host);
    if (found == copies_.end()) {
      const size_t offset = reinterpret_cast<uintptr_t>(host) % 16;
      Buffer memory(device_, offset + n_bytes);
      uint8_t* at = memory.as<uint8_t>() + offset;
      device_.to_device(at, host, n_bytes);
      found = copies_.emplace(host, Copy{std::move(memory), at, n_bytes, false}).first;
    }
    found->second.is_output = found->second.is_output || is_output;
    return found->second.at;
  }

  Device& device_;
  Stream& stream_;
  std::map<const void*, Copy> copies_;
};

}  // namespace banyan::test
