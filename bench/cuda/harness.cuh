// harness: what the CUDA benches share: medians over rounds of calls, inputs that take turns so that they come from memory and not from a cache, and the
// ceilings of this device, measured in the same run: reading, and the tensor cores fed from registers (mma.sync) and from shared memory (wgmma).
#pragma once

#include <algorithm>
#include <cstdio>
#include <functional>
#include <vector>

#include "cuda/backend.h"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/mma.cuh"
#ifndef BANYAN_EMULATE
#include "cuda/prim/wgmma.cuh"
#endif
#include "device/buffer.h"
#include "device/device.h"

namespace banyan::cuda {

constexpr int kRounds = 15;                     // medians over so many
constexpr size_t kRotated = size_t{512} << 20;  // so many bytes of inputs take turns, ten times the second-level cache

inline unsigned blocks_for(int64_t n) { return static_cast<unsigned>((n + 255) / 256); }

// Reads 16 bytes a thread and turn, four turns in flight.
__global__ void __launch_bounds__(256) read_kernel(const uint4* from, int64_t n, uint32_t* out) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  uint32_t sum = 0;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i + 3 * step < n; i += 4 * step) {
    uint4 x[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) x[j] = load_streaming(from + i + j * step);
#pragma unroll
    for (const uint4& y : x) sum += y.x ^ y.y ^ y.z ^ y.w;
  }
  if (sum == 0x12345678u) *out = sum;  // as good as never; keeps the loads
}

// A reproducible word.
__device__ __forceinline__ uint32_t random_word(int64_t i) {
  uint32_t x = static_cast<uint32_t>(i) * 2654435761u + static_cast<uint32_t>(i >> 32);
  x ^= x >> 15;
  x *= 2246822519u;
  x ^= x >> 13;
  x *= 3266489917u;
  return x ^ x >> 16;
}
__global__ void fill_floats_kernel(float* out, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) out[i] = static_cast<float>(random_word(i) >> 8) * 0x1p-23f - 1.0f;
}

constexpr int kPeakSteps = 4096, kPeakChains = 8;  // products of 16 x 8 x 16 a warp and turn, each with sums of its own

__global__ void __launch_bounds__(256) mma_peak_kernel(float* out) {
  uint32_t a[4], b[2];
  for (int i = 0; i < 4; ++i) a[i] = 0x3F803F80u ^ (random_word(4 * threadIdx.x + i) & 0x807F807Fu);  // bf16 of either sign in [1, 2)
  for (int i = 0; i < 2; ++i) b[i] = 0x3F803F80u ^ (random_word(1024 + 2 * threadIdx.x + i) & 0x807F807Fu);
  float sums[kPeakChains][4] = {};
  for (int step = 0; step < kPeakSteps; ++step) {
#pragma unroll
    for (int chain = 0; chain < kPeakChains; ++chain) mma_m16n8k16(sums[chain], a, b, BF16Tag{});
  }
  float sum = 0;
  for (int chain = 0; chain < kPeakChains; ++chain) sum += sums[chain][0] + sums[chain][1] + sums[chain][2] + sums[chain][3];
  out[static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x] = sum;
}

#ifndef BANYAN_EMULATE
// Two warpgroups, each 64 x 256 x 16 products over tiles that stay where they are.
__global__ void __launch_bounds__(256, 1) wgmma_peak_kernel(float* out) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  BANYAN_DYNAMIC_SHARED(shared);
  unsigned char* const tiles = shared + (1024 - shared_address(shared) % 1024) % 1024;
  for (int i = static_cast<int>(threadIdx.x); i < 48 * 256; i += 256)
    reinterpret_cast<uint32_t*>(tiles)[i] = 0x3F803F80u ^ (random_word(i) & 0x807F807Fu);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const uint64_t a = tile_descriptor(shared_address(tiles) + threadIdx.x / 128 * 8192), b = tile_descriptor(shared_address(tiles) + 16384);
  float sums[128] = {};
  for (int step = 0; step < kPeakSteps; ++step) {
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) wgmma_k16(sums, a + static_cast<uint64_t>(2 * k), b + static_cast<uint64_t>(2 * k), 1, BF16Tag{});
    wgmma_commit();
    wgmma_wait<0>();
  }
  float sum = 0;
#pragma unroll
  for (const float value : sums) sum += value;
  out[static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x] = sum;
#endif
}
#endif

