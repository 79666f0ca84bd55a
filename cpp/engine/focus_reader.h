// focus_reader: FocusLLM (arXiv 2408.11745). Every chunk is read with the question behind it; the keys and values of its last token, the candidate, are what the
// local tokens see of it. Candidates are computed anew for every generated token, all chunks in one ragged pass.
#pragma once

#include <optional>

#include "engine/reader.h"
#include "engine/whole_chunks.h"

namespace banyan {

class FocusReader : public CachedReader {
 public:
  // Throws kAdapterMismatch without a FocusLLM adapter, kInvalidArgument for options out of range.
  FocusReader(Engine& engine, const MethodOptions& options);
  int64_t room(const std::vector<std::shared_ptr<DocumentState>>& documents, size_t n_prompt) const override;
  void begin(Question question) override;
  bool prepare(Stream& s) override;
  bool reads_ahead() const override { return !parts_.empty(); }
  void trace(Stream& s, Trace& trace, int n_steps) override;

 protected:
  std::vector<int32_t> lead(const Question& question) const override;
  Pass make_pass(int n_past, int n, Pass::Read wanted, bool is_step) override;
  bool is_current(size_t n_generated) const override;
  bool advance(Stream& s, size_t n_generated) override;

 private:
  // One chunk as this run sees it.
  struct Part {
    std::shared_ptr<Chunk> chunk;
    int n_suffix = 0;  // suffix tokens whose keys and values are kept: ordinary ones
  };
  int n_parts() const { return static_cast<int>(parts_.size()); }
  size_t query_length(size_t n_prompt, int chunk_size) const;
  KvView suffix(int layer) const { return suffix_.layer(e_.pool_shape, layer); }
  void choose_parts();
  void run_parts(Stream& s, std::span<const int> which);
  void turn_candidates(Stream& s);

  const int query_cap_;
  const int refresh_every_;   // tokens; 1: exact
  const int refresh_chunks_;  // 0: all, exact

  std::vector<Part> parts_;
  std::optional<WholeChunks> whole_;
  std::vector<int32_t> tail_;  // the suffix: query and what was generated
  size_t n_query_ = 0;
  KvRows suffix_;  // [L][keys, values][m * n_suffix_rows_]: part i has rows i * n_suffix_rows_ ..
  int n_suffix_rows_ = 0;

  // Candidates [L][keys, values][m, G, C], float32: as computed, before rotation, and as the local tokens see them.
  KvShape candidate_shape_;
  Buffer raw_candidates_, candidates_, asked_;
  IndexTable indices_;
  int64_t n_refreshed_ = -1;  // tokens generated when the candidates were computed; -1: never in this run
  std::vector<int> due_;      // parts still to be run for the tokens so far
  size_t next_due_ = 0;
  std::vector<std::vector<float>> traced_;  // raw candidates of the first two refreshes
};

}  // namespace banyan
