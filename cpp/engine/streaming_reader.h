// streaming_reader: StreamingLLM (arXiv 2309.17453). The first few tokens, the attention sinks, and a sliding window stay in the cache; positions are those
// inside the cache.
#pragma once

#include "engine/reader.h"

namespace banyan {

class StreamingReader : public CachedReader {
 public:
  // Throws kInvalidArgument for a window larger than the model's, or not larger than the sinks.
  StreamingReader(Engine& engine, const MethodOptions& options);
  int64_t room(const std::vector<std::shared_ptr<DocumentState>>& documents, size_t n_prompt) const override;
  void begin(Question question) override;
  bool read(Stream& s, std::span<const int32_t> ids, Pass::Read wanted, bool is_step) override;
  std::optional<Pass> join(Stream&, std::span<const int32_t>) override { return std::nullopt; }
  void forget() override;

 private:
  std::vector<int32_t> lead(const Question& question) const override;
  int row_of(int position) const { return position < n_sinks_ ? position : position - n_dropped_; }
  void slide(Stream& s, int n_past, int n);
  const int n_sinks_, window_;  // window: tokens that one token sees, sinks and itself included
  int n_dropped_ = 0;           // tokens between the sinks and the first row behind them
};

}  // namespace banyan
