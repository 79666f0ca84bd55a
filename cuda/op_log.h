// op_log: ops with their arguments, noted instead of run, to be compared and run later.
#pragma once

#include <cstddef>
#include <utility>
#include <variant>
#include <vector>

#include "device/ops.h"

namespace banyan::cuda {

// One op and what it was called with. Arguments compare field by field, so padding counts nothing and a new field cannot be forgotten; floats compare as
// numbers: not a number is like nothing, and between zeros of either sign no op's result shows more than the sign of a zero.
template <auto kOp> struct Noted;
template <class Args, void (*Ops::*kOp)(Stream&, const Args&)> struct Noted<kOp> {
  Args args;
  bool operator==(const Noted&) const = default;
  void run(const Ops& ops, Stream& stream) const { (ops.*kOp)(stream, args); }
  // An op that only notes. Stream::backend is the log.
  static void note(Stream& stream, const Args& args);
};

template <auto... kOps> struct OpList {
  static constexpr size_t kCount = sizeof...(kOps);
  using AnyNoted = std::variant<Noted<kOps>...>;
  static constexpr Ops noting(const char* name) {
    Ops ops{};
    ops.name = name;
    ((ops.*kOps = Noted<kOps>::note), ...);
    return ops;
  }
};

// All ops of device/ops.h; a new one needs its name here and nothing else.
using AllOps = OpList<&Ops::embed, &Ops::norm, &Ops::gemm, &Ops::rope, &Ops::store, &Ops::place, &Ops::attend, &Ops::inject, &Ops::merge,
    &Ops::gather, &Ops::compress, &Ops::cosine, &Ops::standardize, &Ops::highest, &Ops::swiglu, &Ops::sample>;
constexpr size_t kOtherMembers = 3;  // name, gemm_together (noted as gemm) and has_slot_tiles
static_assert(sizeof(Ops) == (kOtherMembers + AllOps::kCount) * sizeof(void*), "an op of device/ops.h is missing in AllOps");

using OpLog = std::vector<AllOps::AnyNoted>;

template <class Args, void (*Ops::*kOp)(Stream&, const Args&)> void Noted<kOp>::note(Stream& stream, const Args& args) {
  static_cast<OpLog*>(stream.backend)->push_back(Noted{args});
}

inline void run(const OpLog& log, const Ops& ops, Stream& stream) {
  for (const auto& any : log) std::visit([&](const auto& noted) { noted.run(ops, stream); }, any);
}

}  // namespace banyan::cuda
