#include "engine/reader.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace banyan {

namespace {

constexpr int kUsualAnswer = 512;  // tokens

std::vector<int32_t> count_from(int first, int n) {
  std::vector<int32_t> numbers(static_cast<size_t>(n));
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

}  // namespace

std::vector<int32_t> with_bos(const ModelConfig& model, std::span<const int32_t> prompt) {
  std::vector<int32_t> ids;
  if (model.bos_id >= 0 && (prompt.empty() || prompt.front() != model.bos_id)) ids.push_back(model.bos_id);
  ids.insert(ids.end(), prompt.begin(), prompt.end());
  return ids;
}

void need_chunks(const std::vector<std::shared_ptr<DocumentState>>& documents, const char* method) {
  if (documents.empty() || std::any_of(documents.begin(), documents.end(), [](const auto& document) { return document->n_tokens() > 0; })) return;
  throw Error(Code::kEmptyDocument, std::string("the session's documents have no tokens: ") + method + " has nothing to read");
}

void Reader::begin(Question question) {
  question_ = std::move(question);
  retrieval = {};
  select_ms = encode_ms = 0;
  n_cached = 0;
}

void Reader::open_all(int slots_per_chunk) {
  retrieval = {};
  for (size_t d = 0; d < question_.documents.size(); ++d) {
    int index = 0;
    for (const auto& chunk : question_.documents[d]->chunks()) {
      const auto n = static_cast<int64_t>(chunk->tokens.size());
      const int n_slots = slots_per_chunk > 0 ? slots_per_chunk : static_cast<int>(n);
      retrieval.nodes.push_back(
          {static_cast<int>(d), index++, 0, chunk->begin, chunk->begin + n, n_slots, true, std::numeric_limits<float>::quiet_NaN()});
      retrieval.n_slots += n_slots;
    }
  }
}

int64_t CachedReader::room(const std::vector<std::shared_ptr<DocumentState>>&, size_t) const { return e_.upper.config.window; }

void CachedReader::begin(Question question) {
  Reader::begin(std::move(question));
  sequence_ = lead(question_);
  n_lead_ = sequence_.size();
  n_prompt_ = question_.prompt.size();
  has_counted_ = false;
}

void CachedReader::count_cached(int n_past) {
  if (has_counted_) return;
  has_counted_ = true;
  n_found_ = static_cast<size_t>(n_past);
  n_cached = std::max(0, n_past - static_cast<int>(n_lead_ - n_prompt_));  // documents and begin-of-text come first
}

Pass CachedReader::local_pass(int n_past, int n, Pass::Read wanted) const {
  Pass pass;
  pass.ids.assign(sequence_.begin() + n_past, sequence_.begin() + n_past + n);
  pass.positions = pass.rows = count_from(n_past, n);
  const LayerKv kv = [this](int layer) { return cache_.layer(layer); };
  pass.targets.push_back({kv, 0, n});
  pass.seen.push_back(seen_locally(kv, n, n_past, e_.upper.config.sliding_window));
  pass.read = wanted;
  return pass;
}

Pass CachedReader::make_pass(int n_past, int n, Pass::Read wanted, bool) { return local_pass(n_past, n, wanted); }

// Drops what no longer holds of the cache and makes room; the number of tokens that stay.
int CachedReader::make_room(Stream& s) {
  // the last token always runs: its logits are wanted
  const auto ours = std::mismatch(cached_.begin(), cached_.end(), sequence_.begin(), sequence_.end() - 1).first;
  cached_.resize(static_cast<size_t>(ours - cached_.begin()));
  const auto n_past = static_cast<int>(cached_.size()), n_needed = static_cast<int>(sequence_.size());
  // at once with room for an answer of usual length, so that the cache rarely moves
  if (n_needed > cache_.capacity()) cache_.reserve(s, n_needed + std::min(question_.max_tokens, kUsualAnswer), n_past);
  return n_past;
}

std::optional<Pass> CachedReader::join(Stream& s, std::span<const int32_t> ids) {
  follow(ids);
  if (!is_current(ids.size() - n_prompt_)) return std::nullopt;
  const int n_past = make_room(s);
  if (n_past + 1 != static_cast<int>(sequence_.size())) return std::nullopt;
  Pass pass = make_pass(n_past, 1, Pass::Read::kLast, true);
  return can_join(pass) ? std::optional(std::move(pass)) : std::nullopt;
}

void CachedReader::joined() { cached_.push_back(sequence_.back()); }

bool CachedReader::read(Stream& s, std::span<const int32_t> ids, Pass::Read wanted, bool is_step) {
  const size_t n_generated = ids.size() - n_prompt_;
  follow(ids);
  if (!advance(s, n_generated)) return false;
  const int n_past = make_room(s), n_left = static_cast<int>(sequence_.size()) - n_past;
  count_cached(n_past);
  const int n = wanted == Pass::Read::kAll ? n_left : std::min(n_left, e_.batch_rows.prefill);
  const bool is_complete = n == n_left;
  upper_.run(s, make_pass(n_past, n, is_complete ? wanted : Pass::Read::kNothing, is_step));
  cached_.insert(cached_.end(), sequence_.begin() + n_past, sequence_.begin() + n_past + n);
  if (n_generated == 0) report("prefill", cached_.size() - n_found_, sequence_.size() - n_found_);
  n_logits_ = wanted == Pass::Read::kAll ? n : 1;
  return is_complete;
}

}  // namespace banyan
