// The variant that always runs.
#include "cpu/kernels.h"

namespace banyan {
namespace scalar {
namespace {
#include "cpu/vec_scalar.h"
#include "cpu/kernels.inl"
}  // namespace
}  // namespace scalar

const Ops* kernels_scalar() { return &scalar::kOps; }

}  // namespace banyan
