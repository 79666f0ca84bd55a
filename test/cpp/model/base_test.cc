#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "base/aligned.h"
#include "base/decimal.h"
#include "base/half.h"
#include "base/hash.h"
#include "base/huge_pages.h"
#include "base/mapped_file.h"
#include "base/path.h"
#include "base/utf8.h"
#include "check.h"
#include "make_files.h"

namespace banyan::test {
namespace {

uint64_t xxh64(const std::string& text) {
  Hash hash;
  hash.update(text.data(), text.size());
  return hash.digest()[0];
}

TEST(hash_is_xxh64) {  // values of the reference implementation, seed 0
  CHECK_EQUAL(xxh64(""), 0xEF46DB3751D8E999u);
  CHECK_EQUAL(xxh64("a"), 0xD24EC4F1A98C6E5Bu);
  CHECK_EQUAL(xxh64("abc"), 0x44BC2CF5AD770999u);
  CHECK_EQUAL(xxh64("Nobody inspects the spammish repetition"), 0xFBCEA83C8A378BF1u);
}

TEST(hash_streams) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>(i * 7);
  Hash whole;
  whole.update(text.data(), text.size());
  for (const size_t step : {1u, 3u, 31u, 32u, 33u, 64u, 999u}) {
    Hash pieces;
    for (size_t at = 0; at < text.size(); at += step) pieces.update(text.data() + at, std::min(step, text.size() - at));
    CHECK_EQUAL(pieces.hex(), whole.hex());
  }
  CHECK_EQUAL(whole.hex().size(), 32u);
  CHECK(whole.digest()[0] != whole.digest()[1]);
  Hash changed;
  text[500] ^= 1;
  changed.update(text.data(), text.size());
  CHECK(changed.digest()[0] != whole.digest()[0] && changed.digest()[1] != whole.digest()[1]);
  Hash left, right;
  left.update_text("ab"), left.update_text("c");
  right.update_text("a"), right.update_text("bc");
  CHECK(left.hex() != right.hex());
}

TEST(half_round_trips) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = f16_to_f32(static_cast<uint16_t>(bits));
    const bool is_nan = (bits & 0x7C00) == 0x7C00 && (bits & 0x3FF) != 0;
    if (is_nan ? !std::isnan(value) : f32_to_f16(value) != bits) CHECK_EQUAL(f32_to_f16(value), bits);
    const float wide = bf16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(wide) ? !std::isnan(bf16_to_f32(f32_to_bf16(wide))) : f32_to_bf16(wide) != bits) CHECK_EQUAL(f32_to_bf16(wide), bits);
  }
  // independent of the bit tricks: sign * 2^(e-15) * (1 + f/1024)
  for (uint32_t bits = 0x400; bits < 0x7C00; bits += 37) {
    CHECK_EQUAL(
        f16_to_f32(static_cast<uint16_t>(bits)), std::ldexp(1.0f + static_cast<float>(bits & 0x3FF) / 1024.0f, static_cast<int>(bits >> 10) - 15));
  }
}

TEST(half_rounds_to_nearest_even) {
  CHECK_EQUAL(f32_to_f16(65504.0f), 0x7BFF);
  CHECK_EQUAL(f32_to_f16(65519.0f), 0x7BFF);
  CHECK_EQUAL(f32_to_f16(65520.0f), 0x7C00);
  CHECK_EQUAL(f32_to_f16(1.0f + 0x1p-11f), 0x3C00);
  CHECK_EQUAL(f32_to_f16(1.0f + 3 * 0x1p-11f), 0x3C02);
  CHECK_EQUAL(f32_to_f16(0x1p-24f), 0x0001);
  CHECK_EQUAL(f32_to_f16(0x1p-25f), 0x0000);
  CHECK_EQUAL(f32_to_f16(std::nextafter(0x1p-25f, 1.0f)), 0x0001);
  CHECK_EQUAL(f32_to_f16(-std::numeric_limits<float>::infinity()), 0xFC00);
  CHECK_EQUAL(f32_to_f16(-0.0f), 0x8000);
  CHECK_EQUAL(f32_to_bf16(1.0f + 0x1p-8f), 0x3F80);
  CHECK_EQUAL(f32_to_bf16(1.0f + 3 * 0x1p-8f), 0x3F82);
  CHECK_EQUAL(f32_to_bf16(std::numeric_limits<float>::max()), 0x7F80);
}

