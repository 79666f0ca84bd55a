// XXH64 as specified in xxHash's doc/xxhash_spec.md (Yann Collet).
#include "base/hash.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace banyan {
namespace {

static_assert(std::endian::native == std::endian::little, "files and checksums are little endian");

constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87u, kPrime2 = 0xC2B2AE3D27D4EB4Fu, kPrime3 = 0x165667B19E3779F9u, kPrime4 = 0x85EBCA77C2B2AE63u,
                   kPrime5 = 0x27D4EB2F165667C5u;
constexpr std::array<uint64_t, 2> kSeeds = {0, 0x6261'6E79'616E'2D32u};

uint64_t load64(const unsigned char* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

uint32_t load32(const unsigned char* from) {
  uint32_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

uint64_t mix(uint64_t accumulator, uint64_t input) { return std::rotl(accumulator + input * kPrime2, 31) * kPrime1; }

uint64_t merge(uint64_t hash, uint64_t accumulator) { return (hash ^ mix(0, accumulator)) * kPrime1 + kPrime4; }

}  // namespace

Hash::Hash() {
  for (size_t s = 0; s < kSeeds.size(); ++s) { lanes_[s] = {kSeeds[s] + kPrime1 + kPrime2, kSeeds[s] + kPrime2, kSeeds[s], kSeeds[s] - kPrime1}; }
}

void Hash::consume(const unsigned char* stripe) {
  for (size_t i = 0; i < 4; ++i) {
    const uint64_t input = load64(stripe + 8 * i);
    lanes_[0][i] = mix(lanes_[0][i], input);
    lanes_[1][i] = mix(lanes_[1][i], input);
  }
}

void Hash::update(const void* data, size_t n_bytes) {
  if (n_bytes == 0) return;
  const auto* from = static_cast<const unsigned char*>(data);
  n_total_ += n_bytes;
  if (n_tail_ > 0) {
    const size_t n_taken = std::min(n_bytes, kStripeBytes - n_tail_);
    std::memcpy(tail_.data() + n_tail_, from, n_taken);
    n_tail_ += n_taken, from += n_taken, n_bytes -= n_taken;
    if (n_tail_ < kStripeBytes) return;
    consume(tail_.data());
    n_tail_ = 0;
  }
  for (; n_bytes >= kStripeBytes; from += kStripeBytes, n_bytes -= kStripeBytes) consume(from);
  if (n_bytes > 0) std::memcpy(tail_.data(), from, n_bytes);
  n_tail_ = n_bytes;
}

void Hash::update_text(std::string_view text) {
  update_value(static_cast<uint64_t>(text.size()));
  update(text.data(), text.size());
}

std::array<uint64_t, 2> Hash::digest() const {
  std::array<uint64_t, 2> result;
  for (size_t s = 0; s < kSeeds.size(); ++s) {
    const auto& lane = lanes_[s];
    uint64_t hash = kSeeds[s] + kPrime5;
    if (n_total_ >= kStripeBytes) {
      hash = std::rotl(lane[0], 1) + std::rotl(lane[1], 7) + std::rotl(lane[2], 12) + std::rotl(lane[3], 18);
      for (const uint64_t accumulator : lane) hash = merge(hash, accumulator);
    }
    hash += n_total_;
    const unsigned char* from = tail_.data();
    size_t n_left = n_tail_;
    for (; n_left >= 8; from += 8, n_left -= 8) hash = std::rotl(hash ^ mix(0, load64(from)), 27) * kPrime1 + kPrime4;
    for (; n_left >= 4; from += 4, n_left -= 4) hash = std::rotl(hash ^ (load32(from) * kPrime1), 23) * kPrime2 + kPrime3;
    for (; n_left > 0; ++from, --n_left) hash = std::rotl(hash ^ (*from * kPrime5), 11) * kPrime1;
    hash = (hash ^ (hash >> 33)) * kPrime2;
    hash = (hash ^ (hash >> 29)) * kPrime3;
    result[s] = hash ^ (hash >> 32);
  }
  return result;
}

std::string Hash::hex() const {
  std::string text;
  for (const uint64_t word : digest()) {
    for (int shift = 60; shift >= 0; shift -= 4) text += "0123456789abcdef"[(word >> shift) & 15u];
  }
  return text;
}

}  // namespace banyan
