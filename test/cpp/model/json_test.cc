#include <limits>

#include "base/json.h"
#include "check.h"

namespace banyan::test {
namespace {

Json parse(const std::string& text) { return parse_json(text, "f", Code::kBadModelFile); }

TEST(json_reads_values) {
  CHECK(parse(" null\t").is_null());
  CHECK(*parse("true").boolean() && !*parse("false").boolean());
  CHECK_EQUAL(*parse("-0").integer(), 0);
  CHECK_EQUAL(*parse("9223372036854775807").integer(), std::numeric_limits<int64_t>::max());
  CHECK_EQUAL(*parse("-9223372036854775808").integer(), std::numeric_limits<int64_t>::min());
  CHECK(parse("9223372036854775808").integer() == nullptr);
  CHECK_EQUAL(*parse("9223372036854775808").number(), 9223372036854775808.0);
  CHECK(parse("1.0").integer() == nullptr && parse("1e0").integer() == nullptr);
  CHECK_EQUAL(*parse("-1.5e+2").number(), -150.0);
  CHECK_EQUAL(*parse("7").number(), 7.0);
  CHECK_EQUAL(parse("[1,[],{}]").array()->size(), 3u);
  const Json object = parse("{\"b\":1,\"a\":{\"\":2}}");
  CHECK_EQUAL(*object.find("b")->integer(), 1);
  CHECK_EQUAL(*object.find("a")->find("")->integer(), 2);
  CHECK(object.find("c") == nullptr && parse("[]").find("a") == nullptr);
}

TEST(json_reads_strings) {
  CHECK_EQUAL(*parse(R"("a\"\\\/\b\f\n\r\t\u0041\u00e9\u2581\ud83c\udf33")").string(), "a\"\\/\b\f\n\r\tA\xC3\xA9\xE2\x96\x81\xF0\x9F\x8C\xB3");
  CHECK_EQUAL(*parse("\"\xC3\xA9\"").string(), "\xC3\xA9");
  CHECK_EQUAL(parse(R"("\u0000")").string()->size(), 1u);
  CHECK_EQUAL(parse("\"\"").string()->size(), 0u);
}

TEST(json_refuses) {
  const std::pair<const char*, const char*> kBad[] = {
      {"", "ends where a value"},
      {"  ", "byte 2"},
      {"{", "no key"},
      {"[", "ends where a value"},
      {"[1,]", "no value"},
      {"[1 2]", "no ']'"},
      {"{\"a\":1,}", "no key"},
      {"{\"a\" 1}", "no ':'"},
      {"{a:1}", "no key"},
      {"{\"a\":1,\"b\":2,\"a\":3}", "\"a\" twice, again at byte 17"},
      {"01", "leading zero"},
      {"-", "ends where"},
      {"+1", "no value"},
      {".5", "no value"},
      {"1.", "after the point"},
      {"1e", "exponent"},
      {"1e999", "out of range"},
      {"tru", "unknown word"},
      {"NaN", "no value"},
      {"Infinity", "no value"},
      {"nul", "unknown word"},
      {"1 1", "follows"},
      {"\"a", "does not end at byte 0"},
      {"\"\n\"", "control"},
      {"\"\\x\"", "unknown escape"},
      {"\"\\u12g4\"", "four hex"},
      {"\"\\ud800\"", "lone surrogate"},
      {"\"\\udc00\"", "lone surrogate"},
      {"\"\\ud800\\u0041\"", "lone"},
      {"\"\xFF\"", "not valid UTF-8 at byte 1"},
      {"'a'", "no value"},
      {"/*c*/1", "no value"},
      {"\xEF\xBB\xBF{}", "no value"},
      {"\"\\", "unknown escape"},
      {"\"\\u00", "four hex"},
      {"]", "no value"},
  };
  for (const auto& [text, part] : kBad) CHECK_THROWS(kBadModelFile, part, parse(text));
  CHECK_THROWS(kBadModelFile, "follows", parse(std::string("1\0", 2)));
}

TEST(json_has_limits) {
  CHECK_EQUAL(parse(std::string(32, '[') + std::string(32, ']')).array()->size(), 1u);
  CHECK_THROWS(kBadModelFile, "nested deeper", parse(std::string(34, '[') + std::string(34, ']')));
  CHECK_THROWS(kBadModelFile, "nested deeper", parse(std::string(1000000, '[')));
  CHECK_THROWS(kBadModelFile, "nested deeper", parse([] {
    std::string text;
    for (int i = 0; i < 100; ++i) text += "{\"a\":";
    return text;
  }()));
  CHECK_THROWS(kBadDocument, "more than 3 values", parse_json("[1,2,3]", "f", Code::kBadDocument, 0, {.n_values = 3}));
  CHECK_THROWS(kBadDocument, "more than the limit of 3", parse_json("[1,2]", "f", Code::kBadDocument, 0, {.n_bytes = 3}));
  CHECK_THROWS(kBadModelFile, "byte 108", parse_json("        x", "f", Code::kBadModelFile, 100));
}

TEST(json_keys_check) {
  const Json json = parse(R"({"i":5,"d":0.5,"s":"x","b":true,"n":null,"o":{"i":1}})");
  const JsonKeys keys(json, "c.json", Code::kBadAdapter);
  CHECK_EQUAL(keys.integer("i", 0, 9), 5);
  CHECK_EQUAL(keys.integer_or("n", 0, 9, 7), 7);
  CHECK_EQUAL(keys.number_or("i", 0), 5.0);
  CHECK_EQUAL(keys.number_or("d", 0), 0.5);
  CHECK(keys.boolean_or("b", false) && keys.boolean_or("x", true));
  CHECK_EQUAL(keys.string_or("s", ""), "x");
  CHECK(!keys.has("n") && keys.is_null("n") && !keys.is_null("x") && !keys.is_null("i"));
  CHECK_EQUAL(keys.object("o")->integer("i", 0, 9), 1);
  CHECK(!keys.object("x"));
  CHECK_THROWS(kBadAdapter, "c.json: key \"i\" must be from 6 to 9 but is 5, at byte 5", keys.integer("i", 6, 9));
  CHECK_THROWS(kBadAdapter, "\"x\" is missing", keys.integer("x", 0, 9));
  CHECK_THROWS(kBadAdapter, "must be an integer", keys.integer("d", 0, 9));
  CHECK_THROWS(kBadAdapter, "must be a number", keys.number_or("s", 0));
  CHECK_THROWS(kBadAdapter, "true or false", keys.boolean_or("i", false));
  CHECK_THROWS(kBadAdapter, "must be a string", keys.string_or("i", ""));
  CHECK_THROWS(kBadAdapter, "key \"s\" must be an object", keys.object("s"));
  CHECK_THROWS(kBadAdapter, "key \"o.x\" is missing", keys.object("o")->integer("x", 0, 9));
  CHECK_THROWS(kBadModelFile, "must be an object", JsonKeys(parse("[]"), "c.json", Code::kBadModelFile));
}

TEST(json_writes) {
  JsonWriter writer;
  writer.begin_object()
      .key("a")
      .begin_array()
      .integer(-1)
      .number(0.1)
      .boolean(true)
      .string("x\"\\\n\x01\xC3\xA9")
      .end_array()
      .key("o")
      .begin_object()
      .end_object();
  writer.key("n").number(std::numeric_limits<double>::infinity()).end_object();
  CHECK_EQUAL(writer.text(), "{\"a\":[-1,0.1,true,\"x\\\"\\\\\\u000a\\u0001\xC3\xA9\"],\"o\":{},\"n\":null}");
  const Json json = parse(writer.text());
  CHECK_EQUAL(*(*json.find("a")->array())[3].string(), "x\"\\\n\x01\xC3\xA9");
  CHECK_THROWS(kInvalidArgument, "UTF-8", JsonWriter().string("\xFF"));
}

}  // namespace
}  // namespace banyan::test
