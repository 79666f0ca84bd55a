#include "engine/document_file.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/json.h"

namespace banyan {

namespace {

constexpr const char* kFormat = "banyan-document";
constexpr const char* kVersion = "2";
constexpr const char* kKvNames[kKvKinds] = {"bare_kv", "prefixed_kv"};
constexpr size_t kChecksumBytes = 16;
constexpr size_t kAlignment = 64;                // of every tensor, so that kernels read the mapping as they read their own memory
constexpr size_t kSliceBytes = size_t{8} << 20;  // a few milliseconds of writing or hashing

std::string text_of(double value) {
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof text, value).ptr);
}

// Everything that decides what slots mean, as header entries; chunk_size is the document's own.
std::map<std::string, std::string> identity(const DocumentShape& shape) {
  const TreeConfig& t = shape.tree;
  static constexpr const char* kSemantics[] = {"released", "corrected", "paper", "nested"};
  return {
      {"format", kFormat},
      {"version", kVersion},
      {"model", shape.fingerprint},
      {"semantics", kSemantics[static_cast<int>(t.semantics)]},
      {"slot_kind", t.slot_kind == SlotKind::kMean ? "mean" : "strided"},
      {"depth", std::to_string(t.depth)},
      {"selection", t.selection == SelectionRule::kTokenKeys ? "token_keys of layer " + std::to_string(t.selection_layer) : "cosine"},
      {"keep", t.keep.is_fraction ? text_of(t.keep.fraction) + " of a node" : std::to_string(t.keep.count)},
      {"injected_layers", std::to_string(t.n_injected_layers)},
      {"kv_type", traits(shape.kv_dtype).name},
      {"kv_pool", traits(shape.pool.dtype).name},
      {"dim", std::to_string(shape.dim)},
      {"kv_dim", std::to_string(shape.kv_dim)},
  };
}

// Of slots and keys in the file: its container knows no blocks, so those are bytes.
DType element_dtype(const DocumentShape& shape) { return traits(shape.kv_dtype).block_size > 1 ? DType::kU8 : shape.kv_dtype; }

size_t padded(size_t n_bytes) { return (n_bytes + kAlignment - 1) / kAlignment * kAlignment; }

size_t n_bytes_of(const TensorView& tensor) {
  int64_t n = 1;
  for (int i = 0; i < tensor.n_dims; ++i) n *= tensor.shape[static_cast<size_t>(i)];
  return row_bytes(tensor.dtype, n);
}

std::array<std::byte, kChecksumBytes> checksum_of(const Hash& hash) {
  std::array<std::byte, kChecksumBytes> bytes{};
  const std::array<uint64_t, 2> digest = hash.digest();
  for (size_t i = 0; i < kChecksumBytes; ++i) bytes[i] = static_cast<std::byte>(digest[i / 8] >> (8 * (i % 8)));
  return bytes;
}

}  // namespace

DocumentWriter::DocumentWriter(Device& device, const std::string& path, const DocumentShape& shape, DocumentContent content)
    : device_(device), shape_(shape), content_(std::move(content)), file_(path) {
  has_kv_.fill(!content_.chunks.empty());
  for (const auto& chunk : content_.chunks) {
    is_indexed_ = is_indexed_ && chunk->is_indexed;
    for (size_t kind = 0; kind < kKvKinds; ++kind) has_kv_[kind] = has_kv_[kind] && chunk->kv[kind].slab != nullptr;
  }
  for (size_t c = 0; c < content_.chunks.size(); ++c) {
    const Chunk& chunk = *content_.chunks[c];
    tokens_.insert(tokens_.end(), chunk.tokens.begin(), chunk.tokens.end());
    n_vectors_ += vector_bytes(chunk) / (static_cast<size_t>(shape_.dim) * sizeof(float));
    for (int node = 1; node <= chunk.tree.n_nodes(); ++node) {
      const NodeSlots& slots = chunk.slots[static_cast<size_t>(node)];
      if (slots.data == nullptr) continue;
      encoded_.emplace_back(c, node);
      n_slots_ += static_cast<size_t>(slots.n_slots);
    }
  }
  n_total_ = n_slots_ * shape_.slot_bytes() + tokens_.size() * key_bytes() + kv_bytes(0) + kv_bytes(1) +
             n_vectors_ * static_cast<size_t>(shape_.dim) * sizeof(float);
}

