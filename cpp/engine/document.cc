#include "engine/document.h"

#include <algorithm>

#include "engine/whole_chunks.h"

namespace banyan {

namespace {

void report(const JobHooks& hooks, uint64_t done, uint64_t total) {
  if (hooks.on_progress) hooks.on_progress(done, total);
}

class DocumentJob : public Job {
 public:
  DocumentJob(std::shared_ptr<DocumentState> document, JobHooks hooks)
      : Job(hooks.cancel), document_(std::move(document)), hooks_(std::move(hooks)) {}
  void finish(const Error* error) override {
    if (hooks_.on_done) hooks_.on_done(error);
  }

 protected:
  Engine& engine() const { return *document_->engine; }
  const std::shared_ptr<DocumentState> document_;
  const JobHooks hooks_;
};

// All or nothing: the new chunks join the document when the last full one has its index.
class AppendJob : public DocumentJob {
 public:
  AppendJob(std::shared_ptr<DocumentState> document, std::vector<int32_t> ids, JobHooks hooks)
      : DocumentJob(std::move(document), std::move(hooks)), ids_(std::move(ids)) {}

  ~AppendJob() override {
    if (has_begun_) document_->is_appending = false;
  }

  bool step() override {
    if (!has_begun_) {
      if (document_->is_appending) throw Error(Code::kInvalidArgument, "another append to this document is still running");
      document_->is_appending = has_begun_ = true;
      cut();
      return false;
    }
    EngineStream s = engine().stream(cancel);
    if (!preparation_) preparation_ = std::make_unique<Preparation>(*document_, full_);
    if (preparation_->step(s)) {
      report(hooks_, preparation_->n_done(), full_.size());
      return false;
    }
    document_->replace_tail(n_kept_, std::move(tail_));
    return true;
  }

 private:
  void cut() {
    const std::vector<std::shared_ptr<Chunk>> old = document_->chunks();
    const auto size = static_cast<size_t>(document_->tree.chunk_size);
    n_kept_ = old.size();
    int64_t begin = old.empty() ? 0 : old.back()->begin + static_cast<int64_t>(old.back()->tokens.size());
    if (!old.empty() && old.back()->tokens.size() < size && !ids_.empty()) {  // the last chunk grows: a new one takes its place
      --n_kept_;
      begin = old.back()->begin;
      ids_.insert(ids_.begin(), old.back()->tokens.begin(), old.back()->tokens.end());
    }
    for (size_t at = 0; at < ids_.size(); at += size) {
      const auto first = ids_.begin() + static_cast<std::ptrdiff_t>(at);
      const auto last = ids_.begin() + static_cast<std::ptrdiff_t>(std::min(at + size, ids_.size()));
      auto chunk = std::make_shared<Chunk>(std::vector<int32_t>(first, last), begin + static_cast<int64_t>(at), document_->tree);
      chunk->mask = document_->mask_of(*chunk);
      tail_.push_back(chunk);
      if (chunk->tokens.size() == size) full_.push_back(chunk);
    }
    ids_ = {};
  }

  std::vector<int32_t> ids_;
  std::vector<std::shared_ptr<Chunk>> tail_, full_;
  std::unique_ptr<Preparation> preparation_;
  size_t n_kept_ = 0;
  bool has_begun_ = false;
};

class CompleteJob : public DocumentJob {
 public:
  CompleteJob(std::shared_ptr<DocumentState> document, bool is_eager, JobHooks hooks)
      : DocumentJob(std::move(document), std::move(hooks)), is_eager_(is_eager) {}

  bool step() override {
    EngineStream s = engine().stream(cancel);
    if (!preparation_) {
      chunks_ = document_->chunks();
      preparation_ = std::make_unique<Preparation>(*document_, chunks_);
    }
    if (preparation_->step(s)) return false;
    // nested: the index has all slots
    if (!is_eager_ || document_->method != Method::kShared || document_->tree.semantics == Semantics::kNested) return true;
    if (nodes_.empty()) {
      for (const auto& chunk : chunks_) {
        for (int node = chunk->tree.depth() == 0 ? 1 : 2; node <= chunk->tree.n_nodes(); ++node) nodes_.push_back({chunk, node, {}});
      }
    }
    if (!encode_next_nodes(engine(), s, nodes_, &next_node_)) return true;
    report(hooks_, next_node_, nodes_.size());
    return false;
  }

