#include "engine/full_reader.h"

#include <algorithm>
#include <iterator>

namespace banyan {

std::vector<int32_t> documents_and_prompt(const Engine& engine, const Question& question) {
  const std::vector<int32_t>& prompt = question.prompt;
  std::vector<int32_t> ids;
  const bool has_bos = engine.upper.config.bos_id >= 0 && prompt.front() == engine.upper.config.bos_id;
  if (has_bos) ids.push_back(prompt.front());
  for (const auto& document : question.documents) {
    for (const auto& chunk : document->chunks()) std::copy(chunk->tokens.begin(), chunk->tokens.end(), std::back_inserter(ids));
  }
  std::copy(prompt.begin() + (has_bos ? 1 : 0), prompt.end(), std::back_inserter(ids));
  return ids;
}

FullReader::FullReader(Engine& engine, const MethodOptions& options)
    : CachedReader(engine), scaling_(options.rope_scaling), factor_(options.rope_factor) {
  const ModelConfig& model = engine.upper.config;
  if (scaling_ == RopeScaling::kNone) return;
  if (model.rope.scaling != RopeScaling::kNone || !model.rope.freq_factors.empty())
    throw Error(Code::kInvalidArgument, "the model's positions are scaled already; they cannot be scaled again");
  if (!(factor_ >= 1 && factor_ <= 1024)) throw Error(Code::kInvalidArgument, "the factor of scaled positions must be from 1 to 1024");
  if (scaling_ == RopeScaling::kDynamicNtk) return;  // made when the length is known
  RopeConfig rope = model.rope;
  rope.scaling = scaling_;
  rope.factor = factor_;
  rope.original_window = model.window;
  rotation_.emplace(*engine.device, rope, model.head_dim);
}

int64_t FullReader::room(const std::vector<std::shared_ptr<DocumentState>>& documents, size_t) const {
  const auto window = static_cast<int64_t>(static_cast<double>(e_.upper.config.window) * (scaling_ == RopeScaling::kNone ? 1.0 : factor_));
  int64_t n = 0;
  for (const auto& document : documents) n += document->n_tokens();
  return window - n;
}

std::vector<int32_t> FullReader::lead(const Question& question) const { return documents_and_prompt(e_, question); }

void FullReader::begin(Question question) {
  CachedReader::begin(std::move(question));
  open_all(0);
  if (scaling_ != RopeScaling::kDynamicNtk) return;
  // The base grows with the length L: theta (factor L / window - (factor - 1))^(C / (C - 2)), i.e. NTK-aware scaling by what stands in the brackets. One base for
  // the whole run: keys of an older base would not fit those of a newer one.
  const ModelConfig& model = e_.upper.config;
  const int64_t length = std::max<int64_t>(model.window, static_cast<int64_t>(sequence_.size()) + question_.max_tokens);
  if (length == fitted_length_) return;
  forget();
  RopeConfig rope = model.rope;
  rope.scaling = RopeScaling::kNtk;
  rope.factor = factor_ * static_cast<double>(length) / static_cast<double>(model.window) - (factor_ - 1);
  rotation_.emplace(*e_.device, rope, model.head_dim);
  fitted_length_ = length;
}

Pass FullReader::make_pass(int n_past, int n, Pass::Read wanted, bool) {
  Pass pass = local_pass(n_past, n, wanted);
  if (rotation_) pass.rotation = &*rotation_;
  return pass;
}

}  // namespace banyan
