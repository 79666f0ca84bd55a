// Ops between the beginning and the end of a replay: they leave what they leave when they run as they come, whatever became of the graph. On the CUDA
// device, a real one or the emulated one.
#ifdef BANYAN_TEST_CUDA
#include <array>
#include <atomic>
#include <bit>
#include <functional>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "check.h"
#include "data.h"
#include "device/buffer.h"
#include "device/replay.h"
#ifdef BANYAN_EMULATE
#include "cuda/emulate/runtime.h"
#endif

namespace banyan::test {
namespace {

constexpr int kVocabulary = 40, kDim = 256, kHeads = 4, kHeadDim = 64, kRows = 96, kInner = 512;

// A step of something like a decoder: T tokens are embedded, their keys and values go to a cache, they attend to it and to a memory, and go through a gate.
// Products of weights in slices and attention in splits take scratch memory.
class Step {
 public:
  Step(Device& device, uint64_t seed, int most_tokens) : device_(device), indices_(device) {
    Random random(seed);
    const auto put = [&](const void* from, size_t n_bytes) {
      memory_.emplace_back(device, n_bytes);
      device.to_device(memory_.back().as<void>(), from, n_bytes);
      return memory_.back().as<float>();
    };
    const auto weights = [&](DType dtype, int64_t rows, int64_t cols) {
      const Packed packed = random_packed(random, dtype, rows, cols, 0, 0.1f);
      return WeightView{put(packed.data(), packed.memory.size()), dtype, rows, cols};
    };
    const auto floats = [&](size_t n, float scale) { return put(random.floats(n, scale).data(), n * sizeof(float)); };
    table_ = weights(DType::kF16, kVocabulary, kDim);
    keys_ = weights(DType::kF16, kDim, kDim);
    up_ = weights(DType::kQ8_0, kInner, kDim);
    down_ = weights(DType::kQ4_K, kDim, kInner);
    norm_ = floats(kDim, 1);
    inv_freq_ = floats(kHeadDim / 2, 1);
    const auto n = static_cast<size_t>(most_tokens);
    for (float** to : {&x_, &normed_, &k_, &mixed_, &other_}) *to = floats(n * kDim, 0);
    for (float** to : {&gate_, &wide_}) *to = floats(n * kInner, 0);
    for (float** to : {&lse_, &other_lse_}) *to = floats(n * kHeads, 0);
    const std::vector<uint8_t> zeros(row_bytes(DType::kF16, 2 * kRows * kDim));
    auto* cache = reinterpret_cast<uint8_t*>(put(zeros.data(), zeros.size()));
    cache_ = {cache, cache + zeros.size() / 2, DType::kF16, kDim, kHeadDim};
  }

  // Everything that changes: token t of step i stands at position 3 i + t.
  void upload(int i, int n) {
    std::vector<int32_t> table;
    for (const int array : {0, 1, 2, 3, 4, 5}) {
      for (int t = 0; t < n; ++t) {
        const int position = 3 * i + t;
        table.push_back(
            std::array{(7 * i + 11 * t) % kVocabulary, position, position % kRows, 0, position + 1, position / 2}[static_cast<size_t>(array)]);
      }
    }
    indices_.reserve(4096);
    device_.to_device(indices_.as<int32_t>(), table.data(), table.size() * sizeof(int32_t));
  }

  void issue(Stream& s, int n) const {
    const auto indices = [&](int array) { return indices_.as<int32_t>() + array * n; };
    embed(s, {x_, table_, indices(0), n});
    norm(s, {normed_, x_, norm_, n, kDim, 1e-5f});
    gemm(s, {k_, normed_, keys_, nullptr, n, false});
    rope(s, {k_, indices(1), inv_freq_, n, kHeads, kHeadDim, 1, false});
    for (void* side : {cache_.k, cache_.v}) store(s, {side, cache_.dtype, kDim, kHeadDim, k_, indices(2), n, kHeads, kHeadDim});
    attend(s, attention(mixed_, lse_, indices(3), indices(4), n), 0);
    attend(s, attention(other_, other_lse_, indices(5), indices(4), n), 0);
    merge(s, {mixed_, lse_, mixed_, lse_, other_, other_lse_, n * kHeads, kHeadDim, 1});
    inject(s, {other_, k_, cache_, kRows, n, kHeads, kHeads, kHeadDim, 0.1f});
    gather(s, {normed_, other_, DType::kF32, indices(2), 0, kDim});  // of no rows
    norm(s, {x_, mixed_, norm_, n, kDim, 1e-5f});
    gemm(s, {gate_, x_, up_, nullptr, n, false});
    gemm(s, {wide_, other_, up_, nullptr, n, false});
    swiglu(s, {gate_, gate_, wide_, int64_t{n} * kInner});
    gemm(s, {x_, gate_, down_, nullptr, n, true});
  }

