// sample_table: what the op `sample` reads and writes beside logits, on the device. Its places change only when there are more rows or more edits than
// there ever were, so that a recorded step can be repeated.
#pragma once

#include <span>
#include <vector>

#include "device/buffer.h"
#include "engine/sampler.h"

namespace banyan {

class SampleTable {
 public:
  explicit SampleTable(Device& device) : device_(device), rows_(device), edits_(device), ids_(device) {}

  void upload(std::span<const SampleRequest> requests);
  // Chooses a token out of each row of logits [n, V], as the n requests say that were uploaded.
  void sample(Stream& s, float* logits, int vocab_size);
  // The ids chosen, once the op is done; valid until the next call.
  std::span<const int32_t> ids();

 private:
  Device& device_;
  Buffer rows_, edits_, ids_;
  std::vector<SampleRow> host_rows_;
  std::vector<LogitEdit> host_edits_;
  std::vector<int32_t> host_ids_;
};

}  // namespace banyan
