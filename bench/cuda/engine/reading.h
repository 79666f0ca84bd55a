// reading: what the first CUDA device reads in a second, as the benches of single ops measure it.
#pragma once

namespace banyan::bench {

double cuda_read_rate();  // bytes

}  // namespace banyan::bench
