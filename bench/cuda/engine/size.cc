#include "size.h"

#include "base/error.h"

namespace banyan::bench {

namespace {

constexpr Shape kLlama8B{32, 4096, 32, 8, 128, 14336, 128256, false, 4, 1024, 3, 32};
constexpr Shape kLlama1B{16, 2048, 32, 8, 64, 8192, 128256, true, 4, 1024, 3, 32};
constexpr Shape kToy{4, 128, 4, 2, 32, 256, 512, false, 2, 64, 3, 4};
constexpr int kThousands = 1024;

}  // namespace

uint64_t Shape::token_bytes() const {
  const int64_t layer = 2 * int64_t{dim} * q_dim() + 2 * int64_t{dim} * kv_dim() + 3 * int64_t{dim} * ffn_dim;
  return 2 * static_cast<uint64_t>(n_layers * layer + int64_t{vocab_size} * dim);
}

uint64_t Shape::adapter_bytes() const { return 2 * static_cast<uint64_t>(n_injected_layers * 2 * int64_t{dim} * q_dim()); }

Size size_of(const std::string& name) {
  const Size sizes[] = {
      {"8b", kLlama8B, 128 * kThousands, 1024 * kThousands, 64, 64, 1000, 2 * kThousands, 5, 10},
      {"1b", kLlama1B, 128 * kThousands, 1024 * kThousands, 64, 64, 1000, 2 * kThousands, 5, 10},
      {"small", kToy, 512, 2 * kThousands, 16, 4, 20, 128, 2, 3},
  };
  for (const Size& size : sizes) {
    if (size.name == name) return size;
  }
  throw Error(Code::kInvalidArgument, "--size: " + name + " is none of 8b, 1b, small");
}

}  // namespace banyan::bench
