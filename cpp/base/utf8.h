// utf8: validation of text that came from outside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace banyan {

// Offset of the first byte that is not well-formed UTF-8 (overlong forms, surrogates and code points above 10FFFF included), or npos.
inline size_t find_invalid_utf8(std::string_view text) {
  const size_t n_bytes = text.size();
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  for (size_t i = 0; i < n_bytes;) {
    const unsigned lead = byte(i);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    // Unicode 15, table 3-7: the second byte's range depends on the first.
    size_t n_more = 0;
    unsigned low = 0x80, high = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF) n_more = 1;
    else if (lead >= 0xE0 && lead <= 0xEF) n_more = 2, low = lead == 0xE0 ? 0xA0 : 0x80, high = lead == 0xED ? 0x9F : 0xBF;
    else if (lead >= 0xF0 && lead <= 0xF4) n_more = 3, low = lead == 0xF0 ? 0x90 : 0x80, high = lead == 0xF4 ? 0x8F : 0xBF;
    else return i;
    if (n_more > n_bytes - i - 1) return i;
    for (size_t j = 1; j <= n_more; ++j) {
      if (byte(i + j) < low || byte(i + j) > high) return i;
      low = 0x80, high = 0xBF;
    }
    i += n_more + 1;
  }
  return std::string_view::npos;
}

inline bool is_valid_utf8(std::string_view text) { return find_invalid_utf8(text) == std::string_view::npos; }

}  // namespace banyan
