// launch: starts a kernel on a stream. What a launch itself reports (too much shared memory, an impossible grid) is kept with the place of the
// launch; Device::sync tells it.
#pragma once

#include <source_location>
#include <tuple>
#include <utility>

#include "cuda/runtime.h"
#ifdef BANYAN_EMULATE
#include "cuda/emulate/builtins.h"
#endif

namespace banyan::cuda {

struct LaunchShape {
  dim3 grid, block;         // a block is a whole number of warps
  size_t shared_bytes = 0;  // dynamic
  std::source_location where = std::source_location::current();
};

#ifdef BANYAN_EMULATE

template <class... P, class... A> void launch(const LaunchShape& shape, cudaStream_t stream, void (*kernel)(P...), A&&... args) {
  emulate::launch(stream, {shape.grid, shape.block, shape.shared_bytes, shape.where},
      [kernel, values = std::tuple<P...>(std::forward<A>(args)...)] { std::apply(kernel, values); });
}

#else

// Keeps the first failure of a launch until sync() asks.
void keep_launch_error(cudaError_t error, const std::source_location& where);

template <class... P, class... A> void launch(const LaunchShape& shape, cudaStream_t stream, void (*kernel)(P...), A&&... args) {
  cudaError_t error = cudaSuccess;
  if (shape.shared_bytes > 48 * 1024)  // beyond that a kernel has to opt in
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes));
  if (error == cudaSuccess) {
    cudaLaunchConfig_t config{};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = stream;
    error = cudaLaunchKernelEx(&config, kernel, static_cast<P>(std::forward<A>(args))...);
  }
  if (error != cudaSuccess) keep_launch_error(error, shape.where);
}

#endif

}  // namespace banyan::cuda
