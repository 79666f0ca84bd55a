#include "engine/parallel_reader.h"

#include <algorithm>
#include <cmath>

namespace banyan {

ParallelReader::ParallelReader(Engine& engine, const MethodOptions& options)
    : CachedReader(engine), temperature_(options.context_temperature), scale_(options.context_scale) {
  if (!(temperature_ > 0 && temperature_ <= 10))
    throw Error(Code::kInvalidArgument, "the temperature of the documents must be above 0 and at most 10");
  if (!(scale_ > 0 && scale_ <= 10)) throw Error(Code::kInvalidArgument, "the scale of the documents must be above 0 and at most 10");
}

int64_t ParallelReader::room(const std::vector<std::shared_ptr<DocumentState>>& documents, size_t) const {
  need_chunks(documents, "parallel encoding");
  int64_t longest = 0;
  for (const auto& document : documents) longest = std::max(longest, std::min<int64_t>(document->n_tokens(), document->tree.chunk_size));
  return e_.upper.config.window - longest - n_prefix();
}

std::vector<int32_t> ParallelReader::lead(const Question& question) const { return with_bos(e_.upper.config, question.prompt); }

void ParallelReader::begin(Question question) {
  CachedReader::begin(std::move(question));
  chunks_.clear();
  std::vector<WholeChunks::Item> items;
  std::vector<uint64_t> key;
  longest_ = 0;
  for (const auto& document : question_.documents) {
    for (const auto& chunk : document->chunks()) {
      chunks_.push_back(chunk);
      items.push_back({chunk, &document->pool(KvKind::kPrefixed)});
      key.push_back(chunk->uid);
      longest_ = std::max(longest_, static_cast<int>(chunk->tokens.size()));
    }
  }
  if (key != key_) forget();
  key_ = std::move(key);
  whole_.emplace(e_, KvKind::kPrefixed, items);
  open_all(0);
}

bool ParallelReader::prepare(Stream& s) {
  const Stopwatch watch(encode_ms);
  if (whole_->step(s)) {
    report("encode", whole_->n_done(), whole_->n_total());
    retrieval.n_nodes_encoded = static_cast<int>(whole_->n_done());
    return false;
  }
  runs_.clear();
  for (const auto& chunk : chunks_) {
    const KvRows& rows = chunk->rows(KvKind::kPrefixed);
    const auto end = rows.row + static_cast<int32_t>(chunk->tokens.size());
    const bool is_next = !runs_.empty() && runs_.back().rows.slab == rows.slab && runs_.back().end == rows.row;
    if (is_next) runs_.back().end = end;
    else runs_.push_back({rows, end});
  }
  return true;
}

Pass ParallelReader::make_pass(int n_past, int n, Pass::Read wanted, bool) {
  Pass pass = local_pass(n_past, n, wanted);
  if (chunks_.empty()) return pass;
  const auto n_blind = static_cast<size_t>(std::max(0, n_prefix() - n_past));  // the shared prefix sees no document
  // the others stand behind the longest chunk, whose first token stands behind the prefix
  for (size_t t = n_blind; t < pass.positions.size(); ++t) pass.positions[t] += longest_;
  SeenKeys local = std::move(pass.seen[0]);
  pass.seen.clear();
  for (const Run& run : runs_) {
    SeenKeys seen = SeenKeys::same([this, run](int layer) { return run.rows.layer(e_.pool_shape, layer); }, n, run.rows.row, run.end);
    std::copy_n(seen.begin.begin(), n_blind, seen.end.begin());
    seen.temperature = temperature_;
    pass.seen.push_back(std::move(seen));
  }
  // What the documents weigh: T ln(sum of e^(score / T)) + ln(scale).
  local.power = temperature_;
  local.bias = std::log(scale_);
  pass.seen.push_back(std::move(local));
  return pass;
}

}  // namespace banyan
