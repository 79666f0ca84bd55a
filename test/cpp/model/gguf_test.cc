#include "check.h"
#include "make_files.h"
#include "model/gguf.h"

namespace banyan::test {
namespace {

std::string string_bytes(const std::string& text) { return bytes_of<uint64_t>(text.size()) + text; }

// A file of `n_tensors` and `n_entries` whose descriptions are given as bytes.
std::string raw_gguf(uint64_t n_tensors, uint64_t n_entries, const std::string& rest, uint32_t version = 3) {
  return "GGUF" + bytes_of(version) + bytes_of(n_tensors) + bytes_of(n_entries) + rest;
}

std::string tensor_info(const std::string& name, const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
  std::string bytes = string_bytes(name) + bytes_of(static_cast<uint32_t>(dims.size()));
  for (const uint64_t n : dims) bytes += bytes_of(n);
  return bytes + bytes_of(type) + bytes_of(offset);
}

// One tensor, padded to byte 256, and `n_data` bytes of data there.
std::string one_tensor(const std::string& info, size_t n_data = 1024) {
  std::string file = raw_gguf(1, 0, info);
  file.resize((file.size() + 31) / 32 * 32 + n_data, '\0');
  return file;
}

TEST(gguf_reads) {
  const TempDirectory temp;
  GgufEntries entries;
  entries.text("s", "h\xC3\xA9").u32("u", 7).u64("big", ~uint64_t{0}).f32("f", 0.5f).boolean("b", true);
  entries.texts("ss", {"", "a", "bc"})
      .f32s("fs", {1, 2})
      .i32s("is", {-1, 5})
      .raw("i8", 1, "\xFF")
      .raw("u16", 2, std::string("\x01\x02", 2))
      .raw("f64", 12, bytes_of(0.25));
  entries.raw("bs", 9, bytes_of<uint32_t>(7) + bytes_of<uint64_t>(2) + std::string("\0\1", 2));
  const auto a = make_tensor("a", DType::kF32, {2, 3}), q = make_tensor("q", DType::kQ6_K, {3, 512}), n = make_tensor("n", DType::kF16, {5});
  for (const uint32_t version : {2u, 3u}) {
    const Gguf gguf = read_gguf(temp.write("m.gguf", make_gguf(entries, {gguf_tensor(a), gguf_tensor(q), gguf_tensor(n)}, version)));
    CHECK_EQUAL(gguf.version, version);
    const auto& data = gguf.metadata;
    CHECK_EQUAL(data.size(), 12u);
    CHECK(std::get<std::string_view>(data.at("s").value) == "h\xC3\xA9");
    CHECK_EQUAL(std::get<int64_t>(data.at("u").value), 7);
    CHECK_EQUAL(std::get<uint64_t>(data.at("big").value), ~uint64_t{0});
    CHECK_EQUAL(std::get<double>(data.at("f").value), 0.5);
    CHECK_EQUAL(std::get<double>(data.at("f64").value), 0.25);
    CHECK(std::get<bool>(data.at("b").value));
    CHECK_EQUAL(std::get<int64_t>(data.at("i8").value), -1);
    CHECK_EQUAL(std::get<int64_t>(data.at("u16").value), 0x201);
    CHECK(gguf_strings(std::get<GgufArray>(data.at("ss").value)) == std::vector<std::string>({"", "a", "bc"}));
    CHECK(gguf_numbers(std::get<GgufArray>(data.at("fs").value)) == std::vector<double>({1, 2}));
    CHECK(gguf_numbers(std::get<GgufArray>(data.at("is").value)) == std::vector<double>({-1, 5}));
    CHECK(gguf_numbers(std::get<GgufArray>(data.at("bs").value)) == std::vector<double>({0, 1}));
    const GgufTensor& tensor = gguf.tensors.at("q");
    CHECK(tensor.is_readable && tensor.type == "Q6_K" && tensor.view.dtype == DType::kQ6_K);
    CHECK(tensor.view.n_dims == 2 && tensor.view.shape[0] == 3 && tensor.view.shape[1] == 512);
    CHECK(std::memcmp(tensor.view.data, q.bytes.data(), q.bytes.size()) == 0);
    CHECK(std::memcmp(gguf.tensors.at("n").view.data, n.bytes.data(), n.bytes.size()) == 0);
  }
}

TEST(gguf_aligns) {
  const TempDirectory temp;
  const auto a = make_tensor("a", DType::kF32, {3}), b = make_tensor("b", DType::kF32, {3});
  for (const uint32_t alignment : {1u, 8u, 64u, 4096u}) {
    GgufEntries entries;
    entries.u32("general.alignment", alignment);
    const Gguf gguf = read_gguf(temp.write("m.gguf", make_gguf(entries, {gguf_tensor(a), gguf_tensor(b)}, 3, alignment)));
    CHECK_EQUAL(gguf.data_begin % alignment, 0u);
    CHECK(std::memcmp(gguf.tensors.at("b").view.data, b.bytes.data(), b.bytes.size()) == 0);
  }
  for (const uint32_t alignment : {0u, 3u, 48u, 1u << 21, 0xFFFFFFFFu}) {
    GgufEntries entries;
    entries.u32("general.alignment", alignment);
    CHECK_THROWS(kBadModelFile, "general.alignment", read_gguf(temp.write("m.gguf", make_gguf(entries, {gguf_tensor(a)}))));
  }
  CHECK_THROWS(kBadModelFile, "general.alignment", read_gguf(temp.write("m.gguf", make_gguf(GgufEntries().text("general.alignment", "32"), {}))));
}

TEST(gguf_of_a_vocabulary_alone) {
  const TempDirectory temp;
  CHECK_EQUAL(read_gguf(temp.write("m.gguf", raw_gguf(0, 1, GgufEntries().u32("a", 1).bytes()))).metadata.size(), 1u);
}

TEST(gguf_refuses_heads) {
  const TempDirectory temp;
  const auto read = [&](const std::string& bytes) { return read_gguf(temp.write("m.gguf", bytes)); };
  CHECK_THROWS(kBadModelFile, "does not begin", read(""));
  CHECK_THROWS(kBadModelFile, "does not begin", read("GGML" + std::string(100, '\0')));
  CHECK_THROWS(kBadModelFile, "ends inside the version", read("GGUF"));
  CHECK_THROWS(kUnsupportedModel, "version 1", read(raw_gguf(0, 0, "", 1)));
  CHECK_THROWS(kUnsupportedModel, "version 4", read(raw_gguf(0, 0, "", 4)));
  CHECK_THROWS(kUnsupportedModel, "big-endian", read(raw_gguf(0, 0, "", 0x03000000)));
  CHECK_THROWS(kBadModelFile, "tensors are more than the limit or do not fit", read(raw_gguf(~uint64_t{0}, 0, "")));
  CHECK_THROWS(kBadModelFile, "tensors are more than the limit or do not fit", read(raw_gguf(5, 0, std::string(100, 'x'))));
  CHECK_THROWS(kBadModelFile, "entries are more than the limit or do not fit", read(raw_gguf(0, uint64_t{1} << 60, std::string(100, 'x'))));
}

TEST(gguf_refuses_entries) {
  const TempDirectory temp;
  const auto entry = [&](const std::string& bytes) { return read_gguf(temp.write("m.gguf", raw_gguf(0, 1, bytes + std::string(16, '\0')))); };
  const auto array = [&](uint32_t type, uint64_t n, const std::string& data) {
    return entry(string_bytes("k") + bytes_of<uint32_t>(9) + bytes_of(type) + bytes_of(n) + data);
  };
  CHECK_THROWS(kBadModelFile, "more than the file has left, at byte 24", entry(bytes_of<uint64_t>(1000) + "k"));
  CHECK_THROWS(kBadModelFile, "more than the file has left", entry(bytes_of(~uint64_t{0}) + "k"));
  CHECK_THROWS(kBadModelFile, "a metadata key has length 0", entry(string_bytes("") + bytes_of<uint32_t>(4) + bytes_of<uint32_t>(4)));
  CHECK_THROWS(
      kBadModelFile, "a metadata key has length 70000", entry(string_bytes(std::string(70000, 'k')) + bytes_of<uint32_t>(4) + bytes_of<uint32_t>(4)));
  CHECK_THROWS(kBadModelFile, "a metadata key is not valid UTF-8, at byte 32", entry(string_bytes("\xFFk") + bytes_of<uint32_t>(4)));
  CHECK_THROWS(kBadModelFile, "the value of k has the unknown type 13", entry(string_bytes("k") + bytes_of<uint32_t>(13)));
  CHECK_THROWS(kBadModelFile, "no boolean but 2", entry(string_bytes("k") + bytes_of<uint32_t>(7) + "\x02"));
  CHECK_THROWS(kBadModelFile, "the value of k is not valid UTF-8", entry(string_bytes("k") + bytes_of<uint32_t>(8) + string_bytes("\xC3")));
  CHECK_THROWS(kBadModelFile, "more strings", array(8, 1000, ""));
  CHECK_THROWS(kBadModelFile, "more than the limit", array(8, uint64_t{1} << 61, ""));
  CHECK_THROWS(kBadModelFile, "more elements", array(12, 1000, ""));
  CHECK_THROWS(kBadModelFile, "more than the file has left", array(8, 2, bytes_of<uint64_t>(1 << 20)));
  CHECK_THROWS(kBadModelFile, "no boolean", array(7, 1, "\x07"));
  CHECK_THROWS(kUnsupportedModel, "array of arrays", array(9, 1, std::string(20, '\0')));
  CHECK_THROWS(kBadModelFile, "unknown type 99", array(99, 1, ""));
  const std::string twin = GgufEntries().u32("k", 1).bytes();
  CHECK_THROWS(kBadModelFile, "key k appears twice", read_gguf(temp.write("m.gguf", raw_gguf(0, 2, twin + twin))));
}

TEST(gguf_refuses_tensors) {
  const TempDirectory temp;
  const auto tensor = [&](const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset = 0, size_t n_data = 1024) {
    return read_gguf(temp.write("m.gguf", one_tensor(tensor_info("w", dims, type, offset), n_data)));
  };
  CHECK_EQUAL(tensor({16, 16}, 0).tensors.size(), 1u);
  CHECK(!tensor({32, 4}, 6).tensors.at("w").is_readable);
  CHECK_EQUAL(tensor({32, 4}, 6).tensors.at("w").type, "Q5_0");
  CHECK_THROWS(kBadModelFile, "0 dimensions", tensor({}, 0));
  CHECK_THROWS(kBadModelFile, "5 dimensions", tensor({1, 1, 1, 1, 1}, 0));
  CHECK_THROWS(kBadModelFile, "empty or overflows", tensor({0}, 0));
  CHECK_THROWS(kBadModelFile, "empty or overflows", tensor({uint64_t{1} << 32, uint64_t{1} << 32}, 0));
  CHECK_THROWS(kBadModelFile, "empty or overflows", tensor({~uint64_t{0}}, 0));
  CHECK_THROWS(kBadModelFile, "overflows", tensor({uint64_t{1} << 62}, 0));
  CHECK_THROWS(kBadModelFile, "outside the data section", tensor({uint64_t{1} << 61}, 0));
  CHECK_THROWS(kUnsupportedModel, "tensor w has the unknown type 200", tensor({32}, 200));
  CHECK_THROWS(kBadModelFile, "no whole number of Q4_0 blocks", tensor({33}, 2));
  CHECK_THROWS(kBadModelFile, "not aligned to 32", tensor({4}, 0, 4));
  CHECK_THROWS(kBadModelFile, "outside the data section of 1024 bytes", tensor({257}, 0));
  CHECK_THROWS(kBadModelFile, "outside", tensor({256}, 0, 32));
  CHECK_THROWS(kBadModelFile, "outside", tensor({1}, 0, uint64_t{1} << 40));
  CHECK_THROWS(kBadModelFile, "outside", tensor({1}, 0, ~uint64_t{31}));
  CHECK_THROWS(kBadModelFile, "a tensor name has length 0", read_gguf(temp.write("m.gguf", one_tensor(tensor_info("", {4}, 0, 0)))));
  std::string two = raw_gguf(2, 0, tensor_info("v", {16}, 0, 0) + tensor_info("w", {16}, 0, 32));
  two.resize(4096, '\0');
  CHECK_THROWS(kBadModelFile, "tensors v and w overlap", read_gguf(temp.write("m.gguf", two)));
  std::string twins = raw_gguf(2, 0, tensor_info("w", {4}, 0, 0) + tensor_info("w", {4}, 0, 32));
  twins.resize(4096, '\0');
  CHECK_THROWS(kBadModelFile, "tensor w appears twice", read_gguf(temp.write("m.gguf", twins)));
  CHECK_THROWS(kBadModelFile, "before its tensor data", read_gguf(temp.write("m.gguf", raw_gguf(1, 0, tensor_info("w", {4}, 0, 0)))));
}

}  // namespace
}  // namespace banyan::test