  std::vector<uint32_t> bits(int n) const {
    std::vector<float> out(static_cast<size_t>(n) * kDim);
    device_.to_host(out.data(), x_, out.size() * sizeof(float));
    std::vector<uint32_t> bits;
    for (const float x : out) bits.push_back(std::bit_cast<uint32_t>(x));
    return bits;
  }

 private:
  AttendArgs attention(float* out, float* lse, const int32_t* begin, const int32_t* end, int n) const {
    AttendArgs args{out, k_, cache_, begin, end, n, kHeads, kHeads, kHeadDim, 0.1f};
    args.lse = lse;
    return args;
  }

  Device& device_;
  std::vector<Buffer> memory_;
  Buffer indices_;
  WeightView table_, keys_, up_, down_;
  float *norm_, *inv_freq_, *x_, *normed_, *k_, *mixed_, *other_, *gate_, *wide_, *lse_, *other_lse_;
  KvView cache_;
};

struct Setting {
  const char* name;
  const char* value;
  Setting(const char* name, const char* value) : name(name), value(value) { set_environment(name, value); }
  ~Setting() { set_environment(name, ""); }
};

class ReplayChecks {
 public:
  Tally tally;

  void run() {
    if (make_cuda_device(0) == nullptr) return;
    repeated();
    other_counts();
    grown_scratch();
    cancelled();
    many_shapes();
    misused();
    refused_kernel();
#ifdef BANYAN_EMULATE
    no_scratch();
    no_graphs();
#endif
  }

 private:
  using Bits = std::vector<uint32_t>;
  static constexpr int kMost = 20;  // tokens

  void expect(bool is_right, const std::string& what) {
    ++(is_right ? tally.passed : tally.failed);
    if (!is_right) std::printf("  FAILED: %s\n", what.c_str());
  }
  template <class F> void expect_throws(Code code, F&& body, const char* what) {
    try {
      body();
    } catch (const Error& error) { return expect(error.code == code, std::string(what) + ": " + error.what()); }
    expect(false, std::string(what) + ": nothing was thrown");
  }

  static std::unique_ptr<Device> device_with(const char* graphs) {
    const Setting setting("BANYAN_CUDA_GRAPH", graphs);
    return make_cuda_device(0);
  }

  static void step(Device& device, Step& step, int i, int n) {
    Stream s = device.stream();
    step.upload(i, n);
    Replay replay(&device, s);
    step.issue(s, n);
    replay.end();
  }
  static Bits bits_of(Device& device, Step& of, int i, int n) {
    step(device, of, i, n);
    return of.bits(n);
  }

  // Bits of each step where nothing is replayed.
  static std::vector<Bits> plain(uint64_t seed, const std::vector<int>& counts) {
    const auto device = device_with("0");
    Step plain(*device, seed, kMost);
    std::vector<Bits> all;
    for (size_t i = 0; i < counts.size(); ++i) all.push_back(bits_of(*device, plain, static_cast<int>(i), counts[i]));
    return all;
  }

  // Two that take turns, as sessions do: each runs once as it is, then as a graph, with other indices every time.
  void repeated() {
    constexpr int kSteps = 5;
    const std::vector<Bits> first = plain(1, std::vector<int>(kSteps, 1)), second = plain(2, std::vector<int>(kSteps, 2));
    expect(first[1] != first[2] && first[2] != first[3], "steps differ");
    const auto device = device_with("");
    Step one(*device, 1, kMost), two(*device, 2, kMost);
    bool is_same = true;
    for (size_t i = 0; i < kSteps; ++i) {
      is_same = is_same && bits_of(*device, one, static_cast<int>(i), 1) == first[i];
      is_same = is_same && bits_of(*device, two, static_cast<int>(i), 2) == second[i];
      expect(device->n_replayed() == 2 * i, "all but the first of each are graphs");
    }
    expect(is_same, "a graph leaves the bits that its ops leave");
    const auto without = device_with("0");
    Step alone(*without, 1, kMost);
    for (int i = 0; i < 3; ++i) step(*without, alone, i, 1);
    expect(without->n_replayed() == 0, "no graphs with BANYAN_CUDA_GRAPH=0");
  }