 private:
  const bool is_eager_;
  std::vector<std::shared_ptr<Chunk>> chunks_;
  std::unique_ptr<Preparation> preparation_;
  std::vector<NodeRef> nodes_;
  size_t next_node_ = 0;
};

class SaveJob : public DocumentJob {
 public:
  SaveJob(std::shared_ptr<DocumentState> document, std::string path, std::map<std::string, std::string> attributes, JobHooks hooks)
      : DocumentJob(std::move(document), std::move(hooks)), path_(std::move(path)), attributes_(std::move(attributes)) {}

  void finish(const Error* error) override {
    writer_.reset();  // an unfinished temporary file is gone before anybody hears of the failure
    DocumentJob::finish(error);
  }

  bool step() override {
    if (!writer_) {
      EngineStream s = engine().stream(cancel);
      if (!preparation_) {
        chunks_ = document_->chunks();
        preparation_ = std::make_unique<Preparation>(*document_, chunks_);
      }
      if (preparation_->step(s)) return false;
      writer_ = std::make_unique<DocumentWriter>(
          *engine().device, path_, engine().document_shape(document_->tree), DocumentContent{chunks_, attributes_, document_->method});
      return false;
    }
    const bool is_done = writer_->step();
    report(hooks_, writer_->n_done(), writer_->n_total());
    return is_done;
  }

