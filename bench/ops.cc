// bench ops: how near each op comes to what the machine can do. Peaks are measured in the same run: multiply-adds by a loop over registers,
// reading by a loop over memory. A peak is the best of its runs, an op the median.
// Weights rotate through more memory than the last-level cache holds.
// Usage: banyan_ops_bench [--threads N] [--variant NAME] [--versus NAME] [--case TEXT] [--clock cpu]
// TEXT: only cases whose line contains it. --clock cpu: one thread, timed by the work it got done on a busy machine. --versus: each gemm with this
// variant too, in pairs.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "cases.h"
#include "cpu/dispatch.h"
#include "cpu/features.h"
#include "cpu/threads.h"
#include "data.h"
#include "device/ops.h"
#include "peaks.h"

using namespace banyan;
using namespace banyan::test;
using namespace banyan::bench;

namespace {

constexpr size_t kReadBytes = size_t{1} << 30;  // about what a token reads of a model, and more than any last-level cache keeps of it

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Time this thread has computed: on a machine shared with others it leaves out the time they had the core. Means something with one thread only.
double cpu_seconds_now() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
#else
  return seconds_now();
#endif
}

double (*clock_now)() = seconds_now;

struct Times { double median, best; };

// Time of a call; at least 5 calls and 0.3 s.
Times measure(const std::function<void(int)>& call) {
  call(0);
  std::vector<double> times;
  const double start = seconds_now();
  for (int i = 1; times.size() < 5 || (seconds_now() - start < 0.3 && times.size() < 2000); ++i) {
    const double before = clock_now();
    call(i);
    times.push_back(clock_now() - before);
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times.front()};
}

struct Machine {
  Threads& threads;
  Stream stream;
  std::string filter;
  double peak_gflops = 0, peak_gops = 0, peak_gbytes = 0;  // gops: of bytes; 0 where there are none

  const Ops* versus = nullptr;

  bool multiplies_bytes() const { return peak_gops > 0; }  // gemm of block formats does
  bool wants(const std::string& line) const { return line.find(filter) != std::string::npos; }
  // `amount` in units of 1e9 per second. The last column is the best run: on a busy machine the median tells more about the neighbours.
  void print(const std::string& line, const char* unit, double amount, Times times, double peak) const {
    const double rate = amount / times.median * 1e-9;
    std::printf("%-44s %10.1f us %7.1f %-7s %5.1f %% of peak, best %5.1f %%\n", line.c_str(), times.median * 1e6, rate, unit, 100 * rate / peak,
                100 * amount / times.best * 1e-9 / peak);
    std::fflush(stdout);
  }
  // The same call with the other variant, in turns: the median of the ratios is what two variants differ by on a machine that others use.
  void print_pairs(const std::function<void(int)>& call) {
    const Ops* const ours = stream.ops;
    std::vector<double> ratios;
    const double start = seconds_now();
    for (int i = 0; ratios.size() < 7 || (seconds_now() - start < 0.5 && ratios.size() < 500); ++i) {
      const double first = clock_now();
      call(2 * i);
      const double second = clock_now();
      stream.ops = versus;
      call(2 * i + 1);
      stream.ops = ours;
      ratios.push_back((clock_now() - second) / (second - first));
    }
    std::sort(ratios.begin(), ratios.end());
    std::printf("  %-42s %10.2f times as fast as %s (middle half of %zu pairs: %.2f to %.2f)\n", "", ratios[ratios.size() / 2], versus->name, ratios.size(),
                ratios[ratios.size() / 4], ratios[ratios.size() * 3 / 4]);
    std::fflush(stdout);
  }
  void print_gflops(const std::string& line, double flops, Times times) const { print(line, "GFLOP/s", flops, times, peak_gflops); }
  void print_gops(const std::string& line, double n_ops, Times times) const { print(line, "GOP/s", n_ops, times, peak_gops); }
  void print_gbytes(const std::string& line, double n_bytes, Times times) const { print(line, "GB/s", n_bytes, times, peak_gbytes); }
};

