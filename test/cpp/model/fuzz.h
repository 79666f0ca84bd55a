// fuzz: random damage of good files. Every reader must throw Error or load; anything else is a bug.
#pragma once

#include <cstdint>

namespace banyan::test {

// 0 if nothing else was thrown. A crash or a sanitizer's report ends the process; the seed repeats it.
int run_fuzz(uint64_t n_iterations, uint64_t seed);

}  // namespace banyan::test
