#include "check.h"
#include "make_files.h"
#include "model/safetensors.h"

namespace banyan::test {
namespace {

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

TEST(safetensors_reads) {
  const TempDirectory temp;
  const auto a = make_tensor("a", DType::kF32, {2, 3}), b = make_tensor("b", DType::kBF16, {5}), c = make_tensor("c", DType::kI64, {}),
             d = make_tensor("d", DType::kU8, {0, 7});
  const Safetensors file = read_safetensors(temp.write("m.safetensors", make_safetensors({a, b, c, d}, {{"format", "pt"}, {"x", "y"}})));
  CHECK_EQUAL(file.tensors.size(), 4u);
  CHECK_EQUAL(file.metadata.at("format"), "pt");
  const TensorView& view = file.tensors.at("a");
  CHECK(view.n_dims == 2 && view.shape[0] == 2 && view.shape[1] == 3 && view.dtype == DType::kF32);
  CHECK(std::memcmp(view.data, a.bytes.data(), a.bytes.size()) == 0);
  CHECK(std::memcmp(file.tensors.at("b").data, b.bytes.data(), b.bytes.size()) == 0);
  CHECK(file.tensors.at("c").n_dims == 0 && file.tensors.at("d").n_dims == 2);
}

TEST(safetensors_allows_padding) {
  const TempDirectory temp;
  const std::string header = "{\"a\":" + entry("U8", "[2]", "[8,10]") + ",\"b\":" + entry("U8", "[1]", "[64,65]") + "}   ";
  CHECK_EQUAL(read_safetensors(temp.write("m", raw_safetensors(header, 100))).tensors.size(), 2u);
  CHECK_EQUAL(read_safetensors(temp.write("e", raw_safetensors("{}", 0))).tensors.size(), 0u);
}

TEST(safetensors_refuses) {
  const TempDirectory temp;
  const auto read = [&](const std::string& bytes, Code code = Code::kBadModelFile) { return read_safetensors(temp.write("m", bytes), code); };
  const auto one = [&](const std::string& description, size_t n_data = 16) { return read(raw_safetensors("{\"w\":" + description + "}", n_data)); };
  CHECK_THROWS(kBadModelFile, "shorter than", read(""));
  CHECK_THROWS(kBadModelFile, "shorter than", read("1234567"));
  CHECK_THROWS(kBadModelFile, "does not fit", read(bytes_of<uint64_t>(1) + ""));
  CHECK_THROWS(kBadModelFile, "limit of 100 MB", read(bytes_of<uint64_t>(~uint64_t{0}) + "{}"));
  CHECK_THROWS(kBadModelFile, "no JSON object", read(raw_safetensors("[]", 0)));
  CHECK_THROWS(kBadModelFile, "at byte 8", read(raw_safetensors("", 0)));
  CHECK_THROWS(
      kBadModelFile, "twice", read(raw_safetensors("{\"w\":" + entry("U8", "[1]", "[0,1]") + ",\"w\":" + entry("U8", "[1]", "[1,2]") + "}", 2)));
  CHECK_THROWS(kBadModelFile, "tensor w has no description", one("5"));
  CHECK_THROWS(kBadModelFile, "no dtype", one("{\"shape\":[1],\"data_offsets\":[0,1]}"));
  CHECK_THROWS(kBadModelFile, "no shape", one("{\"dtype\":\"U8\",\"data_offsets\":[0,1]}"));
  CHECK_THROWS(kBadModelFile, "no pair", one("{\"dtype\":\"U8\",\"shape\":[1]}"));
  CHECK_THROWS(kBadModelFile, "no pair", one(entry("U8", "[1]", "[0,1,2]")));
  CHECK_THROWS(kBadModelFile, "unknown dtype", one(entry("X9", "[1]", "[0,1]")));
  CHECK_THROWS(kUnsupportedModel, "tensor w has elements of type F8_E4M3", one(entry("F8_E4M3", "[1]", "[0,1]")));
  CHECK_THROWS(kBadModelFile, "more than 4", one(entry("U8", "[1,1,1,1,1]", "[0,1]")));
  CHECK_THROWS(kBadModelFile, "overflows", one(entry("F32", "[4294967296,4294967296]", "[0,1]")));
  CHECK_THROWS(kBadModelFile, "overflows", one(entry("F32", "[9223372036854775807]", "[0,1]")));
  CHECK_THROWS(kBadModelFile, "a dimension", one(entry("U8", "[-1]", "[0,1]")));
  CHECK_THROWS(kBadModelFile, "a dimension", one(entry("U8", "[1.0]", "[0,1]")));
  CHECK_THROWS(kBadModelFile, "an offset", one(entry("U8", "[1]", "[-1,0]")));
  CHECK_THROWS(kBadModelFile, "outside the data section of 16", one(entry("U8", "[17]", "[0,17]")));
  CHECK_THROWS(kBadModelFile, "outside", one(entry("U8", "[1]", "[9223372036854775806,9223372036854775807]")));
  CHECK_THROWS(kBadModelFile, "outside", one(entry("U8", "[1]", "[2,1]")));
  CHECK_THROWS(kBadModelFile, "has 2 bytes of data but its shape needs 1", one(entry("U8", "[1]", "[0,2]")));
  CHECK_THROWS(
      kBadModelFile, "overlap", read(raw_safetensors("{\"v\":" + entry("U8", "[4]", "[0,4]") + ",\"w\":" + entry("U8", "[4]", "[3,7]") + "}", 8)));
  CHECK_THROWS(kBadModelFile, "__metadata__ key \"a\"", read(raw_safetensors("{\"__metadata__\":{\"a\":1}}", 0)));
  CHECK_THROWS(kBadModelFile, "__metadata__ is no", read(raw_safetensors("{\"__metadata__\":1}", 0)));
  CHECK_THROWS(kBadDocument, "overlap",
      read(raw_safetensors("{\"v\":" + entry("U8", "[1]", "[0,1]") + ",\"w\":" + entry("U8", "[1]", "[0,1]") + "}", 8), Code::kBadDocument));
  CHECK_THROWS(kBadDocument, "F8_E4M3", read(raw_safetensors("{\"v\":" + entry("F8_E4M3", "[1]", "[0,1]") + "}", 8), Code::kBadDocument));
  CHECK_THROWS(kFileNotFound, "nothing", read_safetensors(temp.file("nothing")));
}

}  // namespace
}  // namespace banyan::test