void measure_peaks(Machine& machine) {
  const int n = machine.threads.n_threads();
  const MultiplyAdds loop = peak_loop(machine.stream.ops->name);
  const auto peak_of = [&](const MultiplyAdds& one) {
    const Threads::Phase multiply_adds{n, multiply_adds_task, &one};
    return 2e-9 * n * one() / measure([&](int) { machine.threads.run(&multiply_adds, 1); }).best;
  };
  machine.peak_gflops = peak_of(loop);
  const MultiplyAdds byte_loop = byte_peak_loop(machine.stream.ops->name);
  if (byte_loop != nullptr) machine.peak_gops = peak_of(byte_loop);
  const MultiplyAdds tile_loop = tile_peak_loop(machine.stream.ops->name);
  const AlignedBytes memory(kReadBytes);
  std::memset(memory.data(), 1, memory.size());
  const Reading reading{memory.data(), memory.size(), 64 * n};
  const Threads::Phase read{reading.n_tasks, read_task, &reading};
  machine.peak_gbytes = 1e-9 * static_cast<double>(kReadBytes) / measure([&](int) { machine.threads.run(&read, 1); }).best;
  std::printf("%s, %d threads: peak %.1f GFLOP/s, ", machine.stream.ops->name, n, machine.peak_gflops);
  if (machine.multiplies_bytes()) std::printf("%.1f GOP/s of bytes, ", machine.peak_gops);
  if (tile_loop != nullptr) std::printf("%.1f GFLOP/s of tiles, ", peak_of(tile_loop));
  std::printf("%.1f GB/s\n", machine.peak_gbytes);
}

// ---- ops ----

void bench_gemm(Machine& machine) {
  for (const GemmBench& c : gemm_benches()) {
    const std::string line = std::string("gemm ") + traits(c.dtype).name + " " + std::to_string(c.tokens) + " x " + std::to_string(c.rows) + " x " + std::to_string(c.cols);
    if (!machine.wants(line)) continue;
    Random random(1);
    const size_t n_bytes = row_bytes(c.dtype, c.cols) * static_cast<size_t>(c.rows);
    const size_t n_copies = c.tokens > 32 ? 1 : std::max<size_t>(1, kReadBytes / n_bytes);
    const Packed once = random_packed(random, c.dtype, c.rows, c.cols);
    const AlignedBytes weights(n_copies * n_bytes);  // one behind the other, in huge pages, as a model's lie
    for (size_t i = 0; i < n_copies; ++i) std::memcpy(weights.data() + i * n_bytes, once.data(), n_bytes);
    const std::vector<float> x = random.floats(static_cast<size_t>(c.tokens * c.cols));
    std::vector<float> out(static_cast<size_t>(c.tokens * c.rows));
    const double n_ops = 2.0 * c.tokens * static_cast<double>(c.rows) * static_cast<double>(c.cols);
    const auto call = [&](int i) {
      gemm(machine.stream, {out.data(), x.data(), {weights.data() + static_cast<size_t>(i) % n_copies * n_bytes, c.dtype, c.rows, c.cols}, nullptr, c.tokens, false});
    };
    const Times times = measure(call);
    if (traits(c.dtype).block_size > 1 && machine.multiplies_bytes()) machine.print_gops(line, n_ops, times);
    else machine.print_gflops(line, n_ops, times);
    if (c.tokens <= 32) machine.print_gbytes("  its weights", static_cast<double>(n_bytes), times);
    if (machine.versus != nullptr) machine.print_pairs(call);
  }
}

// Keys and values one behind the other in huge pages, as an engine's lie.
struct Caches { AlignedBytes memory; std::vector<KvView> views; };

// Head-major: each head's rows lie together, as a session's and a question's do on the CPU; or, of slots, its tiles. Else token by token. One token meets more
// of them in turns than the last-level cache holds.
Caches make_caches(int n_tokens, DType dtype, int n_rows, int heads, int head_dim, bool is_head_major, bool is_tiled) {
  constexpr int kSome = 960;  // rows of a head, whole tiles; repeated: making numbers would take longer than measuring
  Random random(2);
  const Packed rows = random_packed(random, dtype, kSome, head_dim);
  const auto some = [&](SlotOrder order) { return is_tiled ? in_tiles(order, rows.data(), kSome, 1, head_dim) : rows; };
  const Packed sides[] = {some(SlotOrder::kKeyTiles), some(SlotOrder::kValueTiles)};
  const int64_t head_rows = is_tiled ? tiled_slots(n_rows) : n_rows;
  const size_t side = row_bytes(dtype, head_rows * heads * head_dim), some_bytes = row_bytes(dtype, int64_t{kSome} * head_dim);
  const size_t n_copies = n_tokens > 1 ? 1 : std::max<size_t>(1, kReadBytes / (2 * side));
  Caches caches{AlignedBytes(n_copies * 2 * side), {}};
  std::byte* at = caches.memory.data();
  for (size_t i = 0; i < n_copies; ++i) {
    const int64_t row_stride = is_head_major ? head_dim : int64_t{heads} * head_dim, head_stride = is_head_major ? head_rows * head_dim : head_dim;
    caches.views.push_back({at, at + side, dtype, row_stride, head_stride, is_tiled});
    for (const Packed& packed : sides) {
      for (size_t done = 0; done < side; done += some_bytes) std::memcpy(at + done, packed.data(), std::min(some_bytes, side - done));
      at += side;
    }
  }
  return caches;
}

