// rows_bench: how near the ops that only move rows come to the memory's bandwidth, on the activations of Llama 3.1 8B (4096 wide, 14336 inner, 32 and 8
// heads of 128). Prints JSON lines: median milliseconds, bytes read and written per second, as a share of the reading rate measured in the same run.
// Build and run: bench/cuda/run.sh; argument "small": a tenth of everything, to see it run.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "bench/cuda/harness.cuh"

namespace banyan::cuda {
namespace {

constexpr int kDim = 4096, kInner = 14336, kHeads = 32, kKvHeads = 8, kHeadDim = 128;

class Rows {
 public:
  Rows(Bench& bench, int n_tokens)
      : bench_(bench),
        n_(n_tokens),
        // enough copies that the second-level cache holds none when its turn comes again
        n_sets_(std::clamp<int>(static_cast<int>(kRotated / (static_cast<size_t>(n_tokens) * kInner * 8)), 2, 64)),
        a_(bench.device(), bytes_of(kInner)),
        b_(bench.device(), bytes_of(kInner)),
        out_(bench.device(), bytes_of(kInner)),
        numbers_(bench.device(), static_cast<size_t>(n_tokens) * 8) {
    for (const Buffer* buffer : {&a_, &b_, &out_}) {
      const auto n = static_cast<int64_t>(buffer->n_bytes() / 4);
      launch({blocks_for(n), 256}, bench.on(), fill_floats_kernel, buffer->as<float>(), n);
    }
    std::vector<int32_t> numbers(static_cast<size_t>(n_tokens) * 2);
    std::iota(numbers.begin(), numbers.end(), 0);
    bench.device().to_device(numbers_.as<int32_t>(), numbers.data(), numbers.size() * sizeof(int32_t));
  }

  void all() {
    Stream& s = bench_.stream();
    const auto* numbers = numbers_.as<int32_t>();
    const double tokens = n_;
    measure("norm", tokens * kDim * 8, [&](int i) { norm(s, {at(out_, i, kDim), at(a_, i, kDim), at(b_, 0, kDim), n_, kDim, 1e-5f}); });
    measure("norm of heads", tokens * kDim * 8, [&](int i) {
      norm(s, {at(out_, i, kDim), at(a_, i, kDim), at(b_, 0, kDim), n_ * kHeads, kHeadDim, 1e-5f});
    });
    measure("rope", tokens * kDim * 8, [&](int i) { rope(s, {at(a_, i, kDim), numbers, at(b_, 0, kDim), n_, kHeads, kHeadDim, 1.0f, false}); });
    measure("swiglu", tokens * kInner * 12, [&](int i) {
      swiglu(s, {at(out_, i, kInner), at(a_, i, kInner), at(b_, i, kInner), int64_t{n_} * kInner});
    });
    for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
      const int row = kKvHeads * kHeadDim;
      measure(std::string("store ") + traits(dtype).name, tokens * (row * 4 + static_cast<double>(row_bytes(dtype, row))), [&, dtype, row](int i) {
        store(s, {at(out_, i, row), dtype, row, kHeadDim, at(a_, i, row), numbers, n_, kKvHeads, kHeadDim});
      });
    }
    measure("merge", tokens * kDim * 12, [&](int i) {
      merge(s, {at(out_, i, kDim), nullptr, at(a_, i, kDim), at(b_, 0, kHeads), at(b_, i, kDim), at(a_, 0, kHeads), n_ * kHeads, kHeadDim, 1.0f});
    });
    measure("gather F32", tokens * kDim * 8, [&](int i) { gather(s, {at(out_, i, kDim), at(a_, i, kDim), DType::kF32, numbers, n_, kDim}); });
    for (const DType dtype : {DType::kBF16, DType::kQ4_K, DType::kQ6_K}) {
      measure(std::string("embed ") + traits(dtype).name, tokens * (kDim * 4 + static_cast<double>(row_bytes(dtype, kDim))), [&, dtype](int i) {
        embed(s, {at(out_, i, kDim), {at(a_, i, kDim), dtype, n_, kDim}, numbers, n_});
      });
    }
  }

 private:
  size_t bytes_of(int width) const { return static_cast<size_t>(n_sets_) * static_cast<size_t>(n_) * static_cast<size_t>(width) * sizeof(float); }
  // Set i of rows of `width`.
  float* at(const Buffer& buffer, int i, int width) const { return buffer.as<float>() + static_cast<int64_t>(i % n_sets_) * n_ * width; }

  void measure(const std::string& name, double n_bytes, const std::function<void(int)>& body) {
    const double ms = bench_.time_graph(std::max(n_sets_, 16), body);
    std::printf("{\"name\": \"%s\", \"tokens\": %d, \"ms\": %.5f, \"GBps\": %.0f, \"of_read\": %.3f}\n", name.c_str(), n_, ms, n_bytes / ms * 1e-6,
        n_bytes / ms / bench_.read_rate());
    std::fflush(stdout);
  }

  Bench& bench_;
  const int n_, n_sets_;
  Buffer a_, b_, out_, numbers_;
};

int run(bool is_small) {
  const std::unique_ptr<Device> device = make_cuda_device(0);
  if (device == nullptr) {
    std::fprintf(stderr, "%s\n", cuda_obstacle(0).c_str());
    return 1;
  }
  Bench bench(*device);
  bench.read_rate();
  for (const int n_tokens : is_small ? std::vector<int>{1, 16} : std::vector<int>{1, 512, 4096}) Rows(bench, n_tokens).all();
  device->sync();
  return 0;
}

}  // namespace
}  // namespace banyan::cuda

int main(int n_args, char** args) { return banyan::cuda::run(n_args > 1 && std::strcmp(args[1], "small") == 0); }
