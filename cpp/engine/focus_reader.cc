#include "engine/focus_reader.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/compress.h"

namespace banyan {

namespace {

// Rows of one decode step's pass: all chunks together up to here, so that weights are read once a token; more only adds to the activations' memory.
constexpr size_t kStepRows = 4096;

void check_options(const MethodOptions& options) {
  if (options.query_cap < 0) throw Error(Code::kInvalidArgument, "the query cap is negative");
  if (options.refresh_every < 1) throw Error(Code::kInvalidArgument, "candidates must be refreshed every 1 or more tokens");
  if (options.refresh_chunks < 0) throw Error(Code::kInvalidArgument, "the number of chunks to refresh is negative");
}

}  // namespace

FocusReader::FocusReader(Engine& engine, const MethodOptions& options)
    : CachedReader(engine),
      query_cap_(options.query_cap > 0 ? options.query_cap : engine.files->focus.query_cap),
      refresh_every_(options.refresh_every),
      refresh_chunks_(options.refresh_chunks),
      raw_candidates_(*engine.device),
      candidates_(*engine.device),
      asked_(*engine.device),
      indices_(*engine.device) {
  check_options(options);
  candidate_shape_ = {engine.upper.config.n_layers, engine.upper.kv_dim(), engine.upper.config.head_dim, DType::kF32};
}

size_t FocusReader::query_length(size_t n_prompt, int chunk_size) const {
  return std::min({n_prompt, static_cast<size_t>(query_cap_), static_cast<size_t>(chunk_size)});
}

int64_t FocusReader::room(const std::vector<std::shared_ptr<DocumentState>>& documents, size_t n_prompt) const {
  need_chunks(documents, "FocusLLM");
  const ModelConfig& model = e_.upper.config;
  const int64_t window = model.sliding_window > 0 ? std::min(model.window, model.sliding_window) : model.window, n_bos = model.bos_id >= 0 ? 1 : 0;
  int64_t n_chunks = 0, longest = 0;
  int chunk_size = query_cap_;
  for (const auto& document : documents) {
    if (document->n_tokens() == 0) continue;
    const int size = document->tree.chunk_size;
    n_chunks += (document->n_tokens() + size - 1) / size;
    longest = std::max(longest, std::min<int64_t>(document->n_tokens(), size));
    chunk_size = std::min(chunk_size, size);
  }
  const int64_t local = window - n_chunks - n_bos;
  if (n_chunks == 0) return local;
  const auto n_query = static_cast<int64_t>(query_length(n_prompt, chunk_size));
  return std::min(local, window - longest - n_bos - n_query + static_cast<int64_t>(n_prompt));
}

std::vector<int32_t> FocusReader::lead(const Question& question) const { return with_bos(e_.upper.config, question.prompt); }

void FocusReader::begin(Question question) {
  CachedReader::begin(std::move(question));
  const bool had_parts = !parts_.empty();
  parts_.clear();
  std::vector<WholeChunks::Item> items;
  int chunk_size = query_cap_;
  for (const auto& document : question_.documents) {
    for (const auto& chunk : document->chunks()) {
      parts_.push_back({chunk, 0});
      items.push_back({chunk, &document->pool(KvKind::kBare)});
    }
    if (document->n_tokens() > 0) chunk_size = std::min(chunk_size, document->tree.chunk_size);
  }
  if (had_parts || !parts_.empty()) forget();  // the local tokens' keys depend on the candidates
  const std::vector<int32_t>& prompt = question_.prompt;
  tail_ = with_bos(e_.upper.config, std::span(prompt).last(query_length(prompt.size(), chunk_size)));
  n_query_ = tail_.size();
  n_refreshed_ = -1;
  due_.clear();
  next_due_ = 0;
  traced_.clear();
  whole_.emplace(e_, KvKind::kBare, items);
  open_all(1);
}

bool FocusReader::prepare(Stream& s) {
  if (parts_.empty()) return true;
  const Stopwatch watch(encode_ms);
  if (whole_->step(s)) {
    report("encode", whole_->n_done(), whole_->n_total());
    retrieval.n_nodes_encoded = static_cast<int>(whole_->n_done());
    return false;
  }
  // one row more than is kept: the candidate's, which the next token overwrites
  const auto n_rows = static_cast<int>(n_query_) + question_.max_tokens;
  const int64_t n_all = int64_t{n_rows} * n_parts();
  if (n_all > suffix_.n_slab_rows || suffix_.slab == nullptr) {
    suffix_ = {};
    suffix_ = KvPool(*e_.device, e_.pool_shape, static_cast<int>(n_all), e_.kv_place).take();
  }
  n_suffix_rows_ = n_rows;
  const size_t n_bytes = static_cast<size_t>(n_parts()) * candidate_shape_.token_bytes();
  raw_candidates_.reserve(n_bytes);
  candidates_.reserve(n_bytes);
  if (refresh_chunks_ > 0) asked_.reserve(static_cast<size_t>(e_.upper.config.n_layers * e_.upper.q_dim()) * sizeof(float));
  return true;
}

// Which parts the next refresh runs: all, or those whose candidates the last local token of the last pass looked at most.
void FocusReader::choose_parts() {
  const int m = n_parts();
  due_.resize(static_cast<size_t>(m));
  std::iota(due_.begin(), due_.end(), 0);
  next_due_ = 0;
  if (refresh_chunks_ == 0 || refresh_chunks_ >= m || n_refreshed_ < 0) return;

  const ModelConfig& c = e_.upper.config;
  const int group = c.n_heads / c.n_kv_heads, kv_dim = e_.upper.kv_dim();
  const auto count = static_cast<size_t>(m);
  std::vector<float> asked(static_cast<size_t>(c.n_layers * e_.upper.q_dim())), keys(count * static_cast<size_t>(kv_dim));
  std::vector<double> mass(count, 0.0), scores(count);
  e_.device->to_host(asked.data(), asked_.as<float>(), asked.size() * sizeof(float));
  for (int layer = 0; layer < c.n_layers; ++layer) {
    const float* side = candidates_.as<float>() + 2 * static_cast<size_t>(layer) * keys.size();
    e_.device->to_host(keys.data(), side, keys.size() * sizeof(float));
    for (int h = 0; h < c.n_heads; ++h) {
      const float* q = asked.data() + static_cast<size_t>(layer * e_.upper.q_dim() + h * c.head_dim);
      double highest = -1e300, sum = 0;
      for (size_t i = 0; i < count; ++i) {
        const float* k = keys.data() + i * static_cast<size_t>(kv_dim) + static_cast<size_t>(h / group * c.head_dim);
        scores[i] = std::inner_product(q, q + c.head_dim, k, 0.0) / std::sqrt(static_cast<double>(c.head_dim));
        highest = std::max(highest, scores[i]);
      }
      for (double& score : scores) sum += score = std::exp(score - highest);
      for (size_t i = 0; i < count; ++i) mass[i] += scores[i] / sum;
    }
  }
  std::stable_sort(due_.begin(), due_.end(), [&](int a, int b) { return mass[static_cast<size_t>(a)] > mass[static_cast<size_t>(b)]; });
  due_.resize(static_cast<size_t>(refresh_chunks_));
  std::sort(due_.begin(), due_.end());
}

// The suffix tokens that these parts have not seen yet: all but the last as ordinary ones, which are kept, the last as candidate.
void FocusReader::run_parts(Stream& s, std::span<const int> which) {
  const size_t n_tail = tail_.size();
  std::vector<int32_t> ids;
  Pass pass;
  for (const int p : which) {
    const Part& part = parts_[static_cast<size_t>(p)];
    const auto n_chunk = static_cast<int32_t>(part.chunk->tokens.size());
    for (auto j = static_cast<size_t>(part.n_suffix); j + 1 < n_tail; ++j) {
      ids.push_back(tail_[j]);
      pass.positions.push_back(n_chunk + static_cast<int32_t>(j));
      pass.rows.push_back(p * n_suffix_rows_ + static_cast<int32_t>(j));
    }
  }
  auto ordinary = int32_t{0}, candidate = static_cast<int32_t>(ids.size());
  SeenKeys own;
  std::vector<SeenKeys> chunks;
  for (const int p : which) {
    const Part& part = parts_[static_cast<size_t>(p)];
    const auto n_chunk = static_cast<int32_t>(part.chunk->tokens.size()), last = static_cast<int32_t>(n_tail) - 1;
    const KvRows& rows = part.chunk->rows(KvKind::kBare);
    ids.push_back(tail_.back());
    pass.positions.push_back(n_chunk + last);
    pass.rows.push_back(p * n_suffix_rows_ + last);
    pass.candidate_rows.push_back(p);
    if (chunks.empty() || chunks.back().kv(0).k != rows.layer(e_.pool_shape, 0).k) {
      SeenKeys seen;
      seen.kv = [this, rows](int layer) { return rows.layer(e_.pool_shape, layer); };
      seen.first = static_cast<int>(own.begin.size());
      chunks.push_back(std::move(seen));
    }
    for (int32_t j = part.n_suffix; j <= last; ++j) {
      pass.order.push_back(j < last ? ordinary++ : candidate++);
      own.begin.push_back(p * n_suffix_rows_);
      own.end.push_back(p * n_suffix_rows_ + j + 1);
      chunks.back().begin.push_back(rows.row);
      chunks.back().end.push_back(rows.row + n_chunk);
    }
  }
  if (which.size() == 1) pass.order.clear();  // they come in that order
  pass.n_candidates = static_cast<int>(which.size());
  own.kv = [this](int layer) { return suffix(layer); };
  pass.targets.push_back({own.kv, 0, static_cast<int>(ids.size())});
  pass.ids = std::move(ids);
  pass.candidate_kv = [this](int layer) {
    const KvRows all{raw_candidates_.as<std::byte>(), n_parts(), 0, nullptr};
    return all.layer(candidate_shape_, layer);
  };
  pass.seen.push_back(std::move(own));
  for (SeenKeys& seen : chunks) pass.seen.push_back(std::move(seen));
  upper_.run(s, pass);
  for (const int p : which) parts_[static_cast<size_t>(p)].n_suffix = static_cast<int>(n_tail) - 1;
}

// Candidate i stands at position i before the local tokens.
void FocusReader::turn_candidates(Stream& s) {
  const int m = n_parts(), kv_dim = e_.upper.kv_dim();
  std::vector<int32_t> numbers(static_cast<size_t>(m));
  std::iota(numbers.begin(), numbers.end(), 0);
  indices_.clear();
  const size_t at = indices_.add(numbers);
  indices_.upload();
  const size_t side = static_cast<size_t>(m) * static_cast<size_t>(kv_dim);
  for (int i = 0; i < e_.upper.config.n_layers; ++i) {
    const float* raw = raw_candidates_.as<float>() + 2 * static_cast<size_t>(i) * side;
    float* turned = candidates_.as<float>() + 2 * static_cast<size_t>(i) * side;
    for (const size_t offset : {size_t{0}, side}) gather(s, {turned + offset, raw + offset, DType::kF32, indices_.at(at), m, kv_dim});
    Layer(e_.upper, i).rotate_keys(s, turned, indices_.at(at), m);
  }
  e_.device->sync();
  check_cancelled(s);
  if (!question_.is_traced || traced_.size() == 2) return;
  traced_.emplace_back(2 * side * static_cast<size_t>(e_.upper.config.n_layers));
  e_.device->to_host(traced_.back().data(), raw_candidates_.as<float>(), traced_.back().size() * sizeof(float));
}

bool FocusReader::is_current(size_t n_generated) const {
  return parts_.empty() || (n_refreshed_ >= 0 && static_cast<int64_t>(n_generated) - n_refreshed_ < refresh_every_);
}

bool FocusReader::advance(Stream& s, size_t n_generated) {
  if (is_current(n_generated)) return true;
  double ignored = 0;
  const Stopwatch watch(n_generated == 0 ? encode_ms : ignored);
  tail_.resize(n_query_);
  tail_.insert(tail_.end(), sequence_.begin() + static_cast<std::ptrdiff_t>(n_lead_), sequence_.end());
  if (due_.empty()) choose_parts();
  const size_t limit = n_refreshed_ < 0 ? static_cast<size_t>(e_.batch_rows.encode) : kStepRows;
  size_t end = next_due_, n_rows = 0;
  while (end < due_.size()) {
    n_rows += tail_.size() - static_cast<size_t>(parts_[static_cast<size_t>(due_[end])].n_suffix);
    if (end > next_due_ && n_rows > limit) break;
    ++end;
  }
  run_parts(s, std::span(due_).subspan(next_due_, end - next_due_));
  next_due_ = end;
  if (n_generated == 0) report("encode", next_due_, due_.size());
  if (next_due_ < due_.size()) return false;
  turn_candidates(s);
  due_.clear();
  n_refreshed_ = static_cast<int64_t>(n_generated);
  forget();
  return false;
}

Pass FocusReader::make_pass(int n_past, int n, Pass::Read wanted, bool) {
  Pass pass = local_pass(n_past, n, wanted);
  if (!parts_.empty()) {
    const int m = n_parts();
    for (int32_t& position : pass.positions) position += m;
    const KvRows all{candidates_.as<std::byte>(), m, 0, nullptr};
    pass.seen.push_back(SeenKeys::same([this, all](int layer) { return all.layer(candidate_shape_, layer); }, n, 0, m));
    if (refresh_chunks_ > 0 && wanted != Pass::Read::kNothing) pass.asked = asked_.as<float>();
  }
  return pass;
}

void FocusReader::trace(Stream& s, Trace& trace, int) {
  const ModelConfig& c = e_.upper.config;
  const size_t side = static_cast<size_t>(n_parts()) * static_cast<size_t>(e_.upper.kv_dim());
  for (const std::vector<float>& step : traced_) {
    for (size_t at = 0; at < step.size(); at += 2 * side) {
      const auto k = step.begin() + static_cast<std::ptrdiff_t>(at), v = k + static_cast<std::ptrdiff_t>(side);
      trace.candidate_keys.insert(trace.candidate_keys.end(), k, v);
      trace.candidate_values.insert(trace.candidate_values.end(), v, v + static_cast<std::ptrdiff_t>(side));
    }
  }
  const int kv_dim = e_.upper.kv_dim();
  for (int layer = 0; layer < c.n_layers; ++layer) {
    for (int p = 0; p < n_parts(); ++p) {
      const Part& part = parts_[static_cast<size_t>(p)];
      const KvRows& rows = part.chunk->rows(KvKind::kBare);
      const auto n_chunk = static_cast<int>(part.chunk->tokens.size());
      if (layer == 0) trace.chunk_rows.push_back(n_chunk + part.n_suffix);
      const auto copy = [&](const KvView& from, int first, int n) {
        if (n == 0) return;
        std::vector<int32_t> numbers(static_cast<size_t>(n));
        std::iota(numbers.begin(), numbers.end(), first);
        indices_.clear();
        const size_t at = indices_.add(numbers);
        indices_.upload();
        Buffer widened(*e_.device, static_cast<size_t>(n) * static_cast<size_t>(kv_dim) * sizeof(float));
        for (auto& [data, to] : {std::pair<void*, std::vector<float>*>{from.k, &trace.chunk_keys}, {from.v, &trace.chunk_values}}) {
          gather(s, {widened.as<float>(), data, from.dtype, indices_.at(at), n, kv_dim});
          to->resize(to->size() + static_cast<size_t>(n * kv_dim));
          e_.device->to_host(to->data() + to->size() - n * kv_dim, widened.as<float>(), static_cast<size_t>(n * kv_dim) * sizeof(float));
        }
      };
      copy(rows.layer(e_.pool_shape, layer), rows.row, n_chunk);
      copy(suffix(layer), p * n_suffix_rows_, part.n_suffix);
    }
  }
}

}  // namespace banyan
