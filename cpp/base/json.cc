#include "base/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "base/decimal.h"
#include "base/utf8.h"

namespace banyan {
namespace {

class Parser {
 public:
  Parser(std::string_view text, const std::string& file, Code damaged, size_t base_offset, const JsonLimits& limits)
      : text_(text), file_(file), damaged_(damaged), base_offset_(base_offset), limits_(limits) {}

  Json parse() {
    if (text_.size() > limits_.n_bytes) {
      fail(0, std::to_string(text_.size()) + " bytes of JSON, more than the limit of " + std::to_string(limits_.n_bytes));
    }
    if (const size_t bad = find_invalid_utf8(text_); bad != std::string_view::npos) fail(bad, "JSON is not valid UTF-8");
    skip_space();
    Json json = value(0);
    skip_space();
    if (at_ != text_.size()) fail(at_, "something follows the JSON value");
    return json;
  }

 private:
  [[noreturn]] void fail(size_t offset, const std::string& what) const {
    throw Error(damaged_, file_ + ": " + what + " at byte " + std::to_string(base_offset_ + offset));
  }

  bool at_end() const { return at_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }

  void skip_space() {
    while (!at_end() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) ++at_;
  }

  void expect(char c) {
    if (at_end()) fail(at_, std::string("JSON ends where '") + c + "' should be");
    if (text_[at_] != c) fail(at_, std::string("JSON has no '") + c + "'");
    ++at_;
  }

  Json value(int depth) {
    if (depth > limits_.depth) fail(at_, "JSON is nested deeper than " + std::to_string(limits_.depth));
    if (++n_values_ > limits_.n_values) fail(at_, "JSON has more than " + std::to_string(limits_.n_values) + " values");
    Json json;
    json.offset = base_offset_ + at_;
    switch (peek()) {
      case '{': json.value = object(depth); break;
      case '[': json.value = array(depth); break;
      case '"': json.value = string(); break;
      case 't':
        word("true");
        json.value = true;
        break;
      case 'f':
        word("false");
        json.value = false;
        break;
      case 'n': word("null"); break;
      default: number(json); break;
    }
    return json;
  }

  void word(std::string_view expected) {
    if (text_.substr(at_, expected.size()) != expected) fail(at_, "JSON has an unknown word");
    at_ += expected.size();
  }

  Json::Object object(int depth) {
    Json::Object members;
    expect('{');
    skip_space();
    if (peek() != '}') {
      for (;;) {
        if (peek() != '"') fail(at_, "JSON has no key");
        std::string key = string();
        skip_space();
        expect(':');
        skip_space();
        Json member = value(depth + 1);
        members.push_back({std::move(key), std::move(member)});
        skip_space();
        if (peek() != ',') break;
        ++at_;
        skip_space();
      }
    }
    expect('}');
    std::stable_sort(members.begin(), members.end(), [](const JsonMember& a, const JsonMember& b) { return a.key < b.key; });
    const auto twin = std::adjacent_find(members.begin(), members.end(), [](const JsonMember& a, const JsonMember& b) { return a.key == b.key; });
    if (twin != members.end()) fail(std::next(twin)->value.offset - base_offset_, "JSON has the key \"" + twin->key + "\" twice, again");
    return members;
  }

  Json::Array array(int depth) {
    Json::Array items;
    expect('[');
    skip_space();
    if (peek() != ']') {
      for (;;) {
        items.push_back(value(depth + 1));
        skip_space();
        if (peek() != ',') break;
        ++at_;
        skip_space();
      }
    }
    expect(']');
    return items;
  }

  void number(Json& json) {
    const size_t begin = at_;
    if (peek() == '-') ++at_;
    if (!is_digit(peek())) fail(begin, at_end() ? "JSON ends where a value should be" : "JSON has no value");
    const bool starts_with_zero = peek() == '0';
    const size_t first_digit = at_;
    skip_digits();
    if (starts_with_zero && at_ - first_digit > 1) fail(begin, "JSON has a number with a leading zero");
    bool is_integer = true;
    if (peek() == '.') {
      is_integer = false;
      ++at_;
      if (!is_digit(peek())) fail(begin, "JSON has a number without digits after the point");
      skip_digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      is_integer = false;
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      if (!is_digit(peek())) fail(begin, "JSON has a number without exponent digits");
      skip_digits();
    }
    const std::string_view digits = text_.substr(begin, at_ - begin);
    if (is_integer) {
      int64_t exact = 0;
      if (std::from_chars(digits.data(), digits.data() + digits.size(), exact).ec == std::errc()) {
        json.value = exact;
        return;
      }
    }
    const std::optional<double> rounded = parse_decimal(digits);
    if (!rounded) fail(begin, "JSON has a number out of range");
    json.value = *rounded;
  }

