// attend and inject against float64.
#include <algorithm>
#include <map>

#include "cases.h"
#include "check.h"
#include "data.h"
#include "reference.h"

namespace banyan::test {
namespace {

// Keys and values in the case's format and layout, and the same numbers dense for the reference.
struct Cache {
  Packed k, v;
  KvView view;
  std::vector<double> keys, values;  // [N, G, C]
};

Cache make_cache(Random& random, DType dtype, int n_rows, int heads, int head_dim, bool is_head_major, float spread) {
  Cache cache;
  cache.k = random_packed(random, dtype, int64_t{n_rows} * heads, head_dim, 0, spread);
  cache.v = random_packed(random, dtype, int64_t{n_rows} * heads, head_dim);
  cache.view = {cache.k.data(), cache.v.data(), dtype, is_head_major ? head_dim : int64_t{heads} * head_dim,
      is_head_major ? int64_t{n_rows} * head_dim : head_dim};
  for (int n = 0; n < n_rows; ++n) {
    for (int g = 0; g < heads; ++g) {
      for (int c = 0; c < head_dim; ++c) {
        const int64_t at = n * cache.view.row_stride + g * cache.view.head_stride + c;
        cache.keys.push_back(element(dtype, cache.k.data(), at));
        cache.values.push_back(element(dtype, cache.v.data(), at));
      }
    }
  }
  return cache;
}

void make_ranges(Random& random, const AttendCase& c, std::vector<int32_t>& begin, std::vector<int32_t>& end) {
  const int start = random.below(4) * random.below(4) % c.keys;
  for (int t = 0; t < c.tokens; ++t) {
    const int causal = std::max(1, c.keys - c.tokens + t + 1);
    switch (c.ranges) {
      case Ranges::kCausal:
        begin.push_back(0);
        end.push_back(causal);
        break;
      case Ranges::kWindow:  // slides
        begin.push_back(std::max(0, causal - 1 - 7 * start));
        end.push_back(causal);
        break;
      case Ranges::kNodes:
        begin.push_back(t / 7 * 5 % c.keys);
        end.push_back(std::min(c.keys, begin.back() + t % 7 + 1));
        break;
      case Ranges::kRandom:
        begin.push_back(random.below(c.keys));
        end.push_back(begin.back() + random.below(c.keys - begin.back() + 1));
        break;
      case Ranges::kSome:
        begin.push_back(0);
        end.push_back(t % 3 == 1 ? 0 : c.keys);
        break;
      case Ranges::kEmpty:
        begin.push_back(5);
        end.push_back(t % 2 == 0 ? 5 : 3);
        break;
      case Ranges::kPairs: pair_range(t, c.tokens, c.keys, begin, end); break;
    }
  }
}

struct Expected {
  Attention<double> oracle;
  Attention<float> naive;
};

// Runs `op`, compares with the reference of `args` and with the same case under another number of threads.
template <class Op> void check_case(Run& run, const std::string& what, AttendArgs args, const Cache& cache, bool has_lse, Op op) {
  static std::map<std::string, Expected> expected;
  static std::map<std::string, std::vector<float>> outputs;
  if (expected.find(what) == expected.end()) {
    expected[what] = {attend<double>(args, cache.keys, cache.values), attend<float>(args, cache.keys, cache.values)};
  }
  const auto& [oracle, naive] = expected[what];
  std::vector<float> out(oracle.out.size(), NAN), lse(oracle.lse.size(), NAN);
  args.out = out.data();
  if (has_lse) args.lse = lse.data();
  op(args);
  run.check_near(out, oracle.out, naive.out, what);
  if (has_lse) run.check_logarithms(lse, oracle.lse, naive.lse, what + ", lse");
  std::vector<float>& first = outputs[run.stream.ops->name + what];
  if (first.empty()) first = out;
  else run.check(first == out, what + ": depends on the number of threads");
}

}  // namespace

void attend_suite(Run& run) {
  int i = 0;
  for (const AttendCase& c : attend_cases()) {
    Random random(static_cast<uint64_t>(++i));
    const Cache cache = make_cache(random, c.dtype, c.keys, c.kv_heads, c.head_dim, c.is_head_major, c.spread);
    const std::vector<float> q = random.floats(static_cast<size_t>(c.tokens * c.heads * c.head_dim), 3.0f);
    std::vector<int32_t> begin, end;
    make_ranges(random, c, begin, end);
    const float scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
    const AttendArgs args{nullptr, q.data(), cache.view, begin.data(), end.data(), c.tokens, c.heads, c.kv_heads, c.head_dim, scale};
    const std::string what = "attend " + std::to_string(i) + " T=" + std::to_string(c.tokens) + " H=" + std::to_string(c.heads) +
                             " G=" + std::to_string(c.kv_heads) + " C=" + std::to_string(c.head_dim) + " N=" + std::to_string(c.keys);
    check_case(run, what, args, cache, i % 5 != 0, [&run](const AttendArgs& a) { attend(run.stream, a, 0); });
  }
}

void inject_suite(Run& run) {
  int i = 0;
  for (const InjectCase& c : kInjectCases) {
    Random random(static_cast<uint64_t>(++i));
    const Cache cache = make_cache(random, c.dtype, c.slots, c.kv_heads, c.head_dim, true, 1.0f);
    const std::vector<float> q = random.floats(static_cast<size_t>(c.tokens * c.heads * c.head_dim), 3.0f);
    const std::vector<int32_t> begin(static_cast<size_t>(c.tokens), 0), end(static_cast<size_t>(c.tokens), c.slots);
    const float scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
    const AttendArgs args{nullptr, q.data(), cache.view, begin.data(), end.data(), c.tokens, c.heads, c.kv_heads, c.head_dim, scale};
    check_case(run, "inject " + std::to_string(i), args, cache, false, [&run, &c](const AttendArgs& a) {
      inject(run.stream, {a.out, a.q, a.kv, c.slots, a.n_tokens, a.n_heads, a.n_kv_heads, a.head_dim, a.scale});
    });
  }
}

}  // namespace banyan::test
