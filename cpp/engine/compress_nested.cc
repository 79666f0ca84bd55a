// compress_nested: what nested semantics keep of chunks, in one pass over each of them whole: their fine slots and what choosing needs.
#include <algorithm>
#include <numeric>

#include "engine/compress.h"

namespace banyan {

namespace {

// Rows of the batch in rising order, and how they attend.
struct RowList {
  std::vector<int32_t> rows, offsets, begin, end;
  uint64_t n_pairs = 0;
  size_t rows_at = 0, offsets_at = 0, begin_at = 0, end_at = 0;  // in the index table
  int size() const { return static_cast<int>(rows.size()); }
};

// Where each row of `part` lies in `whole`, which has them all.
std::vector<int32_t> places_in(const std::vector<int32_t>& whole, const std::vector<int32_t>& part) {
  std::vector<int32_t> places;
  for (const int32_t row : part) places.push_back(static_cast<int32_t>(std::lower_bound(whole.begin(), whole.end(), row) - whole.begin()));
  return places;
}

void copy_rows(Stream& s, const Buffer& to, const Buffer& from, const int32_t* rows, int n, int width) {
  gather(s, {to.as<float>(), from.as<float>(), DType::kF32, rows, n, width});
}

}  // namespace

// Host arithmetic: which rows hold which tokens, and which of them are read how far.
struct Compressor::WholePass {
  struct Item {
    int row = 0, slot = 0, n_slots = 0;  // its first token's row; its fine slots among the batch's
    std::vector<int32_t> lasts;          // of nodes 2, 3, ...: the row of the last token
  };

  WholePass(const std::vector<std::shared_ptr<Chunk>>& chunks, const TreeConfig& tree) {
    std::vector<int32_t> last_rows;
    for (const auto& chunk : chunks) {
      const SlotPlan fine = chunk->tree.fine();
      Item item{all.size(), firsts.size(), fine.n_slots, {}};
      const int n = chunk->tree.n_tokens();
      ids.insert(ids.end(), chunk->tokens.begin(), chunk->tokens.end());
      for (int i = 0; i < n; ++i) add(all, item.row + i, item.row);
      for (int i = 0; i < n; i += fine.step) {
        add(firsts, item.row + i, item.row);
        group_end.push_back(item.row + std::min(i + fine.step, n));
      }
      if (tree.selection == SelectionRule::kCosine) {
        for (int node = 2; node < 2 + chunk->tree.n_compared(); ++node) item.lasts.push_back(item.row + chunk->tree.span(node).end - 1);
      }
      std::vector<int32_t> own = item.lasts;
      std::sort(own.begin(), own.end());
      own.erase(std::unique(own.begin(), own.end()), own.end());
      for (const int32_t row : own) add(lasts, row, item.row);
      std::vector<int32_t> both;
      const auto own_firsts = firsts.rows.begin() + item.slot;
      std::set_union(own_firsts, firsts.rows.end(), own.begin(), own.end(), std::back_inserter(both));
      for (const int32_t row : both) add(firsts_and_lasts, row, item.row);
      items.push_back(std::move(item));
    }
  }

  std::vector<Item> items;
  std::vector<int32_t> ids, group_end;           // of the fine groups
  RowList all, firsts, lasts, firsts_and_lasts;  // every token; of fine groups; of compared nodes; of both

