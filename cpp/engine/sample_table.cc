#include "engine/sample_table.h"

#include <algorithm>
#include <bit>

namespace banyan {

namespace {

constexpr size_t kLeastRows = 64, kLeastEdits = 1024;  // 2 KiB and 16 KiB: sessions and penalty windows of most users

// Grows by doubling.
template <class T> void upload_to(Device& device, Buffer& buffer, const std::vector<T>& values, size_t least) {
  buffer.reserve(std::bit_ceil(std::max(values.size(), least)) * sizeof(T));
  if (!values.empty()) device.to_device(buffer.as<T>(), values.data(), values.size() * sizeof(T));
}

}  // namespace

void SampleTable::upload(std::span<const SampleRequest> requests) {
  host_rows_.clear();
  host_edits_.clear();
  for (const SampleRequest& request : requests) {
    host_rows_.push_back(request.row);
    host_rows_.back().first_edit = static_cast<int32_t>(host_edits_.size());
    host_rows_.back().n_edits = static_cast<int32_t>(request.edits.size());
    host_edits_.insert(host_edits_.end(), request.edits.begin(), request.edits.end());
  }
  upload_to(device_, rows_, host_rows_, kLeastRows);
  upload_to(device_, edits_, host_edits_, kLeastEdits);
  ids_.reserve(rows_.n_bytes() / sizeof(SampleRow) * sizeof(int32_t));
}

void SampleTable::sample(Stream& s, float* logits, int vocab_size) {
  banyan::sample(s, {ids_.as<int32_t>(), logits, rows_.as<SampleRow>(), edits_.as<LogitEdit>(), static_cast<int>(host_rows_.size()), vocab_size});
}

std::span<const int32_t> SampleTable::ids() {
  host_ids_.resize(host_rows_.size());
  device_.to_host(host_ids_.data(), ids_.as<int32_t>(), host_ids_.size() * sizeof(int32_t));
  return host_ids_;
}

}  // namespace banyan
