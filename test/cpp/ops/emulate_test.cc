// The emulated device itself: its tensor cores and matrix loads against plain sums, and that it sees the mistakes it is there to see. Empty in builds
// without it.
#ifdef BANYAN_EMULATE
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/half.h"
#include "check.h"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/mma.cuh"
#include "cuda/prim/warp.cuh"
#include "data.h"

namespace banyan::test {
namespace {

using namespace banyan::cuda;

// Device memory of n elements.
template <class T> class Array {
 public:
  explicit Array(size_t n) : n_(n) { cudaMalloc(reinterpret_cast<void**>(&data_), n * sizeof(T)); }
  explicit Array(const std::vector<T>& values) : Array(values.size()) {
    cudaMemcpyAsync(data_, values.data(), n_ * sizeof(T), cudaMemcpyHostToDevice, {});
  }
  ~Array() { cudaFree(data_); }
  Array(const Array&) = delete;
  T* data() const { return data_; }
  std::vector<T> values() const {
    std::vector<T> values(n_);
    cudaMemcpyAsync(values.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost, {});
    return values;
  }

 private:
  size_t n_;
  T* data_ = nullptr;
};

// d[16, 8] = a[16, 16] b[16, 8], all row-major, by one warp.
template <class Tag> __global__ void multiply_halves(float* d, const uint16_t* a, const uint16_t* b) {
  BANYAN_DYNAMIC_SHARED(bytes);
  auto* shared_a = reinterpret_cast<uint16_t*>(bytes);
  uint16_t* shared_b = shared_a + 256;
  const auto lane = static_cast<int>(threadIdx.x);
  cp_async16(shared_a + lane * 8, a + lane * 8, true);
  cp_async16(shared_b + lane % 16 * 8, b + lane % 16 * 8, true);
  cp_async_commit();
  cp_async_wait<0>();
  __syncwarp();
  uint32_t of_a[4], of_b[2];
  ldmatrix_x4(of_a, shared_a + lane % 16 * 16 + lane / 16 * 8);
  ldmatrix_x2_trans(of_b, shared_b + lane % 16 * 8);
  float sum[4] = {};
  mma_m16n8k16(sum, of_a, of_b, Tag{});
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}

// d[16, 8] = a[16, 8] b[8, 8].
__global__ void multiply_tf32(float* d, const float* a, const float* b) {
  const int lane = static_cast<int>(threadIdx.x), group = lane / 4, pair = lane % 4;
  uint32_t of_a[4], of_b[2];
  for (int i = 0; i < 4; ++i) of_a[i] = float_to_tf32(a[(group + i % 2 * 8) * 8 + pair + i / 2 * 4]);
  for (int i = 0; i < 2; ++i) of_b[i] = float_to_tf32(b[(pair + 4 * i) * 8 + group]);
  float sum[4] = {};
  mma_m16n8k8_tf32(sum, of_a, of_b);
  for (int i = 0; i < 4; ++i) d[(group + i / 2 * 8) * 8 + pair * 2 + i % 2] = sum[i];
}

// Largest difference from the product of the values, and what its roundings toward zero allow.
bool is_product(const std::vector<float>& d, const std::vector<double>& a, const std::vector<double>& b, size_t depth) {
  for (size_t i = 0; i < 16; ++i) {
    for (size_t j = 0; j < 8; ++j) {
      double sum = 0;
      for (size_t k = 0; k < depth; ++k) sum += a[i * depth + k] * b[k * 8 + j];
      if (!(std::fabs(static_cast<double>(d[i * 8 + j]) - sum) <= 0x1p-23 * std::fabs(sum))) return false;
    }
  }
  return true;
}

void check_products(const std::function<void(bool, const char*)>& expect) {
  Random random(5);
  for (const bool is_half : {true, false}) {
    std::vector<uint16_t> a, b;
    std::vector<double> a_values, b_values;
    for (int i = 0; i < 384; ++i) {
      const uint16_t bits = is_half ? f32_to_f16(random.uniform()) : f32_to_bf16(random.uniform());
      (i < 256 ? a : b).push_back(bits);
      (i < 256 ? a_values : b_values).push_back(static_cast<double>(is_half ? f16_to_f32(bits) : bf16_to_f32(bits)));
    }
    const Array<uint16_t> on_a(a), on_b(b);
    const Array<float> d(128);
    launch({1, 32, 768}, {}, is_half ? multiply_halves<F16Tag> : multiply_halves<BF16Tag>, d.data(), on_a.data(), on_b.data());
    expect(is_product(d.values(), a_values, b_values, 16), "mma of halves");
  }
  const std::vector<float> a = random.floats(128), b = random.floats(64);
  const auto rounded = [](const std::vector<float>& x) {
    std::vector<double> values;
    for (const float value : x)
      values.push_back(std::ldexp(std::round(std::ldexp(static_cast<double>(value), 11 - std::ilogb(value) - 1)), std::ilogb(value) - 10));
    return values;
  };
  const Array<float> on_a(a), on_b(b), d(128);
  launch({1, 32}, {}, multiply_tf32, d.data(), on_a.data(), on_b.data());
  expect(is_product(d.values(), rounded(a), rounded(b), 8), "mma of tf32");
}

enum class Mistake { kNone, kWarpDiverges, kBlockDiverges, kEarlyEnd, kPartialMask, kUnaligned, kNoWait, kNoFill, kPastShared, kPastMemory };

__global__ void mistaken(float* out, Mistake mistake) {
  BANYAN_SHARED(scratch, float[64]);
  BANYAN_DYNAMIC_SHARED(bytes);
  const auto i = static_cast<int>(threadIdx.x);
  if (mistake == Mistake::kWarpDiverges && i % 2 == 0) __syncwarp();
  if (mistake == Mistake::kBlockDiverges) {
    if (i < 32) __syncthreads();
    else __syncthreads_or(1);
  }
  if (mistake == Mistake::kEarlyEnd && i >= 40) return;
  if (mistake == Mistake::kPartialMask) __shfl_xor_sync(0xFFFFu, i, 1);
  if (mistake == Mistake::kNoFill) {
    out[i] = scratch[i];
    return;
  }
  if (mistake == Mistake::kPastShared) bytes[128 + i] = 1;
  if (mistake == Mistake::kPastMemory) out[16 + i] = 1;
  if (mistake == Mistake::kUnaligned) cp_async16(bytes, out + 1, true);
  if (mistake == Mistake::kNoWait) {
    if (i == 0) cp_async16(scratch, out, true);
    __syncthreads();
    out[64 + i] = scratch[i % 4];
    return;
  }
  out[i] = block_sum(1.0f, scratch);
}

void check_mistakes(const std::function<void(bool, const char*)>& expect) {
  const auto outcome = [](Mistake mistake, std::vector<float>* out) {
    const Array<float> memory(std::vector<float>(128, 3.0f));
    launch({1, 64, 128}, {}, mistaken, memory.data(), mistake);
    const std::string failure = cudaStreamSynchronize({}) == cudaSuccess ? "" : cudaGetErrorString(cudaGetLastError());
    emulate::forget_failure();
    if (out != nullptr) *out = memory.values();
    return failure;
  };
  std::vector<float> out;
  expect(outcome(Mistake::kNone, &out).empty() && out[0] == 64 && out[63] == 64, "a sound kernel");
  expect(outcome(Mistake::kWarpDiverges, nullptr).find("emulate_test.cc") != std::string::npos, "lanes at different places");
  expect(outcome(Mistake::kBlockDiverges, nullptr).find("barrier") != std::string::npos, "barriers at different places");
  expect(outcome(Mistake::kEarlyEnd, nullptr).find("have ended") != std::string::npos, "a barrier after a thread has ended");
  expect(outcome(Mistake::kPartialMask, nullptr).find("partial mask") != std::string::npos, "a partial mask");
  expect(outcome(Mistake::kUnaligned, nullptr).find("unaligned") != std::string::npos, "an unaligned copy");
  outcome(Mistake::kNoWait, &out);
  expect(std::isnan(out[64]) && std::isnan(out[127]), "a copy that nobody waited for");
  outcome(Mistake::kNoFill, &out);
  expect(std::isnan(out[0]) && std::isnan(out[63]), "shared memory that nobody wrote");
}

__global__ void add_to_each(float* x, float by) { x[threadIdx.x] += by; }

// What is captured runs when the graph is launched and not before, with the arguments it had then.
void check_graphs(const std::function<void(bool, const char*)>& expect) {
  const Array<float> x(std::vector<float>(32, 1.0f));
  cudaStream_t stream{}, other{};
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
  cudaGraph_t graph{};
  cudaGraphExec_t made{};
  const auto begins = [&stream] { return cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess; };
  const auto ends = [&](cudaError_t how) { return cudaStreamEndCapture(stream, &graph) == how && (graph != nullptr) == (how == cudaSuccess); };
  expect(begins() && !begins(), "a stream captures once");
  float by = 2.0f;
  launch({1, 32}, stream, add_to_each, x.data(), by);
  by = 100.0f;
  launch({1, 32}, other, add_to_each, x.data(), 10.0f);
  expect(x.values()[0] == 11.0f, "other streams go on, what is captured waits");
  expect(ends(cudaSuccess) && cudaGraphInstantiate(&made, graph, 0) == cudaSuccess && cudaGraphDestroy(graph) == cudaSuccess, "a graph");
  expect(cudaGraphLaunch(made, stream) == cudaSuccess && cudaGraphLaunch(made, stream) == cudaSuccess && x.values()[31] == 15.0f, "its launches");
  cudaGraphExecDestroy(made);
  expect(ends(cudaErrorIllegalState), "no end without a beginning");
  // What must not happen meanwhile fails, and spoils what was captured.
  const std::vector<std::function<cudaError_t()>> forbidden{[&] { return cudaStreamSynchronize(stream); }, [] { return cudaDeviceSynchronize(); },
      [&] { return cudaMemsetAsync(x.data(), 0, 4, stream); }, [&] { return cudaFreeAsync(x.data(), stream); }, [&] { return cudaFree(x.data()); },
      [&] {
        void* memory = nullptr;
        return cudaMallocAsync(&memory, 8, stream);
      },
      [] {
        void* memory = nullptr;
        return cudaMalloc(&memory, 8);
      }};
  for (const auto& call : forbidden) {
    expect(begins() && call() == cudaErrorStreamCaptureUnsupported && ends(cudaErrorStreamCaptureInvalidated), "a call that no capture survives");
  }
  expect(begins() && cudaStreamSynchronize(other) == cudaSuccess && ends(cudaSuccess), "other streams may be waited for");
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  cudaStreamDestroy(other);
}

// Runs `body` in a process of its own; true if it dies of a bad access.
bool faults(const std::function<void()>& body) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    std::freopen("/dev/null", "w", stderr);
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

}  // namespace

Tally emulate_suite() {
  Tally tally;
  const auto expect = [&tally](bool is_right, const char* what) {
    ++(is_right ? tally.passed : tally.failed);
    if (!is_right) std::printf("  FAILED: %s\n", what);
  };
  check_products(expect);
  check_graphs(expect);
  std::fflush(stderr);
  check_mistakes(expect);
  for (const Mistake mistake : {Mistake::kPastShared, Mistake::kPastMemory}) {
    expect(faults([mistake] {
      const Array<float> memory(64);
      launch({1, 64, 128}, {}, mistaken, memory.data(), mistake);
    }),
        "access past the end faults");
  }
  expect(faults([] {
    const Array<float> memory(64);
    *const_cast<volatile float*>(memory.data()) = 1;
  }),
      "the host cannot touch device memory");
  return tally;
}

}  // namespace banyan::test

#endif