size_t DocumentWriter::vector_bytes(const Chunk& chunk) const {
  if (!is_indexed_ || shape_.tree.selection != SelectionRule::kCosine) return 0;
  return static_cast<size_t>(chunk.tree.n_compared()) * static_cast<size_t>(shape_.dim) * sizeof(float);
}

std::string DocumentWriter::header() const {
  JsonWriter json;
  json.begin_object().key("__metadata__").begin_object();
  for (const auto& [key, value] : identity(shape_)) json.key(key).string(value);
  json.key("chunk_size").string(std::to_string(shape_.tree.chunk_size));
  json.key("indexed").string(is_indexed_ ? "yes" : "no");
  json.key("method").string(content_.method ? kMethodNames[static_cast<int>(*content_.method)] : "");
  for (const auto& [key, value] : content_.attributes) json.key("attribute." + key).string(value);
  json.end_object();
  size_t at = 0;
  const auto entry = [&](const char* name, const char* dtype, std::vector<size_t> shape, size_t n_bytes) {
    json.key(name).begin_object().key("dtype").string(dtype).key("shape").begin_array();
    for (const size_t n : shape) json.integer(static_cast<int64_t>(n));
    json.end_array()
        .key("data_offsets")
        .begin_array()
        .integer(static_cast<int64_t>(at))
        .integer(static_cast<int64_t>(at + n_bytes))
        .end_array()
        .end_object();
    at += n_bytes;
  };
  // Padding belongs to a tensor of its own: the container allows no holes.
  int n_pads = 0;
  const auto pad = [&] {
    const size_t n = padded(at) - at;
    if (n > 0) entry(("pad" + std::to_string(n_pads++)).c_str(), "U8", {n}, n);
  };
  const DTypeTraits element = traits(element_dtype(shape_));
  const auto n_elements = [&element](size_t n_bytes) { return n_bytes / static_cast<size_t>(element.block_bytes); };
  entry("slots", element.name, {n_elements(n_slots_ * shape_.slot_bytes())}, n_slots_ * shape_.slot_bytes());
  pad();
  entry("keys", element.name, {n_elements(tokens_.size() * key_bytes())}, tokens_.size() * key_bytes());
  pad();
  for (size_t kind = 0; kind < kKvKinds; ++kind) {
    if (has_kv_[kind]) entry(kKvNames[kind], "U8", {kv_bytes(kind)}, kv_bytes(kind));
    pad();
  }
  entry("vectors", "F32", {n_vectors_, static_cast<size_t>(shape_.dim)}, n_vectors_ * static_cast<size_t>(shape_.dim) * sizeof(float));
  entry("tokens", "I32", {tokens_.size()}, tokens_.size() * sizeof(int32_t));
  entry("nodes", "I32", {encoded_.size(), 3}, encoded_.size() * 3 * sizeof(int32_t));
  entry("checksum", "U8", {kChecksumBytes}, kChecksumBytes);
  json.end_object();
  std::string text = json.text();
  text.resize(padded(8 + text.size()) - 8, ' ');
  return text;
}

void DocumentWriter::put(const void* data, size_t n_bytes) {
  if (n_bytes == 0) return;
  file_.write(data, n_bytes);
  hash_.update(data, n_bytes);
}

// What lies where ops read it.
void DocumentWriter::put_from_device(const std::byte* data, size_t n_bytes) {
  if (device_.is_host()) return put(data, n_bytes);
  std::vector<std::byte> slice(std::min(n_bytes, kSliceBytes));
  for (size_t at = 0; at < n_bytes; at += slice.size()) {
    const size_t n = std::min(slice.size(), n_bytes - at);
    device_.to_host(slice.data(), data + at, n);
    put(slice.data(), n);
  }
}

// What header()'s pad() put behind a tensor of n_bytes.
void DocumentWriter::put_padding(size_t n_bytes) {
  const std::vector<std::byte> padding(padded(n_bytes) - n_bytes);
  put(padding.data(), padding.size());
}