  // Other counts, then the same addresses in other memory: each is another graph.
  void other_counts() {
    const std::vector<int> counts{1, 1, 3, 1, 3, 20, 20, 3, 1};
    const std::vector<Bits> expected = plain(3, counts);
    const auto device = device_with("");
    Step step(*device, 3, kMost);
    bool is_same = true;
    for (size_t i = 0; i < counts.size(); ++i) is_same = is_same && bits_of(*device, step, static_cast<int>(i), counts[i]) == expected[i];
    expect(is_same, "other counts");
    expect(device->n_replayed() == counts.size() - 3, "one graph for each count");
    const std::vector<Bits> others = plain(4, {1, 1, 1});
    Step other(*device, 4, kMost);
    for (size_t i = 0; i < others.size(); ++i) is_same = is_same && bits_of(*device, other, static_cast<int>(i), 1) == others[i];
    expect(is_same, "other addresses");
    expect(device->n_replayed() == counts.size() - 3 + 2, "and another for other addresses");
  }

  // What a graph took of the scratch memory is gone when that has grown. (On the emulated device a stale address ends the process.)
  void grown_scratch() {
    const std::vector<Bits> expected = plain(5, {1, 1, 1, 20, 1, 1});
    const auto device = device_with("");
    Step step(*device, 5, kMost);
    bool is_same = true;
    for (const int i : {0, 1, 2}) is_same = is_same && bits_of(*device, step, i, 1) == expected[static_cast<size_t>(i)];
    expect(device->n_replayed() == 2, "graphs before the growth");
    is_same = is_same && bits_of(*device, step, 3, 20) == expected[3];
    for (const int i : {4, 5}) is_same = is_same && bits_of(*device, step, i, 1) == expected[static_cast<size_t>(i)];
    expect(is_same, "bits after the scratch memory has grown");
    expect(device->n_replayed() == 4, "graphs after it");
  }

  void cancelled() {
    const std::vector<Bits> expected = plain(6, {1, 1, 1, 1});
    const auto device = device_with("");
    Step step(*device, 6, kMost);
    std::atomic<bool> is_cancelled{true};
    const auto cancelled_step = [&] {
      Stream s = device->stream();
      s.cancel = &is_cancelled;
      step.upload(9, 1);
      is_cancelled = false;
      Replay replay(device.get(), s);
      step.issue(s, 1);
      is_cancelled = true;
      replay.end();
    };
    cancelled_step();
    bool is_same = bits_of(*device, step, 0, 1) == expected[0];
    expect(device->n_replayed() == 0, "what was cancelled was not seen");
    is_same = is_same && bits_of(*device, step, 1, 1) == expected[1];
    cancelled_step();
    expect(step.bits(1) == expected[1] && device->n_replayed() == 1, "cancelled, a graph is not started");
    {
      Stream s = device->stream();
      const Replay dropped(device.get(), s);
      step.issue(s, 1);
    }
    expect(step.bits(1) == expected[1] && device->n_replayed() == 1, "nor without an end");
    for (const int i : {2, 3}) is_same = is_same && bits_of(*device, step, i, 1) == expected[static_cast<size_t>(i)];
    expect(is_same && device->n_replayed() == 3, "afterwards all is as it was");
  }

  // More shapes than graphs are kept: all are right, and the latest have graphs.
  void many_shapes() {
    constexpr int kShapes = 40;
    const auto device = device_with("");
    Stream s = device->stream();
    const std::vector<float> zeros(kShapes, 0.0f), ones(kShapes, 1.0f);
    const Buffer x(*device, kShapes * sizeof(float)), one(*device, kShapes * sizeof(float));
    device->to_device(one.as<float>(), ones.data(), kShapes * sizeof(float));
    // An element n becomes silu(1) * 1 of n.
    const auto count_to = [&](int n) {
      device->to_device(x.as<float>(), zeros.data(), kShapes * sizeof(float));
      Replay replay(device.get(), s);
      swiglu(s, {x.as<float>(), one.as<float>(), one.as<float>(), n});
      replay.end();
      std::vector<float> got(kShapes);
      device->to_host(got.data(), x.as<float>(), kShapes * sizeof(float));
      return std::count_if(got.begin(), got.end(), [](float value) { return value > 0.7f; }) == n && got[static_cast<size_t>(n) - 1] > 0.7f;
    };
    bool is_right = true;
    for (int round = 0; round < 2; ++round) {
      for (int n = 1; n <= kShapes; ++n) is_right = is_right && count_to(n);
    }
    expect(device->n_replayed() == 0, "what is forgotten before it comes again has no graph");
    for (const int n : {kShapes, kShapes - 1, kShapes, kShapes - 1}) is_right = is_right && count_to(n);
    expect(device->n_replayed() == 4, "the latest have");
    expect(is_right, "more shapes than are kept");
  }

