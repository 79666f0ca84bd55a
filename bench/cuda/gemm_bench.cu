// gemm_bench: how near gemm comes to what the device can do, on the matrices of Llama 3.1 8B. Prints JSON lines: median milliseconds, TFLOP/s, bytes of
// weights per second, each also as a share of the ceiling measured in the same run, and the error ||out - ref|| / ||ref|| against the float32 path.
// peers_gemm.py measures PyTorch on the same shapes. Build and run: bench/cuda/run.sh; argument "small": a tenth of everything, to see it run.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "bench/cuda/harness.cuh"
#include "cuda/gemm.h"

namespace banyan::cuda {
namespace {

// Random weights of about unit size: `block_words` 16-bit words a block, of which the first n_scales are `scale` (0: no blocks, bf16 or f16).
__global__ void fill_weights_kernel(uint16_t* out, int64_t n, int block_words, int n_scales, uint16_t scale, uint16_t exponents) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const uint32_t x = random_word(i);
  if (block_words == 0) out[i] = static_cast<uint16_t>((x & 0x8000u) | (exponents + (x >> 16) % 0x200u));
  else out[i] = i % block_words < n_scales ? scale : static_cast<uint16_t>(x >> 8);
}

struct Matrix {
  const char* name;
  int64_t rows, cols;
};

struct Path {
  const char* name;
  GemmPath path;
};

double relative_error(Device& device, const float* out, const float* reference, size_t n) {
  std::vector<float> a(n), b(n);
  device.to_host(a.data(), out, n * sizeof(float));
  device.to_host(b.data(), reference, n * sizeof(float));
  double difference = 0, size = 0;
  for (size_t i = 0; i < n; ++i) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    size += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(difference / size);
}

void fill_weights(Bench& bench, uint16_t* words, int64_t n, DType dtype) {
  const int block_words = traits(dtype).block_size == 1 ? 0 : traits(dtype).block_bytes / 2;
  const uint16_t scale = dtype == DType::kQ8_0 ? 0x2008 : 0x1C00;  // 1 / 127; 1 / 256
  launch({blocks_for(n), 256}, bench.on(), fill_weights_kernel, words, n, block_words, dtype == DType::kQ4_K ? 2 : 1, scale,
      static_cast<uint16_t>(dtype == DType::kBF16 ? 0x3E00 : 0x3800));
}

void measure(Bench& bench, DType dtype, const Matrix& m, const std::vector<int>& token_counts) {
  Device& device = bench.device();
  const size_t bytes = row_bytes(dtype, m.cols) * static_cast<size_t>(m.rows), padded = (bytes + 255) / 256 * 256;
  const size_t n_sets = std::clamp<size_t>((kRotated + padded - 1) / padded, 2, 64);
  const auto max_tokens = static_cast<size_t>(*std::max_element(token_counts.begin(), token_counts.end()));
  Buffer weights(device, padded * n_sets), x(device, max_tokens * static_cast<size_t>(m.cols) * 4),
      out(device, max_tokens * static_cast<size_t>(m.rows) * 4);
  for (size_t set = 0; set < n_sets; ++set) fill_weights(bench, weights.as<uint16_t>() + set * padded / 2, static_cast<int64_t>(bytes / 2), dtype);
  launch({blocks_for(static_cast<int64_t>(max_tokens) * m.cols), 256}, bench.on(), fill_floats_kernel, x.as<float>(),
      static_cast<int64_t>(max_tokens) * m.cols);
  constexpr Path kPaths[] = {{"chosen", GemmPath::kChosen}, {"tensor", GemmPath::kTensor}, {"hopper", GemmPath::kHopper}};
  for (const int tokens : token_counts) {
    const double flops = 2.0 * tokens * static_cast<double>(m.rows) * static_cast<double>(m.cols);
    for (const Path& path : kPaths) {
      if (path.path != GemmPath::kChosen && tokens <= kFewTokens) continue;  // the choice is clear
      bool was_taken = true;
      const auto call = [&](int i) {
        const void* w = weights.as<uint8_t>() + static_cast<size_t>(i) % n_sets * padded;
        was_taken = gemm_by({path.path}, bench.stream(), {out.as<float>(), x.as<float>(), {w, dtype, m.rows, m.cols}, nullptr, tokens, false});
      };
      call(0);
      if (!was_taken) continue;
      double error = -1;
      const size_t n = static_cast<size_t>(tokens) * static_cast<size_t>(m.rows);
      if (tokens <= 512) {
        Buffer reference(device, n * 4);
        gemm_by({GemmPath::kF32}, bench.stream(),
            {reference.as<float>(), x.as<float>(), {weights.as<void>(), dtype, m.rows, m.cols}, nullptr, tokens, false});
        error = relative_error(device, out.as<float>(), reference.as<float>(), n);
      }
      const double ms = tokens <= 128 ? bench.time_graph(static_cast<int>(std::max<size_t>(n_sets, 16)), call) : bench.time(4, call);
      std::printf(
          "{\"name\": \"%s\", \"dtype\": \"%s\", \"tokens\": %d, \"rows\": %lld, \"cols\": %lld, \"path\": \"%s\", \"ms\": %.5f, \"TFLOPs\": %.1f, "
          "\"of_tensor\": %.3f, \"GBps\": %.0f, \"of_read\": %.3f, \"error\": %.2e}\n",
          m.name, traits(dtype).name, tokens, static_cast<long long>(m.rows), static_cast<long long>(m.cols), path.name, ms, flops / ms * 1e-9,
          flops / ms / bench.tensor_rate(), static_cast<double>(bytes) / ms * 1e-6, static_cast<double>(bytes) / ms / bench.read_rate(), error);
      std::fflush(stdout);
    }
  }
}

int run(bool is_small) {
  const std::unique_ptr<Device> device = make_cuda_device(0);
  if (device == nullptr) {
    std::fprintf(stderr, "no CUDA device\n");
    return 1;
  }
  Bench bench(*device);
  bench.read_rate();
  bench.tensor_rate();
  std::vector<Matrix> matrices = {{"qkv", 6144, 4096}, {"o", 4096, 4096}, {"gate_up", 28672, 4096}, {"down", 4096, 14336}};
  std::vector<int> token_counts = {1, 2, 4, 8, 16, 32, 128, 512, 2048, 8192};
  if (is_small) {
    matrices = {{"o", 512, 512}};
    token_counts = {1, 16, 32, 512};
  }
  for (const DType dtype : {DType::kBF16, DType::kQ8_0, DType::kQ4_K}) {
    for (const Matrix& matrix : matrices) measure(bench, dtype, matrix, token_counts);
  }
  device->sync();
  return 0;
}

}  // namespace
}  // namespace banyan::cuda

int main(int n_args, char** args) { return banyan::cuda::run(n_args > 1 && std::strcmp(args[1], "small") == 0); }