void print_attention(Machine& machine, const std::string& line, double n_pairs, int heads, int kv_heads, int head_dim, int keys, DType dtype, bool is_read_once, Times times) {
  machine.print_gflops(line, 4.0 * n_pairs * heads * head_dim, times);
  if (is_read_once) machine.print_gbytes("  its keys and values", 2.0 * static_cast<double>(row_bytes(dtype, int64_t{keys} * kv_heads * head_dim)), times);
}

void bench_attend(Machine& machine) {
  for (const AttendCase& c : kAttendBenches) {
    const std::string line = std::string("attend ") + traits(c.dtype).name + " T=" + std::to_string(c.tokens) + " H=" + std::to_string(c.heads) + "/" + std::to_string(c.kv_heads) +
                             " C=" + std::to_string(c.head_dim) + " N=" + std::to_string(c.keys) + (c.ranges == Ranges::kPairs ? " pairs" : "") + (c.is_head_major ? "" : " by token");
    if (!machine.wants(line)) continue;
    Random random(1);
    const Caches caches = make_caches(c.tokens, c.dtype, c.keys, c.kv_heads, c.head_dim, c.is_head_major, false);
    const std::vector<float> q = random.floats(static_cast<size_t>(c.tokens * c.heads * c.head_dim));
    std::vector<float> out(q.size());
    std::vector<int32_t> begin, end;
    double n_pairs = 0;
    for (int t = 0; t < c.tokens; ++t) {
      if (c.ranges == Ranges::kPairs) pair_range(t, c.tokens, c.keys, begin, end);
      else begin.push_back(0), end.push_back(c.keys - c.tokens + t + 1);
      n_pairs += end.back() - begin.back();
    }
    const Times times = measure([&](int i) {
      attend(machine.stream, {out.data(), q.data(), caches.views[static_cast<size_t>(i) % caches.views.size()], begin.data(), end.data(), c.tokens, c.heads, c.kv_heads, c.head_dim, 0.125f}, 0);
    });
    print_attention(machine, line, n_pairs, c.heads, c.kv_heads, c.head_dim, c.keys, c.dtype, c.tokens == 1 || c.ranges == Ranges::kPairs, times);
  }
}

void bench_inject(Machine& machine) {
  for (const InjectCase& c : kInjectBenches) {
    const std::string line = std::string("inject ") + traits(c.dtype).name + " T=" + std::to_string(c.tokens) + " H=" + std::to_string(c.heads) + "/" + std::to_string(c.kv_heads) +
                             " C=" + std::to_string(c.head_dim) + " N=" + std::to_string(c.slots);
    if (!machine.wants(line)) continue;
    Random random(1);
    const bool is_tiled = c.dtype == DType::kQ8_0 && machine.stream.ops->has_slot_tiles;  // as the engine does it
    const Caches caches = make_caches(c.tokens, c.dtype, c.slots, c.kv_heads, c.head_dim, true, is_tiled);
    const std::vector<float> q = random.floats(static_cast<size_t>(c.tokens * c.heads * c.head_dim));
    std::vector<float> out(q.size());
    const Times times = measure([&](int i) {
      inject(machine.stream, {out.data(), q.data(), caches.views[static_cast<size_t>(i) % caches.views.size()], c.slots, c.tokens, c.heads, c.kv_heads, c.head_dim, 0.125f});
    });
    print_attention(machine, line, static_cast<double>(c.tokens) * c.slots, c.heads, c.kv_heads, c.head_dim, c.slots, c.dtype, c.tokens == 1, times);
  }
}

