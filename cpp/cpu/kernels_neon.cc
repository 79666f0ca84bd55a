// NEON: every aarch64, so no target pragma.
#include "cpu/kernels.h"

#if defined(__aarch64__) || defined(_M_ARM64)

#include <arm_neon.h>

namespace banyan {
namespace neon {
namespace {
constexpr const char* kVariant = "neon";
#include "cpu/vec_neon.h"
#include "cpu/kernels.inl"
}  // namespace
}  // namespace neon
}  // namespace banyan

const banyan::Ops* banyan::kernels_neon() { return &neon::kOps; }

#else

const banyan::Ops* banyan::kernels_neon() { return nullptr; }

#endif
