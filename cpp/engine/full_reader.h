// full_reader: attention to every token of the documents and the prompt, as llama.cpp and its kin do it, with or without scaled positions.
#pragma once

#include <optional>

#include "engine/reader.h"

namespace banyan {

class FullReader : public CachedReader {
 public:
  // Scaling: linear (position interpolation, arXiv 2306.15595), ntk (NTK-aware, a larger base), dynamic (the same, the base fitted to the length that the run
  // may reach), yarn (arXiv 2309.00071). Throws kInvalidArgument where the model's own positions are scaled already.
  FullReader(Engine& engine, const MethodOptions& options);
  int64_t room(const std::vector<std::shared_ptr<DocumentState>>& documents, size_t n_prompt) const override;
  void begin(Question question) override;

 protected:
  std::vector<int32_t> lead(const Question& question) const override;
  Pass make_pass(int n_past, int n, Pass::Read wanted, bool is_step) override;

 private:
  const RopeScaling scaling_;
  const double factor_;
  int64_t fitted_length_ = 0;         // dynamic: what rotation_ was made for
  std::optional<Rotation> rotation_;  // empty: the model's own
};

// The documents' tokens between the prompt's begin-of-text token, if it has one, and the rest of it.
std::vector<int32_t> documents_and_prompt(const Engine& engine, const Question& question);

}  // namespace banyan