  void skip_digits() {
    while (is_digit(peek())) ++at_;
  }

  std::string string() {
    const size_t begin = at_;
    expect('"');
    std::string result;
    for (;;) {
      const size_t plain = at_;
      while (!at_end() && text_[at_] != '"' && text_[at_] != '\\' && static_cast<unsigned char>(text_[at_]) >= 0x20) ++at_;
      result.append(text_.substr(plain, at_ - plain));
      if (at_end()) fail(begin, "JSON has a string that does not end");
      const char c = text_[at_];
      if (c == '"') break;
      if (c != '\\') fail(at_, "JSON has a control character in a string");
      ++at_;
      escape(result);
    }
    ++at_;
    return result;
  }

  void escape(std::string& result) {
    const size_t begin = at_ - 1;
    const char c = peek();
    if (!at_end()) ++at_;
    switch (c) {
      case '"':
      case '\\':
      case '/': result += c; return;
      case 'b': result += '\b'; return;
      case 'f': result += '\f'; return;
      case 'n': result += '\n'; return;
      case 'r': result += '\r'; return;
      case 't': result += '\t'; return;
      case 'u': break;
      default: fail(begin, "JSON has an unknown escape");
    }
    uint32_t point = hex4(begin);
    if (point >= 0xDC00 && point <= 0xDFFF) fail(begin, "JSON has a lone surrogate");
    if (point >= 0xD800 && point <= 0xDBFF) {
      if (text_.substr(at_, 2) != "\\u") fail(begin, "JSON has a lone surrogate");
      at_ += 2;
      const uint32_t low = hex4(begin);
      if (low < 0xDC00 || low > 0xDFFF) fail(begin, "JSON has a lone surrogate");
      point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
    }
    const auto put = [&](uint32_t byte) { result += static_cast<char>(byte); };
    if (point < 0x80) {
      put(point);
    } else if (point < 0x800) {
      put(0xC0 | (point >> 6)), put(0x80 | (point & 0x3F));
    } else if (point < 0x10000) {
      put(0xE0 | (point >> 12)), put(0x80 | ((point >> 6) & 0x3F)), put(0x80 | (point & 0x3F));
    } else {
      put(0xF0 | (point >> 18)), put(0x80 | ((point >> 12) & 0x3F)), put(0x80 | ((point >> 6) & 0x3F)), put(0x80 | (point & 0x3F));
    }
  }

  uint32_t hex4(size_t begin) {
    uint32_t point = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      const int digit = is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (digit < 0) fail(begin, "JSON has a \\u escape without four hex digits");
      point = point << 4 | static_cast<uint32_t>(digit);
    }
    return point;
  }

  std::string_view text_;
  const std::string& file_;
  const Code damaged_;
  const size_t base_offset_;
  const JsonLimits& limits_;
  size_t at_ = 0;
  size_t n_values_ = 0;
};

}  // namespace

std::optional<double> Json::number() const {
  if (const int64_t* exact = integer()) return static_cast<double>(*exact);
  if (const double* rounded = std::get_if<double>(&value)) return *rounded;
  return std::nullopt;
}

const Json* Json::find(std::string_view key) const {
  const Object* members = object();
  if (members == nullptr) return nullptr;
  const auto at =
      std::lower_bound(members->begin(), members->end(), key, [](const JsonMember& member, std::string_view k) { return member.key < k; });
  return at != members->end() && at->key == key ? &at->value : nullptr;
}

Json parse_json(std::string_view text, const std::string& file, Code damaged, size_t base_offset, const JsonLimits& limits) {
  return Parser(text, file, damaged, base_offset, limits).parse();
}

