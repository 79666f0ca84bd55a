#include "model/lora.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "base/half.h"
#include "device/buffer.h"
#include "model/tensor_table.h"

namespace banyan {
namespace {

constexpr int64_t kRows = 256;  // of the matrix at a time: some megabytes of float32 even where it is wide

std::vector<float> floats_of(const WeightView& w) { return to_floats(TensorView{w.data, w.dtype, 2, {w.rows, w.cols}}); }

void round_to(DType dtype, const std::vector<float>& values, std::byte* out) {
  if (dtype == DType::kF32) {
    std::memcpy(out, values.data(), values.size() * sizeof(float));
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits = dtype == DType::kF16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
    std::memcpy(out + i * sizeof bits, &bits, sizeof bits);
  }
}

}  // namespace

AlignedBytes add_lora(Device& device, const WeightView& base, const WeightView& a, const WeightView& b, float scale) {
  const DType dtype = lora_dtype(base.dtype);
  const int64_t rank = a.rows, n_cols = base.cols;
  std::vector<float> down = floats_of(a), across(down.size()), up = floats_of(b);
  for (float& value : up) value *= scale;
  for (int64_t r = 0; r < rank; ++r) {  // a's columns as rows, which a product reads
    for (int64_t i = 0; i < n_cols; ++i) across[static_cast<size_t>(i * rank + r)] = down[static_cast<size_t>(r * n_cols + i)];
  }
  const auto to_device = [&](const std::vector<float>& values) {
    Buffer buffer(device, values.size() * sizeof(float));
    device.to_device(buffer.as<float>(), values.data(), values.size() * sizeof(float));
    return buffer;
  };
  const Buffer a_columns = to_device(across), b_rows = to_device(up);
  Buffer sums(device, static_cast<size_t>(kRows * n_cols) * sizeof(float)), ids(device, static_cast<size_t>(base.rows) * sizeof(int32_t));
  std::vector<int32_t> numbers(static_cast<size_t>(base.rows));
  std::iota(numbers.begin(), numbers.end(), 0);
  device.to_device(ids.as<int32_t>(), numbers.data(), numbers.size() * sizeof(int32_t));

  AlignedBytes merged(static_cast<size_t>(base.rows) * row_bytes(dtype, n_cols));
  std::vector<float> host;
  Stream s = device.stream();
  for (int64_t row = 0; row < base.rows; row += kRows) {
    const auto n = static_cast<int>(std::min(kRows, base.rows - row));
    embed(s, {sums.as<float>(), base, ids.as<int32_t>() + row, n});  // rows of any format as float32
    gemm(s, {sums.as<float>(), b_rows.as<float>() + row * rank, {a_columns.as<float>(), DType::kF32, n_cols, rank}, nullptr, n, true});
    device.sync();
    host.resize(static_cast<size_t>(n * n_cols));
    device.to_host(host.data(), sums.as<float>(), host.size() * sizeof(float));
    round_to(dtype, host, merged.data() + static_cast<size_t>(row) * row_bytes(dtype, n_cols));
  }
  return merged;
}

}  // namespace banyan
