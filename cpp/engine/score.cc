#include "engine/score.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "engine/session_job.h"

namespace banyan {

namespace {

// Targets of one slice: a full GEMM tile, and logits of 64 rows of a vocabulary of 128K are 32 MB.
constexpr size_t kPieceTokens = 64;

// ln of the probability of `id`; NaN where the logits are none.
float log_probability(std::span<const float> logits, int32_t id) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(id)]) - largest - std::log(sum));
}

class ScoreJob : public SessionJob {
 public:
  ScoreJob(std::shared_ptr<SessionState> session, ScoreRequest request, ScoreHooks hooks)
      : SessionJob(std::move(session), hooks.cancel), request_(std::move(request)), hooks_(std::move(hooks)), ids_(request_.ids) {}

  void finish(const Error* error) override {
    if (hooks_.on_done) hooks_.on_done(error, result_);
  }

  bool step() override {
    EngineStream s = engine().stream(cancel);
    if (!is_prepared_) {
      is_prepared_ = prepare(s, {{}, request_.ids, request_.query_index, static_cast<int>(request_.targets.size()), false, hooks_.on_progress});
      if (is_prepared_ && hooks_.on_retrieval && !reader().retrieval.nodes.empty()) hooks_.on_retrieval(reader().retrieval);
      return false;
    }
    const bool is_prompt = n_read_ == 0;
    const size_t n_rows = is_prompt ? 1 : ids_.size() - n_read_;
    if (!reader().read(s, ids_, n_rows == 1 ? Pass::Read::kLast : Pass::Read::kAll, !is_prompt && reader().reads_ahead())) return false;
    if (is_prompt) result_.n_cached = reader().n_cached;
    take(reader().logits(s), n_rows);
    n_read_ = ids_.size();
    const size_t n_known = n_read_ - request_.ids.size(), n_left = request_.targets.size() - result_.log_probabilities.size();
    // Every target is scored by the row before it, so the last one is never read.
    const auto next = request_.targets.begin() + static_cast<std::ptrdiff_t>(n_known);
    const size_t piece = reader().reads_ahead() ? 1 : kPieceTokens;
    ids_.insert(ids_.end(), next, next + static_cast<std::ptrdiff_t>(std::min(n_left, piece)));
    return n_left == 0;
  }

 private:
  void take(const std::vector<float>& logits, size_t n_rows) {
    const auto vocabulary = static_cast<size_t>(engine().upper.config.vocab_size);
    for (size_t row = 0; row < n_rows; ++row) {
      const size_t target = result_.log_probabilities.size();
      result_.log_probabilities.push_back(log_probability(std::span(logits).subspan(row * vocabulary, vocabulary), request_.targets[target]));
    }
  }

  const ScoreRequest request_;
  const ScoreHooks hooks_;
  std::vector<int32_t> ids_;  // the prompt, and the targets up to the piece that is read next
  size_t n_read_ = 0;         // of ids_
  bool is_prepared_ = false;
  ScoreResult result_;
};

}  // namespace

std::unique_ptr<Job> make_score_job(std::shared_ptr<SessionState> session, ScoreRequest request, ScoreHooks hooks) {
  return std::make_unique<ScoreJob>(std::move(session), std::move(request), std::move(hooks));
}

}  // namespace banyan
