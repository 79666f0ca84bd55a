// dispatch: which kernel variant runs. One table, best first; picked once when a device is made.
#pragma once

#include <string>
#include <vector>

#include "device/ops.h"

namespace banyan {

// Each defined by its kernels_<variant>.cc (avx512int8 beside avx2int8); null where this build's architecture has no such instructions.
const Ops* kernels_amx();
const Ops* kernels_avx512vnni();
const Ops* kernels_avx512int8();
const Ops* kernels_avx512();
const Ops* kernels_avxvnni();
const Ops* kernels_avx2int8();
const Ops* kernels_avx2();
const Ops* kernels_neoni8mm();
const Ops* kernels_neondot();
const Ops* kernels_neon();
const Ops* kernels_scalar();

// All variants this machine runs, best first. Never empty.
std::vector<const Ops*> variants_here();

// `name`, or else what BANYAN_CPU names, or else the best one. Throws Error{kInvalidArgument} if that variant does not exist or cannot run here.
const Ops& choose_variant(const std::string& name);

}  // namespace banyan
