#include "engine/whole_chunks.h"

#include <algorithm>

#include "engine/compress.h"

namespace banyan {

const KvRows& shared_prefix(Engine& engine, Stream& s, Upper& upper) {
  if (engine.prefix.slab != nullptr || engine.upper.config.bos_id < 0) return engine.prefix;
  const auto memory = std::make_shared<Buffer>(*engine.device, engine.kv_shape.token_bytes());
  const KvRows rows{memory->as<std::byte>(), 1, 0, memory};
  Pass pass;
  pass.ids = {engine.upper.config.bos_id};
  pass.positions = pass.rows = {0};
  const LayerKv kv = [&](int layer) { return rows.layer(engine.kv_shape, layer); };
  pass.targets.push_back({kv, 0, 1});
  pass.seen.push_back(seen_locally(kv, 1, 0, 0));
  upper.run(s, pass);
  engine.prefix = rows;
  return engine.prefix;
}

WholeChunks::WholeChunks(Engine& engine, KvKind kind, const std::vector<Item>& items) : e_(engine), kind_(kind), upper_(engine) {
  std::copy_if(items.begin(), items.end(), std::back_inserter(items_), [&](const Item& item) { return item.chunk->rows(kind).slab == nullptr; });
}

size_t WholeChunks::n_tokens() const {
  size_t n = 0;
  for (const Item& item : items_) n += item.chunk->tokens.size();
  return n;
}

bool WholeChunks::step(Stream& s) {
  if (next_ == items_.size()) return false;
  const KvRows* prefix = kind_ == KvKind::kPrefixed ? &shared_prefix(e_, s, upper_) : nullptr;
  const bool has_prefix = prefix != nullptr && prefix->slab != nullptr;

  struct Piece {
    KvRows rows;
    size_t begin, end;  // tokens of its chunk
  };
  std::vector<Piece> pieces;
  Pass pass;
  std::vector<int32_t>& ids = pass.ids;
  SeenKeys own;
  const int64_t window = e_.upper.config.sliding_window;
  size_t next = next_;
  while (next < items_.size() && ids.size() < static_cast<size_t>(e_.batch_rows.encode)) {
    const Item& item = items_[next];
    const bool is_begun = next == next_ && rows_.slab != nullptr;
    if (!is_begun && pieces.empty()) item.pool->require(items_.size() - next);
    const KvRows rows = is_begun ? rows_ : item.pool->take();
    if (!pieces.empty() && rows.slab != pieces[0].rows.slab) break;  // one slab a pass; the page is given back
    const size_t begin = is_begun ? n_read_ : 0, n = item.chunk->tokens.size();
    const size_t end = std::min(n, begin + (static_cast<size_t>(e_.batch_rows.encode) - ids.size()));
    for (size_t t = begin; t < end; ++t) {
      const auto offset = static_cast<int32_t>(t);
      pass.positions.push_back(offset + (has_prefix ? 1 : 0));
      pass.rows.push_back(rows.row + offset);
      own.begin.push_back(rows.row + (window > 0 ? static_cast<int32_t>(std::max<int64_t>(0, offset + 1 - window)) : 0));
      own.end.push_back(rows.row + offset + 1);
    }
    ids.insert(
        ids.end(), item.chunk->tokens.begin() + static_cast<std::ptrdiff_t>(begin), item.chunk->tokens.begin() + static_cast<std::ptrdiff_t>(end));
    pieces.push_back({rows, begin, end});
    if (end < n) break;
    ++next;
  }
  own.kv = [&](int layer) { return pieces[0].rows.layer(e_.pool_shape, layer); };
  pass.targets.push_back({own.kv, 0, static_cast<int>(ids.size())});
  pass.seen.push_back(std::move(own));
  if (has_prefix) {
    pass.seen.push_back(SeenKeys::same([&](int layer) { return prefix->layer(e_.kv_shape, layer); }, static_cast<int>(ids.size()), 0, 1));
  }
  upper_.run(s, pass);

  for (const Piece& piece : pieces) {
    const std::shared_ptr<Chunk>& chunk = items_[next_].chunk;
    if (piece.end < chunk->tokens.size()) {
      rows_ = piece.rows;
      n_read_ = piece.end;
      break;
    }
    chunk->set_rows(kind_, piece.rows);
    rows_ = {};
    n_read_ = 0;
    ++next_;
  }
  return true;
}

}  // namespace banyan