  void misused() {
    const auto device = device_with("");
    std::optional<Step> step;
    step.emplace(*device, 7, kMost);
    Buffer buffer(*device, 64);
    float number = 0;
    const auto between = [&](const std::function<void()>& body) {
      Stream s = device->stream();
      step->upload(0, 1);
      Replay replay(device.get(), s);
      step->issue(s, 1);
      body();
      replay.end();
    };
    expect_throws(
        Code::kInternal, [&] { between([&] { device->allocate(8); }); }, "an allocation in between");
    expect_throws(
        Code::kInternal, [&] { between([&] { device->to_host(&number, buffer.as<float>(), 4); }); }, "a copy from it in between");
    expect_throws(
        Code::kInternal, [&] { between([&] { device->to_device(buffer.as<float>(), &number, 4); }); }, "a copy to it in between");
    expect_throws(
        Code::kInternal, [&] { between([&] { device->sync(); }); }, "waiting in between");
    expect_throws(
        Code::kInternal, [&] { between([&] { buffer = Buffer(); }); }, "a release in between");
    Stream other = device->stream();
    expect_throws(
        Code::kInternal, [&] { between([&] { const Replay inner(device.get(), other); }); }, "a replay in a replay");
    expect(bits_of(*device, *step, 0, 1) == plain(7, {1})[0] && device->n_replayed() == 0, "after all that");
  }

  // A kernel that no device starts: the error is told each time, and the next replay knows nothing of it.
  void refused_kernel() {
    const auto device = device_with("");
    Step step(*device, 8, kMost);
    const Buffer buffer(*device, 4096);
    for (int i = 0; i < 3; ++i) {
      Stream s = device->stream();
      Replay replay(device.get(), s);
      rope(s, {buffer.as<float>(), buffer.as<int32_t>(), buffer.as<float>(), 1, 1 << 30, 512, 1, false});
      replay.end();
      expect_throws(
          Code::kDeviceFailed, [&] { device->sync(); }, "an impossible grid");
#ifdef BANYAN_EMULATE
      emulate::forget_failure();
#endif
    }
    const std::vector<Bits> expected = plain(8, {1, 1});
    const uint64_t before = device->n_replayed();
    const bool is_same = bits_of(*device, step, 0, 1) == expected[0] && bits_of(*device, step, 1, 1) == expected[1];
    expect(is_same && device->n_replayed() == before + 1, "after a kernel that was refused");
  }

#ifdef BANYAN_EMULATE
  // No scratch memory when it is first wanted: that is told, and what comes later does not suffer.
  void no_scratch() {
    const std::vector<Bits> expected = plain(9, {1, 1, 1, 1});
    const auto device = device_with("");
    Step one(*device, 9, kMost);
    one.upload(0, 1);
    {
      const Setting none("BANYAN_EMULATED_MIB", "0");
      step(*device, one, 0, 1);
      expect_throws(
          Code::kOutOfMemory, [&] { device->sync(); }, "no scratch memory");
    }
    bool is_same = bits_of(*device, one, 0, 1) == expected[0];
    expect(device->n_replayed() == 0, "a capture that finds too little scratch memory makes no graph");
    for (const int i : {1, 2, 3}) is_same = is_same && bits_of(*device, one, i, 1) == expected[static_cast<size_t>(i)];
    expect(is_same && device->n_replayed() == 3, "once there is enough it makes one");
  }

  // A driver that cannot capture (0), one that refuses to make the graph (3 kernels at most).
  void no_graphs() {
    const std::vector<Bits> expected = plain(10, {1, 1, 1});
    for (const char* most : {"0", "3"}) {
      const Setting setting("BANYAN_EMULATED_GRAPHS", most);
      const auto device = device_with("");
      Step step(*device, 10, kMost);
      bool is_same = true;
      for (const int i : {0, 1, 2}) is_same = is_same && bits_of(*device, step, i, 1) == expected[static_cast<size_t>(i)];
      expect(is_same && device->n_replayed() == 0, "without graphs");
    }
  }
#endif
};

}  // namespace

Tally replay_suite() {
  ReplayChecks checks;
  checks.run();
  return checks.tally;
}

}  // namespace banyan::test

#endif
