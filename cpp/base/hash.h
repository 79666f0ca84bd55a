// hash: a streaming 128-bit checksum, two XXH64 lanes with different seeds over one pass. Not cryptographic: it finds damage and
// tells models apart, it does not resist an attacker.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace banyan {

class Hash {
 public:
  Hash();
  void update(const void* data, size_t n_bytes);
  // Length first, so that ("ab", "c") and ("a", "bc") differ.
  void update_text(std::string_view text);
  template <class T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void update_value(T value) { update(&value, sizeof value); }

  std::array<uint64_t, 2> digest() const;  // [0] is plain XXH64 with seed 0
  std::string hex() const;                 // 32 lower-case digits

 private:
  static constexpr size_t kStripeBytes = 32;
  void consume(const unsigned char* stripe);

  std::array<std::array<uint64_t, 4>, 2> lanes_;  // [seed][accumulator]
  std::array<unsigned char, kStripeBytes> tail_{};
  size_t n_tail_ = 0;
  uint64_t n_total_ = 0;
};

}  // namespace banyan