 private:
  static void add(RowList& list, int row, int chunk_row) {
    list.rows.push_back(row);
    list.offsets.push_back(row - chunk_row);
    list.begin.push_back(chunk_row);
    list.end.push_back(row + 1);
    list.n_pairs += static_cast<uint64_t>(row + 1 - chunk_row);
  }
};

void Compressor::encode_whole(Stream& s, const std::vector<std::shared_ptr<Chunk>>& chunks) {
  WholePass pass(chunks, tree_);
  const int n = pass.all.size(), n_slots = pass.firsts.size(), dim = lower_.config.dim, kv_dim = lower_.kv_dim(), head_dim = lower_.config.head_dim,
            heads = lower_.config.n_kv_heads, n_layers = tree_.n_injected_layers;
  const size_t row = row_bytes(kv_dtype_, kv_dim);
  const bool is_mean = tree_.slot_kind == SlotKind::kMean, wants_keys = tree_.selection == SelectionRule::kTokenKeys;
  const bool wants_vectors = pass.lasts.size() > 0;
  const bool keeps_all = is_mean || (wants_keys && tree_.selection_layer == n_layers - 1);  // layer M-1 reads every token
  a_.reserve(n);
  auto out = std::make_shared<Buffer>(device_, static_cast<size_t>(n_slots) * slot_bytes());
  auto keys = std::make_shared<Buffer>(device_, wants_keys ? static_cast<size_t>(n) * row : 0);
  SlotRows to;
  for (const WholePass::Item& item : pass.items) to.add(2 * n_layers, item.slot, item.n_slots);
  std::vector<int32_t> vector_places, first_vector;  // of each vector among the last tokens; of each chunk
  for (const WholePass::Item& item : pass.items) {
    first_vector.push_back(static_cast<int32_t>(vector_places.size()));
    const std::vector<int32_t> places = places_in(pass.lasts.rows, item.lasts);
    vector_places.insert(vector_places.end(), places.begin(), places.end());
  }
  auto vectors = std::make_shared<Buffer>(device_, vector_places.size() * static_cast<size_t>(dim) * sizeof(float));

  indices_.clear();
  for (RowList* list : {&pass.all, &pass.firsts, &pass.lasts, &pass.firsts_and_lasts}) {
    list->rows_at = indices_.add(list->rows);
    list->offsets_at = indices_.add(list->offsets);
    list->begin_at = indices_.add(list->begin);
    list->end_at = indices_.add(list->end);
  }
  const size_t ids_at = indices_.add(pass.ids), group_end_at = indices_.add(pass.group_end),
               first_places_at = indices_.add(places_in(pass.firsts_and_lasts.rows, pass.firsts.rows)),
               last_places_at = indices_.add(places_in(pass.firsts_and_lasts.rows, pass.lasts.rows)), vectors_at = indices_.add(vector_places),
               to_at = indices_.add(to.first), strides_at = indices_.add(to.strides);
  indices_.upload();
  const int32_t *numbers = indices_.at(pass.all.rows_at), *offsets = indices_.at(pass.all.offsets_at);

  // One side of a layer's slots, from the keys or values of all tokens, or of those that slots begin with.
  const auto write_slots = [&](int side, const Buffer& x, const int32_t* begin, const int32_t* end) {
    compress(s, {out->as<std::byte>(), kv_dtype_, indices_.at(to_at), indices_.at(strides_at), side, x.as<float>(), begin, end, nullptr, nullptr,
                    1.0f, n_slots, heads, head_dim, false});
  };
  const auto thin = [&](int side, const Buffer& all) {
    write_slots(side, all, indices_.at(pass.firsts.rows_at), is_mean ? indices_.at(group_end_at) : nullptr);
  };
  // Token keys head by head, so that a head's keys are one matrix.
  const auto store_keys = [&](const Buffer& rows) {
    for (size_t c = 0; c < chunks.size(); ++c) {
      const auto at = static_cast<size_t>(pass.items[c].row);
      const int n_tokens = chunks[c]->tree.n_tokens();
      store(s, {keys->as<std::byte>() + at * row, kv_dtype_, head_dim, int64_t{n_tokens} * head_dim,
                   rows.as<float>() + at * static_cast<size_t>(kv_dim), numbers, n_tokens, heads, head_dim});
    }
  };
  const auto pick = [&](Buffer& rows, Buffer& spare, const int32_t* which, int count) {
    copy_rows(s, spare, rows, which, count, dim);
    rows.swap(spare);
  };

  embed(s, {a_.x.as<float>(), lower_.weights.embedding, indices_.at(ids_at), n});
  for (int i = 0; i < n_layers; ++i) {
    const Layer layer(lower_, i);
    const bool is_last = i == n_layers - 1, has_vectors = i == 0 && wants_vectors, has_keys = wants_keys && i == tree_.selection_layer;
    if (is_last && !keeps_all && !has_vectors) {  // the layer below has left just the first tokens
      if (i == 0) pick(a_.x, a_.y, indices_.at(pass.firsts.rows_at), n_slots);
      layer.keys_values(s, a_, n_slots);
      write_slots(2 * i, a_.k, numbers, nullptr);
      write_slots(2 * i + 1, a_.v, numbers, nullptr);
      break;
    }
    if (is_last && has_keys && !is_mean) {  // every key, but only the slots' values
      layer.keys(s, a_, n);
      thin(2 * i, a_.k);
      pick(a_.normed, a_.picked, indices_.at(pass.firsts.rows_at), n_slots);
      layer.values(s, a_, n_slots);
      write_slots(2 * i + 1, a_.v, numbers, nullptr);
    } else {
      layer.keys_values(s, a_, n);
      thin(2 * i, a_.k);
      thin(2 * i + 1, a_.v);
    }
    const bool attends = !is_last || has_vectors;
    if (!attends && !has_keys) break;
    if (has_keys && tree_.positions == Positions::kBanded) {  // turned as the memory's, not as attention's
      copy_rows(s, a_.moved, a_.k, numbers, n, kv_dim);
      rope(s, {a_.moved.as<float>(), offsets, lower_.rotation.fast.as<float>(), n, heads, head_dim, lower_.rotation.magnitude,
                  lower_.config.rope.is_interleaved});
      store_keys(a_.moved);
    }
    const bool has_turned_keys = has_keys && tree_.positions == Positions::kSum;
    if (attends || has_turned_keys) layer.rotate_keys(s, a_.k.as<float>(), offsets, n);
    if (has_turned_keys) store_keys(a_.k);
    if (!attends) break;
    const bool keeps_firsts = i == n_layers - 2 && !keeps_all;
    const RowList& kept = is_last ? pass.lasts : !keeps_firsts ? pass.all : has_vectors ? pass.firsts_and_lasts : pass.firsts;
    layer.attention(s, a_, {a_.k.as<float>(), a_.v.as<float>(), DType::kF32, kv_dim, head_dim},
        {kept.size(), &kept == &pass.all ? nullptr : indices_.at(kept.rows_at), indices_.at(kept.offsets_at), indices_.at(kept.begin_at),
            indices_.at(kept.end_at), kept.n_pairs});
    layer.mlp(s, a_, kept.size());
    if (has_vectors) {
      const int n_lasts = pass.lasts.size();
      copy_rows(s, a_.picked, a_.x, is_last ? numbers : indices_.at(keeps_firsts ? last_places_at : pass.lasts.rows_at), n_lasts, dim);
      norm(s, {a_.normed.as<float>(), a_.picked.as<float>(), lower_.weights.final_norm, n_lasts, dim, lower_.config.norm_eps});
      copy_rows(s, *vectors, a_.normed, indices_.at(vectors_at), static_cast<int>(vector_places.size()), dim);
      if (keeps_firsts) pick(a_.x, a_.y, indices_.at(first_places_at), n_slots);
    }
    check_cancelled(s);
  }
  device_.sync();
  check_cancelled(s);

  for (size_t c = 0; c < chunks.size(); ++c) {
    const WholePass::Item& item = pass.items[c];
    Chunk& chunk = *chunks[c];
    chunk.forget_slots(1);
    chunk.set_slots(1, {out->as<std::byte>() + static_cast<size_t>(item.slot) * slot_bytes(), item.n_slots, out});
    if (wants_keys) chunk.token_keys = {keys->as<std::byte>() + static_cast<size_t>(item.row) * row, keys};
    if (wants_vectors) chunk.vectors = {vectors->as<float>() + static_cast<size_t>(first_vector[c]) * static_cast<size_t>(dim), vectors};
  }
}

}  // namespace banyan
