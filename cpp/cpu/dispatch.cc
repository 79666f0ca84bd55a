#include "cpu/dispatch.h"

#include <cstdlib>

#include "base/error.h"
#include "cpu/features.h"

namespace banyan {
namespace {

struct Variant {
  const char* name;
  const Ops* (*ops)();
  uint32_t needs;
};

constexpr Variant kVariants[] = {
    // best first; the last always runs
    {"amx", kernels_amx, kAmx | kAvx512Bf16 | kAvx512Vnni | kAvx512 | kAvx2},
    {"avx512vnni", kernels_avx512vnni, kAvx512Vnni | kAvx512 | kAvx2},
    {"avx512int8", kernels_avx512int8, kAvx512 | kAvx2},
    {"avx512", kernels_avx512, kAvx512 | kAvx2},
    {"avxvnni", kernels_avxvnni, kAvxVnni | kAvx2},
    {"avx2int8", kernels_avx2int8, kAvx2},
    {"avx2", kernels_avx2, kAvx2},
    {"neoni8mm", kernels_neoni8mm, kNeonI8mm | kNeonDot | kNeon},
    {"neondot", kernels_neondot, kNeonDot | kNeon},
    {"neon", kernels_neon, kNeon},
    {"scalar", kernels_scalar, 0},
};

}  // namespace

std::vector<const Ops*> variants_here() {
  const uint32_t features = cpu_features();
  std::vector<const Ops*> ops;
  for (const Variant& variant : kVariants) {
    if ((variant.needs & ~features) == 0 && variant.ops() != nullptr) ops.push_back(variant.ops());
  }
  return ops;
}

std::vector<std::string> cpu_variants_here() {
  std::vector<std::string> names;
  for (const Ops* ops : variants_here()) names.emplace_back(ops->name);
  return names;
}

const Ops& choose_variant(const std::string& name) {
  const char* from_environment = std::getenv("BANYAN_CPU");
  const std::string wanted = !name.empty() ? name : from_environment != nullptr ? from_environment : "";
  const std::vector<const Ops*> ops = variants_here();
  if (wanted.empty()) return *ops.front();
  std::string names;
  for (const Ops* candidate : ops) {
    if (candidate->name == wanted) return *candidate;
    names += (names.empty() ? "" : ", ") + std::string(candidate->name);
  }
  for (const Variant& variant : kVariants) {
    if (variant.name == wanted) throw Error(Code::kInvalidArgument, "CPU variant " + wanted + " cannot run on this machine; it runs " + names);
  }
  throw Error(Code::kInvalidArgument, "Expected one of " + names + " as CPU variant but received " + wanted);
}

}  // namespace banyan