TEST(utf8_is_checked) {
  for (const char* good : {"", "abc", "\xC3\xA9", "\xE2\x96\x81", "\xED\x9F\xBF", "\xEE\x80\x80", "\xF0\x9F\x8C\xB3", "\xF4\x8F\xBF\xBF"})
    CHECK(is_valid_utf8(good));
  for (const char* bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xC3", "\xC3(", "\xE0\x80\x80", "\xED\xA0\x80", "\xE2\x96", "\xF0\x80\x80\x80",
           "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "a\xC3\xA9\xA9"}) {
    CHECK(!is_valid_utf8(bad));
  }
  CHECK_EQUAL(find_invalid_utf8("ab\xFF"), 2u);
}

TEST(decimal_reads_and_writes) {
  CHECK(parse_decimal("0.25") == 0.25);
  CHECK(parse_decimal("-1e-05") == -1e-5);
  CHECK(parse_decimal("+.5") == 0.5);
  CHECK(parse_decimal("1.") == 1.0);
  for (const char* bad : {"", ".", "-", "1e", "1e+", "0x10", "nan", "inf", "1 ", " 1", "1e999", "1,5"}) CHECK(!parse_decimal(bad));
  for (const double value : {0.0, 0.1, 1.0 / 3.0, 1e-300, 123456789.0, -2.5e17}) CHECK(parse_decimal(to_decimal(value)) == value);
  CHECK_EQUAL(to_decimal(0.1), "0.1");
}

TEST(paths_stay_inside) {
  for (const char* good : {"model-00001-of-00002.safetensors", "a", "..a", "\xC3\xA9"}) CHECK(is_plain_file_name(good));
  for (const char* bad : {"", ".", "..", "../a", "a/b", "/a", "a\\b", "C:a", "a\nb"}) CHECK(!is_plain_file_name(bad));
  CHECK(!is_plain_file_name(std::string("a\0b", 3)));
  CHECK_EQUAL(join_path("a/", "b"), "a/b");
  CHECK_EQUAL(join_path("a", "b"), "a/b");
  CHECK_EQUAL(parent_path("a/b"), "a");
  CHECK_EQUAL(parent_path("b"), ".");
  CHECK_EQUAL(parent_path("/b"), "/");
}

TEST(aligned_memory) {  // that there may be none: ops/device_test.cc
  for (size_t n_bytes : {size_t{0}, size_t{1}, size_t{100}, (size_t{4} << 20) - 1, size_t{4} << 20, (size_t{4} << 20) + 1, (size_t{17} << 20) + 5}) {
    const AlignedBytes bytes(n_bytes);
    CHECK_EQUAL(bytes.size(), n_bytes);
    CHECK_EQUAL(reinterpret_cast<uintptr_t>(bytes.data()) % 64, 0u);
    if (n_bytes >= 2 * kHugePageBytes && kHugePageBytes != 0) CHECK_EQUAL(reinterpret_cast<uintptr_t>(bytes.data()) % kHugePageBytes, 0u);
    std::memset(bytes.data(), 1, n_bytes);  // for the sanitizers
  }
}

TEST(mapped_file_maps) {
  const TempDirectory temp;
  const std::string path = temp.write("\xC3\xA9t\xC3\xA9.bin", "hello");
  MappedFile file(path);
  CHECK_EQUAL(file.bytes().size(), 5u);
  CHECK(std::memcmp(file.bytes().data(), "hello", 5) == 0);
  const std::byte* data = file.bytes().data();
  MappedFile moved(std::move(file));
  CHECK(moved.bytes().data() == data && file.bytes().empty());
  MappedFile other(temp.write("other", "x"));
  other = std::move(moved);
  CHECK(other.bytes().data() == data && other.path() == path);
  CHECK(MappedFile(temp.write("empty", "")).bytes().empty());
}

TEST(mapped_file_reads) {
  const TempDirectory temp;
  const std::string path = temp.write("long", std::string(size_t{1} << 20, 'x'));
  const MappedFile file(path);
  for (const size_t at : {size_t{0}, size_t{64} << 10}) {
    for (const size_t n_bytes : {size_t{0}, size_t{1}, file.bytes().size() - at}) file.read(at, n_bytes);
  }
  CHECK(file.bytes()[file.bytes().size() - 1] == std::byte{'x'});
#ifdef __linux__
  // A file that became shorter is an error of its own where the system can tell. Emulators take any advice.
  void* const memory = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (madvise(memory, 4096, 22) == 0 && madvise(memory, 4096, 9999) != 0) {
    std::filesystem::resize_file(path, 100);
    CHECK_THROWS(kIo, "cannot be read", file.read(0, file.bytes().size()));
    file.read(0, 100);
  }
  munmap(memory, 4096);
#endif
}

TEST(mapped_file_says_why) {
  const TempDirectory temp;
  CHECK_THROWS(kFileNotFound, "missing", MappedFile(temp.file("missing")));
  CHECK_THROWS(kFileNotFound, "below", MappedFile(temp.write("file", "x") + "/below"));
  CHECK_THROWS(kIo, "is a directory", MappedFile(temp.path()));
  CHECK_THROWS(kFileNotFound, "", MappedFile(""));
  CHECK_THROWS(kFileNotFound, "", MappedFile(std::string("a\0b", 3)));
}

}  // namespace
}  // namespace banyan::test