// Whole chunks, layer by layer so that the file is one slab; true when all are written.
bool DocumentWriter::put_kv(uint64_t until) {
  const size_t n_chunks = content_.chunks.size(), n_parts = 2 * static_cast<size_t>(shape_.pool.n_layers) * n_chunks;
  for (; next_kind_ < kKvKinds; ++next_kind_, next_part_ = 0) {
    if (!has_kv_[next_kind_]) continue;
    for (; next_part_ < n_parts; ++next_part_) {
      if (n_done_ >= until) return false;
      const Chunk& chunk = *content_.chunks[next_part_ % n_chunks];
      const size_t side = next_part_ / n_chunks, n_bytes = chunk.tokens.size() * shape_.pool.row();
      const KvRows& rows = chunk.kv[next_kind_];
      const KvView view = rows.layer(shape_.pool, static_cast<int>(side / 2));
      put_from_device(static_cast<const std::byte*>(side % 2 == 0 ? view.k : view.v) + static_cast<size_t>(rows.row) * shape_.pool.row(), n_bytes);
      n_done_ += n_bytes;
    }
    put_padding(kv_bytes(next_kind_));
  }
  return true;
}

bool DocumentWriter::step() {
  if (!has_head_) {
    const std::string text = header();
    std::array<unsigned char, 8> length{};
    for (size_t i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(static_cast<uint64_t>(text.size()) >> (8 * i));
    put(length.data(), length.size());
    put(text.data(), text.size());
    has_head_ = true;
    return false;
  }
  const uint64_t until = n_done_ + kSliceBytes;
  while (next_node_ < encoded_.size() && n_done_ < until) {
    const auto& [c, node] = encoded_[next_node_++];
    const NodeSlots& slots = content_.chunks[c]->slots[static_cast<size_t>(node)];
    const size_t n_bytes = static_cast<size_t>(slots.n_slots) * shape_.slot_bytes();
    put_from_device(slots.data, n_bytes);
    n_done_ += n_bytes;
  }
  if (next_node_ < encoded_.size()) return false;
  if (!has_slots_) put_padding(n_slots_ * shape_.slot_bytes());
  has_slots_ = true;
  for (; next_chunk_ < content_.chunks.size() && n_done_ < until; ++next_chunk_) {
    const Chunk& chunk = *content_.chunks[next_chunk_];
    const size_t n_bytes = chunk.tokens.size() * key_bytes();
    put_from_device(chunk.token_keys.data, n_bytes);
    n_done_ += n_bytes;
  }
  if (next_chunk_ < content_.chunks.size()) return false;
  if (!has_keys_) put_padding(tokens_.size() * key_bytes());
  has_keys_ = true;
  if (!put_kv(until)) return false;
  for (; next_vectors_ < content_.chunks.size(); ++next_vectors_) {
    if (n_done_ >= until) return false;
    const Chunk& chunk = *content_.chunks[next_vectors_];
    const size_t n_bytes = vector_bytes(chunk);
    put_from_device(reinterpret_cast<const std::byte*>(chunk.vectors.data), n_bytes);
    n_done_ += n_bytes;
  }
  put(tokens_.data(), tokens_.size() * sizeof(int32_t));
  for (const auto& [c, node] : encoded_) {
    const std::array<int32_t, 3> row{static_cast<int32_t>(c), node, content_.chunks[c]->slots[static_cast<size_t>(node)].n_slots};
    put(row.data(), sizeof row);
  }
  const auto checksum = checksum_of(hash_);
  file_.write(checksum.data(), checksum.size());
  file_.commit();
  return true;
}

DocumentReader::DocumentReader(Device& device, const std::string& path, const DocumentShape& shape)
    : tree(shape.tree), device_(device), file_(std::make_shared<Safetensors>(read_safetensors(path, Code::kBadDocument))), shape_(shape) {
  const auto metadata = [&](const std::string& key) {
    const auto entry = file_->metadata.find(key);
    if (entry == file_->metadata.end()) fail("header entry \"" + key + "\" is missing");
    return entry->second;
  };
  for (const auto& [key, value] : identity(shape)) {
    const std::string found = metadata(key);
    if (found == value) continue;
    if (key == "format" || key == "version") fail("header entry \"" + key + "\" is \"" + found + "\", expected \"" + value + "\"");
    throw Error(Code::kModelMismatch, path + " was made with another model or setting: " + key + " is " + found + " in the file, " + value + " here");
  }
  const std::string size = metadata("chunk_size");
  const auto [size_end, status] = std::from_chars(size.data(), size.data() + size.size(), tree.chunk_size);
  if (status != std::errc() || size_end != size.data() + size.size()) fail("chunk_size is no number");
  try {
    check_chunk_size(tree.chunk_size, tree);
  } catch (const Error& error) { fail(error.what()); }
  n_total_ = file_->file.bytes().size();
  const TensorView& checksum = tensor("checksum", DType::kU8, 1);
  const auto* end = file_->file.bytes().data() + n_total_;
  if (checksum.shape[0] != static_cast<int64_t>(kChecksumBytes) || static_cast<const std::byte*>(checksum.data) + kChecksumBytes != end)
    fail("the checksum does not end the file");
  if (device.is_host()) return;
  for (const char* name : {"slots", "keys", kKvNames[0], kKvNames[1], "vectors"}) {
    const auto found = file_->tensors.find(name);
    if (found != file_->tensors.end()) copies_[name] = std::make_shared<Buffer>(device, n_bytes_of(found->second));
  }
}

// What of bytes [begin, end) of the file ops will read goes to the device.
void DocumentReader::copy_slice(uint64_t begin, uint64_t end) {
  const std::byte* file = file_->file.bytes().data();
  for (const auto& [name, copy] : copies_) {
    const TensorView& tensor = file_->tensors.find(name)->second;
    const auto first = static_cast<uint64_t>(static_cast<const std::byte*>(tensor.data) - file);
    const uint64_t from = std::max(begin, first), to = std::min<uint64_t>(end, first + n_bytes_of(tensor));
    if (from < to) device_.to_device(copy->as<std::byte>() + (from - first), file + from, to - from);
  }
}

DocumentReader::Placed DocumentReader::place(const char* name, const TensorView& tensor) const {
  const auto at = static_cast<size_t>(static_cast<const std::byte*>(tensor.data) - file_->file.bytes().data());
  if (at % kAlignment != 0) fail(std::string("tensor ") + name + " is not aligned");
  const auto found = copies_.find(name);
  if (found == copies_.end()) return {static_cast<const std::byte*>(tensor.data), file_};
  return {found->second->as<std::byte>(), found->second};
}

void DocumentReader::fail(const std::string& what) const { throw Error(Code::kBadDocument, file_->file.path() + ": " + what); }

const TensorView& DocumentReader::tensor(const char* name, DType dtype, int n_dims) const {
  const auto found = file_->tensors.find(name);
  if (found == file_->tensors.end()) fail(std::string("tensor ") + name + " is missing");
  if (found->second.dtype != dtype || found->second.n_dims != n_dims) fail(std::string("tensor ") + name + " has another type or rank");
  return found->second;
}

bool DocumentReader::step() {
  const std::span<const std::byte> bytes = file_->file.bytes();
  const uint64_t end = n_total_ - kChecksumBytes;
  const uint64_t n = std::min<uint64_t>(kSliceBytes, end - n_done_);
  file_->file.read(n_done_, n);
  hash_.update(bytes.data() + n_done_, n);
  copy_slice(n_done_, n_done_ + n);
  n_done_ += n;
  if (n_done_ < end) return false;
  const auto expected = checksum_of(hash_);
  if (std::memcmp(expected.data(), bytes.data() + end, kChecksumBytes) != 0) fail("the checksum does not match: the file is damaged");
  n_done_ = n_total_;
  return true;
}

DocumentContent DocumentReader::take() {
  const TensorView &tokens = tensor("tokens", DType::kI32, 1), &vectors = tensor("vectors", DType::kF32, 2), &nodes = tensor("nodes", DType::kI32, 2),
                   &slots = tensor("slots", element_dtype(shape_), 1), &keys = tensor("keys", element_dtype(shape_), 1);
  const auto* ids = static_cast<const std::byte*>(tokens.data);
  DocumentContent content;
  for (const auto& [key, value] : file_->metadata) {
    if (key.starts_with("attribute.")) content.attributes[key.substr(10)] = value;
  }
  const auto entry = [&](const char* key) {
    const auto found = file_->metadata.find(key);
    return found == file_->metadata.end() ? std::string() : found->second;
  };
  const bool is_indexed = entry("indexed") == "yes";
  const std::string method = entry("method");
  for (size_t i = 0; i < std::size(kMethodNames); ++i) {
    if (method == kMethodNames[i]) content.method = static_cast<Method>(i);
  }
  if (!method.empty() && !content.method) fail("header entry \"method\" is unknown");
  const size_t key_bytes = is_indexed ? shape_.key_bytes() : 0;
  std::array<Placed, kKvKinds> slabs{};
  for (size_t kind = 0; kind < kKvKinds; ++kind) {
    const auto found = file_->tensors.find(kKvNames[kind]);
    if (found == file_->tensors.end()) continue;
    const TensorView& kv = tensor(kKvNames[kind], DType::kU8, 1);
    if (static_cast<size_t>(kv.shape[0]) != static_cast<size_t>(tokens.shape[0]) * shape_.pool.token_bytes())
      fail(std::string("tensor ") + kKvNames[kind] + " has another size");
    slabs[kind] = place(kKvNames[kind], kv);
  }
  const size_t row = static_cast<size_t>(shape_.dim) * sizeof(float);
  if (vectors.shape[1] != shape_.dim || nodes.shape[1] != 3) fail("tensor vectors or nodes has another width");
  if (row_bytes(keys.dtype, keys.shape[0]) != static_cast<size_t>(tokens.shape[0]) * key_bytes) fail("tensor keys has another size");
  const Placed placed_keys = place("keys", keys);
  const std::byte* next_key = placed_keys.data;
  const Placed placed_vectors = place("vectors", vectors);
  size_t next_vector = 0;
  for (int64_t begin = 0; begin < tokens.shape[0]; begin += tree.chunk_size) {
    std::vector<int32_t> chunk_ids(static_cast<size_t>(std::min<int64_t>(tree.chunk_size, tokens.shape[0] - begin)));
    std::memcpy(chunk_ids.data(), ids + static_cast<size_t>(begin) * sizeof(int32_t), chunk_ids.size() * sizeof(int32_t));
    auto chunk = std::make_shared<Chunk>(std::move(chunk_ids), begin, tree);
    const auto count = is_indexed && shape_.tree.selection == SelectionRule::kCosine ? static_cast<size_t>(chunk->tree.n_compared()) : 0;
    if (next_vector + count > static_cast<size_t>(vectors.shape[0])) fail("tensor vectors is too short");
    if (count > 0) chunk->vectors = {reinterpret_cast<const float*>(placed_vectors.data + next_vector * row), placed_vectors.owner};
    next_vector += count;
    if (is_indexed) chunk->token_keys = {next_key, placed_keys.owner};
    next_key += chunk->tokens.size() * key_bytes;
    chunk->is_indexed = is_indexed;
    for (size_t kind = 0; kind < kKvKinds; ++kind) {
      const auto& [slab, owner] = slabs[kind];
      if (slab == nullptr) continue;
      // Nobody writes into a finished chunk.
      chunk->set_rows(static_cast<KvKind>(kind), {const_cast<std::byte*>(slab), tokens.shape[0], static_cast<int32_t>(begin), owner});
    }
    content.chunks.push_back(std::move(chunk));
  }
  const Placed placed_slots = place("slots", slots);
  const std::byte* next = placed_slots.data;
  const std::byte* end = next + row_bytes(slots.dtype, slots.shape[0]);
  for (int64_t i = 0; i < nodes.shape[0]; ++i) {
    std::array<int32_t, 3> entry{};
    std::memcpy(entry.data(), static_cast<const std::byte*>(nodes.data) + static_cast<size_t>(i) * sizeof entry, sizeof entry);
    const auto [c, node, n_slots] = entry;
    if (c < 0 || static_cast<size_t>(c) >= content.chunks.size()) fail("tensor nodes names a chunk that is not there");
    Chunk& chunk = *content.chunks[static_cast<size_t>(c)];
    const bool is_nested = chunk.tree.is_nested();
    if (node < 1 || node > (is_nested ? 1 : chunk.tree.n_nodes()) || n_slots != (is_nested ? chunk.tree.fine() : chunk.tree.slots(node)).n_slots)
      fail("tensor nodes holds an impossible node");
    const size_t n_bytes = static_cast<size_t>(n_slots) * shape_.slot_bytes();
    if (n_bytes > static_cast<size_t>(end - next)) fail("tensor slots is too short");
    if (chunk.slots[static_cast<size_t>(node)].data != nullptr) fail("tensor nodes names a node twice");
    chunk.set_slots(node, {next, n_slots, placed_slots.owner});
    next += n_bytes;
  }
  for (const auto& chunk : content.chunks) {
    if (is_indexed && chunk->tree.is_nested() && chunk->slots[1].data == nullptr) fail("an indexed chunk has no slots");
  }
  return content;
}

}  // namespace banyan