JsonKeys::JsonKeys(const Json& json, std::string file, Code damaged, std::string prefix)
    : json_(&json), file_(std::move(file)), prefix_(std::move(prefix)), damaged_(damaged) {
  if (json.object() != nullptr) return;
  const std::string what = prefix_.empty() ? "the JSON value" : "key \"" + prefix_.substr(0, prefix_.size() - 1) + "\"";
  throw Error(damaged_, file_ + ": " + what + " must be an object, at byte " + std::to_string(json.offset));
}

const Json* JsonKeys::find(std::string_view key) const {
  const Json* member = json_->find(key);
  return member == nullptr || member->is_null() ? nullptr : member;
}

bool JsonKeys::is_null(std::string_view key) const {
  const Json* member = json_->find(key);
  return member != nullptr && member->is_null();
}

std::string JsonKeys::name(std::string_view key) const { return file_ + ": key \"" + prefix_ + std::string(key) + "\""; }

void JsonKeys::fail(Code code, std::string_view key, const std::string& what) const {
  const Json* member = json_->find(key);
  throw Error(code, name(key) + " " + what + (member == nullptr ? "" : ", at byte " + std::to_string(member->offset)));
}

int64_t JsonKeys::integer(std::string_view key, int64_t low, int64_t high) const {
  const Json* member = find(key);
  if (member == nullptr) fail(key, "is missing");
  const int64_t* number = member->integer();
  if (number == nullptr) fail(key, "must be an integer");
  if (*number < low || *number > high) {
    fail(key, "must be from " + std::to_string(low) + " to " + std::to_string(high) + " but is " + std::to_string(*number));
  }
  return *number;
}

int64_t JsonKeys::integer_or(std::string_view key, int64_t low, int64_t high, int64_t fallback) const {
  return has(key) ? integer(key, low, high) : fallback;
}

double JsonKeys::number_or(std::string_view key, double fallback) const {
  const Json* member = find(key);
  if (member == nullptr) return fallback;
  const std::optional<double> number = member->number();
  if (!number) fail(key, "must be a number");
  return *number;
}

bool JsonKeys::boolean_or(std::string_view key, bool fallback) const {
  const Json* member = find(key);
  if (member == nullptr) return fallback;
  if (member->boolean() == nullptr) fail(key, "must be true or false");
  return *member->boolean();
}

std::string JsonKeys::string_or(std::string_view key, const std::string& fallback) const {
  const Json* member = find(key);
  if (member == nullptr) return fallback;
  if (member->string() == nullptr) fail(key, "must be a string");
  return *member->string();
}

std::optional<JsonKeys> JsonKeys::object(std::string_view key) const {
  const Json* member = find(key);
  if (member == nullptr) return std::nullopt;
  return JsonKeys(*member, file_, damaged_, prefix_ + std::string(key) + ".");
}

void JsonWriter::separate() {
  if (needs_comma_) text_ += ',';
  needs_comma_ = true;
}

JsonWriter& JsonWriter::open(char bracket) {
  separate();
  text_ += bracket;
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::close(char bracket) {
  text_ += bracket;
  needs_comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view text) {
  separate();
  quote(text);
  text_ += ':';
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::string(std::string_view text) {
  separate();
  quote(text);
  return *this;
}

JsonWriter& JsonWriter::integer(int64_t value) {
  separate();
  text_ += std::to_string(value);
  return *this;
}

JsonWriter& JsonWriter::number(double value) {
  separate();
  text_ += std::isfinite(value) ? to_decimal(value) : "null";
  return *this;
}

JsonWriter& JsonWriter::boolean(bool value) {
  separate();
  text_ += value ? "true" : "false";
  return *this;
}

void JsonWriter::quote(std::string_view text) {
  if (!is_valid_utf8(text)) throw Error(Code::kInvalidArgument, "text that is not valid UTF-8 cannot be written as JSON");
  text_ += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      text_ += '\\', text_ += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      text_ += "\\u00", text_ += "0123456789abcdef"[c >> 4], text_ += "0123456789abcdef"[c & 15];
    } else {
      text_ += c;
    }
  }
  text_ += '"';
}

}  // namespace banyan
