// runtime: the CUDA runtime, or the emulator in its place (BANYAN_EMULATE). Everything in this room that is no kernel includes this.
#pragma once

#ifdef BANYAN_EMULATE
#include "cuda/emulate/runtime.h"
#include "cuda/emulate/types.h"
#else
#include <cuda_runtime.h>
#endif
