// decimal: text <-> double, whatever locale the host program runs in. (from_chars of double is missing in some standard libraries we build with.)
#pragma once

#include <cmath>
#include <locale>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

namespace banyan {

// [+-] digits [. digits] [e [+-] digits], with at least one digit before the exponent; out of range counts as no number.
inline std::optional<double> parse_decimal(std::string_view text) {
  size_t at = 0;
  const auto skip_digits = [&] {
    const size_t begin = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
    return at - begin;
  };
  const auto skip_sign = [&] {
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
  };
  skip_sign();
  size_t n_digits = skip_digits();
  if (at < text.size() && text[at] == '.') ++at, n_digits += skip_digits();
  if (n_digits == 0) return std::nullopt;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    skip_sign();
    if (skip_digits() == 0) return std::nullopt;
  }
  if (at != text.size()) return std::nullopt;
  std::istringstream stream{std::string(text)};
  stream.imbue(std::locale::classic());
  double value = 0;
  stream >> value;
  if (stream.fail() || !std::isfinite(value)) return std::nullopt;
  return value;
}

// The shortest of 15 to 17 digits that reads back the same.
inline std::string to_decimal(double value) {
  for (int n_digits = 15;; ++n_digits) {
    std::ostringstream stream;
    stream.imbue(std::locale::classic());
    stream.precision(n_digits);
    stream << value;
    std::string text = stream.str();
    if (n_digits == 17 || parse_decimal(text) == value) return text;
  }
}

}  // namespace banyan