 private:
  const std::string path_;
  const std::map<std::string, std::string> attributes_;
  std::vector<std::shared_ptr<Chunk>> chunks_;
  std::unique_ptr<Preparation> preparation_;
  std::unique_ptr<DocumentWriter> writer_;
};

}  // namespace

bool index_next_chunks(Engine& engine, Stream& s, const std::vector<std::shared_ptr<Chunk>>& chunks, size_t* next) {
  std::vector<std::shared_ptr<Chunk>> batch;
  size_t n_tokens = 0;
  for (; *next < chunks.size() && n_tokens < static_cast<size_t>(engine.batch_rows.encode); ++*next) {
    if (chunks[*next]->is_indexed) continue;
    batch.push_back(chunks[*next]);
    n_tokens += batch.back()->tokens.size();
  }
  if (batch.empty()) return false;
  engine.compressor.index(s, batch);
  return true;
}

bool encode_next_nodes(Engine& engine, Stream& s, const std::vector<NodeRef>& nodes, size_t* next) {
  std::vector<NodeRef> batch;
  size_t n_tokens = 0;
  for (; *next < nodes.size(); ++*next) {
    const NodeRef& ref = nodes[*next];
    if (ref.chunk->slots[static_cast<size_t>(ref.node)].data != nullptr) continue;
    n_tokens += static_cast<size_t>(ref.chunk->tree.span(ref.node).size());
    if (!batch.empty() && n_tokens > static_cast<size_t>(engine.batch_rows.encode)) break;
    batch.push_back(ref);
  }
  if (batch.empty()) return false;
  engine.compressor.encode(s, batch);
  return true;
}

Preparation::Preparation(DocumentState& document, std::vector<std::shared_ptr<Chunk>> chunks)
    : e_(*document.engine), method_(document.method), chunks_(std::move(chunks)) {
  if (method_ != Method::kFocus && method_ != Method::kParallel) return;
  const KvKind kind = method_ == Method::kFocus ? KvKind::kBare : KvKind::kPrefixed;
  std::vector<WholeChunks::Item> items;
  for (const auto& chunk : chunks_) items.push_back({chunk, &document.pool(kind)});
  whole_ = std::make_unique<WholeChunks>(e_, kind, items);
}

Preparation::~Preparation() = default;

bool Preparation::step(Stream& s) {
  bool has_more = false;
  if (whole_) {
    has_more = whole_->step(s);
    n_done_ = chunks_.size() - whole_->n_total() + whole_->n_done();
  } else if (method_ == Method::kShared) {
    has_more = index_next_chunks(e_, s, chunks_, &next_);
    n_done_ = next_;
  }
  return has_more;
}

DocumentState::DocumentState(std::shared_ptr<Engine> engine_in, const TreeConfig& tree, std::optional<Method> method, std::vector<uint8_t> mask)
    : engine(std::move(engine_in)), tree(tree), method(method), mask_(std::move(mask)) {}

DocumentState::DocumentState(std::shared_ptr<Engine> engine_in, const TreeConfig& tree, DocumentContent content)
    : engine(std::move(engine_in)),
      tree(tree),
      method(content.method),
      chunks_(std::move(content.chunks)),
      attributes_(std::move(content.attributes)) {}

DocumentInfo DocumentState::info() const {
  const std::lock_guard lock(mutex_);
  DocumentInfo info;
  info.n_chunks = static_cast<int>(chunks_.size());
  info.chunk_size = tree.chunk_size;
  info.depth = engine->has_adapter() ? tree.depth : 0;
  for (const auto& chunk : chunks_) {
    const size_t n = chunk->tokens.size();
    const int n_kinds = chunk->n_kinds;
    info.n_tokens += static_cast<int64_t>(n);
    info.n_chunks_encoded += n_kinds > 0 ? 1 : 0;
    info.n_bytes += static_cast<uint64_t>(n_kinds) * n * engine->pool_shape.token_bytes();
    if (!engine->has_adapter()) continue;
    // the chunk itself is encoded only if it has no halves; nested: only as a whole
    info.n_nodes += chunk->tree.depth() == 0 || chunk->tree.is_nested() ? 1 : chunk->tree.n_nodes() - 1;
    info.n_nodes_encoded += chunk->n_encoded;
    info.n_slots += chunk->n_slots;
    if (method == Method::kShared) info.n_bytes += engine->compressor.index_bytes(chunk->tree);
  }
  info.n_bytes += static_cast<uint64_t>(info.n_slots) * engine->compressor.slot_bytes();
  return info;
}

int64_t DocumentState::n_tokens() const {
  const std::lock_guard lock(mutex_);
  return chunks_.empty() ? 0 : chunks_.back()->begin + static_cast<int64_t>(chunks_.back()->tokens.size());
}

KvPool& DocumentState::pool(KvKind kind) {
  std::optional<KvPool>& pool = pools_[static_cast<size_t>(kind)];
  if (!pool) pool.emplace(*engine->device, engine->pool_shape, tree.chunk_size, engine->kv_place);
  return *pool;
}

std::vector<int32_t> DocumentState::tokens(int64_t begin, int64_t end) const {
  const std::lock_guard lock(mutex_);
  std::vector<int32_t> ids;
  for (const auto& chunk : chunks_) {
    const auto n = static_cast<int64_t>(chunk->tokens.size());
    const int64_t from = std::clamp<int64_t>(begin - chunk->begin, 0, n), to = std::clamp<int64_t>(end - chunk->begin, from, n);
    ids.insert(ids.end(), chunk->tokens.begin() + from, chunk->tokens.begin() + to);
  }
  return ids;
}

std::string DocumentState::attribute(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = attributes_.find(key);
  return found == attributes_.end() ? std::string() : found->second;
}

std::vector<std::shared_ptr<Chunk>> DocumentState::chunks() const {
  const std::lock_guard lock(mutex_);
  return chunks_;
}

void DocumentState::replace_tail(size_t n_kept, std::vector<std::shared_ptr<Chunk>> tail) {
  const std::lock_guard lock(mutex_);
  chunks_.resize(n_kept);
  chunks_.insert(chunks_.end(), std::make_move_iterator(tail.begin()), std::make_move_iterator(tail.end()));
}

std::vector<uint8_t> DocumentState::mask_of(const Chunk& chunk) const {
  std::vector<uint8_t> part;
  for (size_t i = 0; i < chunk.tokens.size(); ++i) {
    const size_t at = static_cast<size_t>(chunk.begin) + i;
    part.push_back(at < mask_.size() ? mask_[at] : 1);
  }
  return mask_.empty() ? std::vector<uint8_t>() : part;
}

void DocumentState::begin_append(std::vector<int32_t> ids, JobHooks hooks) {
  engine->check_ids(ids);
  engine->scheduler.post(std::make_unique<AppendJob>(shared_from_this(), std::move(ids), std::move(hooks)));
}

void DocumentState::begin_complete(bool is_eager, JobHooks hooks) {
  engine->scheduler.post(std::make_unique<CompleteJob>(shared_from_this(), is_eager, std::move(hooks)));
}

void DocumentState::begin_save(std::string path, std::vector<std::pair<std::string, std::string>> attributes, JobHooks hooks) {
  std::map<std::string, std::string> all;
  {
    const std::lock_guard lock(mutex_);
    all = attributes_;
  }
  for (auto& [key, value] : attributes) all[key] = value;
  engine->scheduler.post(std::make_unique<SaveJob>(shared_from_this(), std::move(path), std::move(all), std::move(hooks)));
}

}  // namespace banyan