// The cheap ops, as a prefill of 512 tokens meets them; bytes read and written.
void bench_rows(Machine& machine) {
  constexpr int kTokens = 512, kDim = 2048, kInner = 8192, kHeads = 32, kHeadDim = 64;
  Random random(1);
  const std::vector<float> weight = random.floats(kDim), up = random.floats(size_t{kTokens} * kInner), x = random.floats(size_t{kTokens} * kInner);
  std::vector<float> out(size_t{kTokens} * kInner);
  const float* const weight_of_rows = up.data() + kTokens * kDim;  // any numbers will do
  std::vector<uint16_t> cache(size_t{kTokens} * kDim);
  std::vector<int32_t> rows(kTokens), begin(kTokens / 8), end(kTokens / 8);
  for (int t = 0; t < kTokens; ++t) rows[static_cast<size_t>(t)] = t;
  for (int i = 0; i < kTokens / 8; ++i) end[static_cast<size_t>(i)] = (begin[static_cast<size_t>(i)] = 8 * i) + 8;
  const double n_bytes = 4.0 * kTokens * kDim;
  const auto print = [&machine](const char* line, double bytes, const std::function<void(int)>& call) {
    if (machine.wants(line)) machine.print_gbytes(line, bytes, measure(call));
  };
  print("norm 512 x 2048", 2 * n_bytes, [&](int) { norm(machine.stream, {out.data(), x.data(), weight.data(), kTokens, kDim, 1e-5f}); });
  print("norm 1 x 2048", 2 * n_bytes / kTokens, [&](int) { norm(machine.stream, {out.data(), x.data(), weight.data(), 1, kDim, 1e-5f}); });
  print("rope 512 x 32 x 64", 2 * n_bytes, [&](int) { rope(machine.stream, {out.data(), rows.data(), weight.data(), kTokens, kHeads, kHeadDim, 1.0f, false}); });
  print("store F16 512 x 32 x 64", 1.5 * n_bytes, [&](int) {
    store(machine.stream, {cache.data(), DType::kF16, kDim, kHeadDim, x.data(), rows.data(), kTokens, kHeads, kHeadDim});
  });
  print("store Q8_0 512 x 32 x 64", (1 + 34 / 128.0) * n_bytes, [&](int) {
    store(machine.stream, {cache.data(), DType::kQ8_0, kDim, kHeadDim, x.data(), rows.data(), kTokens, kHeads, kHeadDim});
  });
  print("merge 512 x 32 x 64", 3 * n_bytes, [&](int) {
    merge(machine.stream, {out.data(), nullptr, x.data(), weight_of_rows, up.data(), weight_of_rows + 1, kTokens * kHeads, kHeadDim, 1.0f});
  });
  print("gather F16 512 x 2048", 1.5 * n_bytes, [&](int) { gather(machine.stream, {out.data(), cache.data(), DType::kF16, rows.data(), kTokens, kDim}); });
  print("compress F16 512 / 8 x 32 x 64", (1 + 1 / 16.0) * n_bytes, [&](int) {
    compress(machine.stream, {cache.data(), DType::kF16, rows.data(), rows.data(), 0, x.data(), begin.data(), end.data(), rows.data(), weight.data(), 1.0f,
                                 kTokens / 8, kHeads, kHeadDim, false});
  });
  print("swiglu 512 x 8192", 12.0 * kTokens * kInner, [&](int) { swiglu(machine.stream, {out.data(), x.data(), up.data(), int64_t{kTokens} * kInner}); });
}

// The next token of a large vocabulary, as users mostly choose it; bytes of the logits.
void bench_sample(Machine& machine) {
  constexpr int kVocab = 128256;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  struct Way { const char* name; SampleRow row; };
  constexpr Way kWays[] = {
      {"sample greedy", {kInfinity, -kInfinity, 1, 0, 0, 0, 0}},
      {"sample temperature 0.7", {1 / 0.7f, -kInfinity, 1, 0, 0.99, 0, 0}},
      {"sample top-p 0.95", {1 / 0.7f, -kInfinity, 0.95f, 0, 0.99, 0, 0}},
      {"sample top-k 40 top-p 0.95", {1 / 0.7f, -kInfinity, 0.95f, 40, 0.99, 0, 0}},
  };
  Random random(1);
  std::vector<float> logits = random.floats(kVocab);
  for (float& logit : logits) {  // about normal, with a tail: the few likely tokens
    for (int i = 0; i < 5; ++i) logit += random.uniform();
    if (random.below(2000) == 0) logit += 8 * std::fabs(random.uniform());
    logit *= 2;
  }
  int32_t id;
  for (const Way& way : kWays) {
    const std::string line = std::string(way.name) + " of " + std::to_string(kVocab);
    if (!machine.wants(line)) continue;
    machine.print_gbytes(line, sizeof(float) * kVocab, measure([&](int) { sample(machine.stream, {&id, logits.data(), &way.row, nullptr, 1, kVocab}); }));
  }
}

}  // namespace

int main(int n_args, char** args) {
  int n_threads = physical_cores();
  std::string variant, filter, versus;
  for (int i = 1; i + 1 < n_args; i += 2) {
    if (std::strcmp(args[i], "--threads") == 0) n_threads = std::max(1, std::atoi(args[i + 1]));
    if (std::strcmp(args[i], "--variant") == 0) variant = args[i + 1];
    if (std::strcmp(args[i], "--versus") == 0) versus = args[i + 1];
    if (std::strcmp(args[i], "--case") == 0) filter = args[i + 1];
    if (std::strcmp(args[i], "--clock") == 0 && std::strcmp(args[i + 1], "cpu") == 0) clock_now = cpu_seconds_now;
  }
  if (clock_now == cpu_seconds_now) n_threads = 1;
  Threads threads(n_threads);
  Machine machine{threads, {}, filter};
  machine.stream.ops = &choose_variant(variant);
  machine.stream.backend = &threads;
  if (!versus.empty()) machine.versus = &choose_variant(versus);
  measure_peaks(machine);
  bench_gemm(machine);
  bench_attend(machine);
  bench_inject(machine);
  bench_rows(machine);
  bench_sample(machine);
}
