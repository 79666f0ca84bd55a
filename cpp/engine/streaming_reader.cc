#include "engine/streaming_reader.h"

#include <algorithm>
#include <limits>

#include "engine/full_reader.h"

namespace banyan {

namespace {

constexpr int kPieceTokens = 256;  // of one slice, as in CachedReader

int checked_window(const Engine& engine, const MethodOptions& options) {
  const int64_t largest = engine.upper.config.window, window = options.window > 0 ? options.window : std::min<int64_t>(largest, 1 << 20);
  if (options.n_sinks < 0) throw Error(Code::kInvalidArgument, "the number of attention sinks is negative");
  if (options.window < 0) throw Error(Code::kInvalidArgument, "the window is negative");
  if (window > largest)
    throw Error(Code::kInvalidArgument, "the window of " + std::to_string(window) + " tokens is larger than the model's, " + std::to_string(largest));
  if (window <= options.n_sinks) throw Error(Code::kInvalidArgument, "the window must be larger than the number of attention sinks");
  return static_cast<int>(window);
}

}  // namespace

StreamingReader::StreamingReader(Engine& engine, const MethodOptions& options)
    : CachedReader(engine), n_sinks_(options.n_sinks), window_(checked_window(engine, options)) {}

int64_t StreamingReader::room(const std::vector<std::shared_ptr<DocumentState>>& documents, size_t) const {
  int64_t n = 0;
  for (const auto& document : documents) n += document->n_tokens();
  return std::numeric_limits<int32_t>::max() - n;  // rotations are 32-bit
}

std::vector<int32_t> StreamingReader::lead(const Question& question) const { return documents_and_prompt(e_, question); }

void StreamingReader::forget() {
  CachedReader::forget();
  n_dropped_ = 0;
}

void StreamingReader::begin(Question question) {
  CachedReader::begin(std::move(question));
  open_all(0);
}

// Makes room for n tokens: drops what none of them sees and moves the rest of the window to the front.
void StreamingReader::slide(Stream& s, int n_past, int n) {
  const auto n_all = static_cast<int64_t>(n_lead_) + question_.max_tokens;  // the window may never fill
  cache_.reserve(s, static_cast<int>(std::min<int64_t>(n_sinks_ + window_ + kPieceTokens, n_all)), row_of(n_past));
  if (n_past <= n_sinks_ || row_of(n_past) + n <= cache_.capacity()) return;
  const int kept = std::min(n_past - n_sinks_ - n_dropped_, window_ - n_sinks_), first = row_of(n_past - kept);
  cache_.move(s, first, n_sinks_, kept);
  n_dropped_ += first - n_sinks_;
}

bool StreamingReader::read(Stream& s, std::span<const int32_t> ids, Pass::Read wanted, bool) {
  const size_t n_generated = ids.size() - n_prompt_;
  follow(ids);
  const auto ours = std::mismatch(cached_.begin(), cached_.end(), sequence_.begin(), sequence_.end() - 1).first;
  const auto n_same = static_cast<int>(ours - cached_.begin());
  // what a token at n_same sees must still be there
  if (n_dropped_ > 0 && n_same - (window_ - n_sinks_) + 1 < n_sinks_ + n_dropped_) forget();
  else cached_.resize(static_cast<size_t>(n_same));
  count_cached(static_cast<int>(cached_.size()));
  const auto n_past = static_cast<int>(cached_.size()), n_left = static_cast<int>(sequence_.size()) - n_past;
  const int n = std::min(n_left, kPieceTokens);
  const bool is_complete = n == n_left;
  // a slide that is cut short leaves rows that no longer are what cached_ says
  const std::vector<int32_t> known = std::move(cached_);
  cached_.clear();
  try {
    slide(s, n_past, n);
    check_cancelled(s);
  } catch (const Error&) {
    forget();
    throw;
  }
  cached_ = known;

  // A query stands at the cache's last place, min(position, window - 1): to the tokens of the window its distance is the text's, to the sinks it is that place.
  Pass pass;
  pass.ids.assign(sequence_.begin() + n_past, sequence_.begin() + n_past + n);
  pass.read = is_complete ? wanted : Pass::Read::kNothing;
  SeenKeys recent, sinks;
  recent.kv = sinks.kv = [this](int layer) { return cache_.layer(layer); };
  pass.targets.push_back({recent.kv, 0, n});
  for (int p = n_past; p < n_past + n; ++p) {
    pass.positions.push_back(p);
    pass.rows.push_back(row_of(p));
    recent.begin.push_back(row_of(std::max(n_sinks_, p - (window_ - n_sinks_) + 1)));
    recent.end.push_back(p < n_sinks_ ? recent.begin.back() : row_of(p) + 1);
    sinks.begin.push_back(0);
    sinks.end.push_back(std::min(n_sinks_, p + 1));
    sinks.positions.push_back(std::min(p, window_ - 1));
  }
  pass.seen.push_back(std::move(recent));
  if (n_sinks_ > 0) pass.seen.push_back(std::move(sinks));
  upper_.run(s, pass);
  cached_.insert(cached_.end(), sequence_.begin() + n_past, sequence_.begin() + n_past + n);
  if (n_generated == 0) report("prefill", cached_.size() - n_found_, sequence_.size() - n_found_);
  n_logits_ = wanted == Pass::Read::kAll ? n : 1;
  return is_complete;
}

}  // namespace banyan