class Bench {
 public:
  explicit Bench(Device& device) : device_(device), stream_(device.stream()) {
    cudaEventCreate(&start_);
    cudaEventCreate(&stop_);
  }
  ~Bench() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  Stream& stream() { return stream_; }
  Device& device() { return device_; }
  cudaStream_t on() { return backend_of(stream_).stream; }

  // Median milliseconds of body(i), i counting calls. The calls are launched one by one.
  double time(int n_calls, const std::function<void(int)>& body) {
    int i = 0;
    return median_of(n_calls, [&] {
      for (int call = 0; call < n_calls; ++call) body(i++);
    });
  }

  // The same calls as a graph, for what is over sooner than it is launched. What a call allocates it must have allocated before: body(0) goes ahead.
  double time_graph(int n_calls, const std::function<void(int)>& body) {
    body(0);
    device_.sync();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    cudaStreamBeginCapture(on(), cudaStreamCaptureModeThreadLocal);
    for (int call = 0; call < n_calls; ++call) body(call);
    cudaStreamEndCapture(on(), &graph);
    if (graph == nullptr || cudaGraphInstantiate(&executable, graph, 0) != cudaSuccess) return time(n_calls, body);
    const double ms = median_of(n_calls, [&] { cudaGraphLaunch(executable, on()); });
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    return ms;
  }

  // Bytes per millisecond of a kernel that only reads.
  double read_rate() {
    if (read_rate_ > 0) return read_rate_;
    const size_t n_bytes = 4 * kRotated;
    Buffer memory(device_, n_bytes), out(device_, 4);
    launch({blocks_for(static_cast<int64_t>(n_bytes / 4)), 256}, on(), fill_floats_kernel, memory.as<float>(), static_cast<int64_t>(n_bytes / 4));
    const auto n_blocks = static_cast<unsigned>(backend_of(stream_).sm_count * 8);
    const double ms = time(1, [&](int) {
      launch({n_blocks, 256}, on(), read_kernel, memory.as<uint4>(), static_cast<int64_t>(n_bytes / 16), out.as<uint32_t>());
    });
    read_rate_ = static_cast<double>(n_bytes) / ms;
    std::printf("{\"name\": \"read\", \"ms\": %.4f, \"GBps\": %.0f}\n", ms, read_rate_ * 1e-6);
    return read_rate_;
  }

  // Operations (two a multiply-add) per millisecond of the tensor cores with 16-bit operands: the better of the two ways to feed them.
  double tensor_rate() {
    if (tensor_rate_ > 0) return tensor_rate_;
    const int n_blocks = backend_of(stream_).sm_count * 2;
    Buffer out(device_, static_cast<size_t>(n_blocks) * 256 * sizeof(float));
    double ms = time(1, [&](int) { launch({static_cast<unsigned>(n_blocks), 256}, on(), mma_peak_kernel, out.as<float>()); });
    tensor_rate_ = 2.0 * 16 * 8 * 16 * kPeakSteps * kPeakChains * 8 * n_blocks / ms;
    std::printf("{\"name\": \"mma peak\", \"ms\": %.4f, \"TFLOPs\": %.1f}\n", ms, tensor_rate_ * 1e-9);
#ifndef BANYAN_EMULATE
    if (backend_of(stream_).compute_capability == 90) {
      ms = time(1, [&](int) { launch({static_cast<unsigned>(n_blocks / 2), 256, 49 * 1024}, on(), wgmma_peak_kernel, out.as<float>()); });
      const double rate = 2.0 * 64 * 256 * 16 * 4 * kPeakSteps * 2 * (n_blocks / 2) / ms;
      std::printf("{\"name\": \"wgmma peak\", \"ms\": %.4f, \"TFLOPs\": %.1f}\n", ms, rate * 1e-9);
      tensor_rate_ = std::max(tensor_rate_, rate);
    }
#endif
    return tensor_rate_;
  }

 private:
  double median_of(int n_calls, const std::function<void()>& calls) {
    std::vector<float> all;
    for (int round = -2; round < kRounds; ++round) {  // two to warm up
      cudaEventRecord(start_, on());
      calls();
      cudaEventRecord(stop_, on());
      device_.sync();
      float ms = 0;
      cudaEventElapsedTime(&ms, start_, stop_);
      if (round >= 0) all.push_back(ms / static_cast<float>(n_calls));
    }
    std::sort(all.begin(), all.end());
    return static_cast<double>(all[all.size() / 2]);
  }

  Device& device_;
  Stream stream_;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
  double read_rate_ = 0, tensor_rate_ = 0;
};

}  // namespace banyan::cuda
