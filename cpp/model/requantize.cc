#include "model/requantize.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <set>

#include "device/buffer.h"
#include "device/device.h"

namespace banyan {

namespace {

constexpr int64_t kRows = 256;  // of a matrix at a time: some megabytes of float32 even where it is wide

class Requantizer {
 public:
  Requantizer(ModelFiles& files, std::deque<AlignedBytes>& rows) : rows_(rows), device_(make_cpu_device(0, "")) {
    own_.insert(files.upper.embedding.data);
    for (const LayerWeights& layer : files.upper.layers) {
      for (const WeightView* w : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) own_.insert(w->data);
    }
  }

  void convert(WeightView& w) {
    constexpr DType kTo = DType::kQ8_0;
    const bool is_plain = w.dtype == DType::kF32 || w.dtype == DType::kF16 || w.dtype == DType::kBF16;
    if (!w || !is_plain || own_.count(w.data) != 0 || w.cols % traits(kTo).block_size != 0) return;
    const size_t n_row = row_bytes(kTo, w.cols);
    AlignedBytes& out = rows_.emplace_back(static_cast<size_t>(w.rows) * n_row);
    std::vector<int32_t> ids(static_cast<size_t>(w.rows));
    std::iota(ids.begin(), ids.end(), 0);
    std::vector<float> floats(static_cast<size_t>(std::min(kRows, w.rows) * w.cols));
    Stream s = device_->stream();
    for (int64_t row = 0; row < w.rows; row += kRows) {
      const auto n = static_cast<int>(std::min(kRows, w.rows - row));
      embed(s, {floats.data(), w, ids.data() + row, n});  // rows of any format as float32
      store(s, {out.data(), kTo, w.cols, w.cols, floats.data(), ids.data() + row, n, 1, static_cast<int>(w.cols)});
    }
    w = {out.data(), kTo, w.rows, w.cols};
  }

 private:
  std::deque<AlignedBytes>& rows_;
  const std::unique_ptr<Device> device_;  // whose buffers are host memory
  std::set<const void*> own_;             // the upper model's matrices
};

}  // namespace

void requantize_adapter(ModelFiles& files, std::deque<AlignedBytes>& rows) {
  Requantizer to(files, rows);
  for (CrossWeights& layer : files.cross) {
    to.convert(layer.q);
    to.convert(layer.o);
  }
  if (!files.is_lower_shared) {
    to.convert(files.lower.embedding);
    for (LayerWeights& layer : files.lower.layers) {
      for (WeightView* w : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) to.convert(*w);
    }
  }
  for (CandidateWeights& layer : files.candidates) {
    for (WeightView* w : {&layer.q, &layer.k, &layer.v, &layer.o}) to.convert(*w);
  }
}

}  // namespace banyan
