// json: a small strict reader (RFC 8259) for untrusted headers and configurations, and a writer for our own. Integers are exact, duplicate keys,
// invalid UTF-8, lone surrogates and anything after the value are refused; size, depth and number of values are limited.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"

namespace banyan {

struct JsonMember;

struct Json {
  using Array = std::vector<Json>;
  using Object = std::vector<JsonMember>;  // sorted by key
  std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object> value = nullptr;
  size_t offset = 0;  // of its first byte in the text

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value); }
  const bool* boolean() const { return std::get_if<bool>(&value); }
  const int64_t* integer() const { return std::get_if<int64_t>(&value); }  // written without fraction or exponent and in range
  std::optional<double> number() const;                                    // any number, rounded
  const std::string* string() const { return std::get_if<std::string>(&value); }
  const Array* array() const { return std::get_if<Array>(&value); }
  const Object* object() const { return std::get_if<Object>(&value); }
  const Json* find(std::string_view key) const;  // null if absent, or if this is no object
};

struct JsonMember {
  std::string key;
  Json value;
};

struct JsonLimits {
  size_t n_bytes = size_t{100} << 20;
  size_t n_values = 1'000'000;  // a value costs about 50 bytes of memory but as little as 2 bytes of text
  int depth = 32;
};

// Throws Error{damaged}: "<file>: <what> at byte N". `base_offset` is added to N where the text lies inside a file.
Json parse_json(std::string_view text, const std::string& file, Code damaged, size_t base_offset = 0, const JsonLimits& limits = {});

// The members of one object, read with checks. A member that is null counts as absent. Messages name file, key and byte offset.
class JsonKeys {
 public:
  // Throws Error{damaged} if `json` is no object. `prefix` ("encoder_config.") goes before the keys in messages. `json` must outlive this.
  JsonKeys(const Json& json, std::string file, Code damaged, std::string prefix = "");

  const Json* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }
  bool is_null(std::string_view key) const;  // there, and null
  int64_t integer(std::string_view key, int64_t low, int64_t high) const;
  int64_t integer_or(std::string_view key, int64_t low, int64_t high, int64_t fallback) const;
  double number_or(std::string_view key, double fallback) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  std::string string_or(std::string_view key, const std::string& fallback) const;
  std::optional<JsonKeys> object(std::string_view key) const;

  const std::string& file() const { return file_; }
  Code damaged() const { return damaged_; }
  std::string name(std::string_view key) const;  // "config.json: key \"encoder_config.hidden_size\""
  [[noreturn]] void fail(std::string_view key, const std::string& what) const { fail(damaged_, key, what); }
  [[noreturn]] void fail(Code code, std::string_view key, const std::string& what) const;

 private:
  const Json* json_;
  std::string file_, prefix_;
  Code damaged_;
};

// Writes one value piece by piece; commas and escapes are its business, order and balance the caller's. Text that is not UTF-8 throws kInvalidArgument.
class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view text);
  JsonWriter& string(std::string_view text);
  JsonWriter& integer(int64_t value);
  JsonWriter& number(double value);  // shortest text that reads back the same; not finite: null
  JsonWriter& boolean(bool value);
  const std::string& text() const { return text_; }

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  void separate();
  void quote(std::string_view text);
  std::string text_;
  bool needs_comma_ = false;
};

}  // namespace banyan
