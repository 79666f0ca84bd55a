// parallel_reader: adaptive parallel encoding (arXiv 2502.05431). Chunks are read apart, each behind the shared begin-of-text token; in all layers the local tokens attend
// to all of them and to each other. Needs no training.
#pragma once

#include <optional>

#include "engine/reader.h"
#include "engine/whole_chunks.h"

namespace banyan {

class ParallelReader : public CachedReader {
 public:
  // Throws kInvalidArgument for a temperature or scale that is not positive.
  ParallelReader(Engine& engine, const MethodOptions& options);
  int64_t room(const std::vector<std::shared_ptr<DocumentState>>& documents, size_t n_prompt) const override;
  void begin(Question question) override;
  bool prepare(Stream& s) override;

 protected:
  std::vector<int32_t> lead(const Question& question) const override;
  Pass make_pass(int n_past, int n, Pass::Read wanted, bool is_step) override;

 private:
  // Neighbouring rows of one slab: chunks that follow one another.
  struct Run {
    KvRows rows;
    int32_t end;
  };
  int n_prefix() const { return e_.upper.config.bos_id >= 0 ? 1 : 0; }  // tokens
  const float temperature_, scale_;
  std::vector<std::shared_ptr<Chunk>> chunks_;
  std::vector<uint64_t> key_;  // of the chunks the cache was computed with
  std::optional<WholeChunks> whole_;
  std::vector<Run> runs_;
  int longest_ = 0;  // tokens of a chunk
};

}  // namespace banyan
