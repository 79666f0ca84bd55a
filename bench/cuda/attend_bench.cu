// attend_bench: how near attention comes to what the device can do. Prints JSON lines: median milliseconds, TFLOP/s of the scores and sums that the
// ranges ask for, and for few queries the bytes of keys and values per second, also as a share of what a kernel that only reads reaches in the same run.
// peers_attend.py measures PyTorch on the same shapes and names. Build: bench/cuda/run.sh; arguments: "small" (a tenth of everything, to see it run).
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "harness.cuh"

namespace banyan::cuda {
namespace {

// Reproducible halves in (-1, 1), or blocks of Q8_0 with a scale of 1/127.
__global__ void fill_kernel(uint16_t* out, int64_t n, bool is_q8) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const uint32_t x = random_word(i);
  if (is_q8) out[i] = i % 17 == 0 ? 0x2008 : static_cast<uint16_t>(x >> 16);
  else out[i] = static_cast<uint16_t>((x & 0x8000) | (0x3000 + (x >> 16) % 0xC00));
}
struct Shape {
  std::string name;
  DType dtype;
  int tokens, heads, kv_heads, head_dim;
  int64_t keys;                     // rows of the cache
  std::vector<int32_t> begin, end;  // empty: inject
};

void measure(Bench& bench, const Shape& s) {
  Device& device = bench.device();
  const int64_t row = int64_t{s.kv_heads} * s.head_dim;
  const size_t side_bytes = row_bytes(s.dtype, s.keys * row), n_q = static_cast<size_t>(s.tokens) * static_cast<size_t>(s.heads * s.head_dim);
  const size_t padded = (side_bytes + 255) / 256 * 256, n_sets = std::clamp<size_t>(kRotated / (2 * padded), 1, 64);
  Buffer memory(device, 2 * padded * n_sets), q(device, n_q * 4), out(device, n_q * 4), ranges(device, 8 * static_cast<size_t>(s.tokens));
  const auto n_words = static_cast<int64_t>(side_bytes / 2);  // of 16 bits
  for (size_t side = 0; side < 2 * n_sets; ++side)
    launch({blocks_for(n_words), 256}, bench.on(), fill_kernel, memory.as<uint16_t>() + side * padded / 2, n_words, s.dtype == DType::kQ8_0);
  launch({blocks_for(static_cast<int64_t>(n_q)), 256}, bench.on(), fill_floats_kernel, q.as<float>(), static_cast<int64_t>(n_q));
  double n_pairs = static_cast<double>(s.tokens) * static_cast<double>(s.keys);
  if (!s.begin.empty()) {
    n_pairs = 0;
    for (size_t t = 0; t < s.begin.size(); ++t) n_pairs += s.end[t] - s.begin[t];
    device.to_device(ranges.as<int32_t>(), s.begin.data(), 4 * s.begin.size());
    device.to_device(ranges.as<int32_t>() + s.tokens, s.end.data(), 4 * s.end.size());
  }
  const float scale = 0.0883883f;
  const double bytes = 2.0 * static_cast<double>(side_bytes), flops = 4.0 * n_pairs * s.heads * s.head_dim;
  const auto call = [&](int i) {
    uint8_t* k = memory.as<uint8_t>() + static_cast<size_t>(i) % n_sets * 2 * padded;
    const KvView kv{k, k + padded, s.dtype, row, s.head_dim};
    if (s.begin.empty()) {
      inject(bench.stream(), {out.as<float>(), q.as<float>(), kv, static_cast<int>(s.keys), s.tokens, s.heads, s.kv_heads, s.head_dim, scale});
    } else {
      attend(bench.stream(),
          {out.as<float>(), q.as<float>(), kv, ranges.as<int32_t>(), ranges.as<int32_t>() + s.tokens, s.tokens, s.heads, s.kv_heads, s.head_dim,
              scale},
          0);
    }
  };
  const double ms = flops < 1e10 ? bench.time_graph(64, call) : bench.time(3, call);
  std::printf("{\"name\": \"%s\", \"ms\": %.4f, \"TFLOPs\": %.1f, \"GBps\": %.0f, \"of_read\": %.3f}\n", s.name.c_str(), ms, flops / ms * 1e-9,
      bytes / ms * 1e-6, bytes / ms / bench.read_rate());
  std::fflush(stdout);
}

// Nodes of `each` tokens, each seeing itself and those before it in its node.
Shape nodes(const std::string& name, DType dtype, int n_nodes, int each) {
  Shape s{name, dtype, n_nodes * each, 32, 8, 128, int64_t{n_nodes} * each, {}, {}};
  for (int t = 0; t < s.tokens; ++t) {
    s.begin.push_back(t / each * each);
    s.end.push_back(t + 1);
  }
  return s;
}

// One token of each session, at the end of its own cache.
Shape decode(const std::string& name, DType dtype, int sessions, int each) {
  Shape s{name, dtype, sessions, 32, 8, 128, int64_t{sessions} * each, {}, {}};
  for (int t = 0; t < sessions; ++t) {
    s.begin.push_back(t * each);
    s.end.push_back((t + 1) * each);
  }
  return s;
}

// FocusLLM: two rows a chunk, each chunk with keys of its own.
Shape chunk_rows(const std::string& name, DType dtype, int n_chunks, int each) {
  Shape s{name, dtype, 2 * n_chunks, 32, 8, 128, int64_t{n_chunks} * each, {}, {}};
  for (int t = 0; t < s.tokens; ++t) {
    s.begin.push_back(t / 2 * each);
    s.end.push_back(t / 2 * each + each - 1 + t % 2);
  }
  return s;
}

int run(bool is_small) {
  const std::unique_ptr<Device> device = make_cuda_device(0);
  if (device == nullptr) {
    std::fprintf(stderr, "no CUDA device\n");
    return 1;
  }
  Bench bench(*device);
  const int part = is_small ? 10 : 1;
  bench.read_rate();
  for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
    const std::string type = dtype == DType::kF16 ? " f16" : " q8_0";
    measure(bench, nodes("nodes 256x512" + type, dtype, 256 / part, 512));
    measure(bench, {"inject 1x16384" + type, dtype, 1, 32, 8, 128, 16384 / part, {}, {}});
    measure(bench, {"inject 512x16384" + type, dtype, 512 / part, 32, 8, 128, 16384 / part, {}, {}});
    measure(bench, decode("decode 1x8192" + type, dtype, 1, 8192 / part));
    measure(bench, decode("decode 16x8192" + type, dtype, 16, 8192 / part));
    measure(bench, chunk_rows("chunks 200x500" + type, dtype, 200 / part, 500));
  }
  measure(bench, {"inject 1x16384 f32", DType::kF32, 1, 32, 8, 128, 16384 / part, {}, {}});
  device->sync();
  return 0;
}

}  // namespace
}  // namespace banyan::cuda

int main(int n_args, char** args) { return banyan::cuda::run(n_args > 1 && std::strcmp(args[1], "small") == 0); }
