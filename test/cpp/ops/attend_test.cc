// attend and inject against float64.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>

#include "attention.h"
#include "cases.h"
#include "check.h"
#include "data.h"
#include "reference.h"
#ifdef BANYAN_TEST_CUDA
#include "cuda/attend.h"
#endif

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

// Errors of naive code.
struct Errors {
  double out = 0, lse = 0;
};

struct Expected {
  Attention<double> oracle;
  std::map<Rounding, Errors> naive;
};

// Naive code may be right by luck in few rows: its error is taken over at least so many, with other queries for the same keys.
constexpr int kNaiveRows = 64;

Errors naive_errors(AttendArgs args, const Cache& cache, Rounding rounding, const Attention<double>& oracle) {
  const int n_rows = std::max(1, args.n_tokens * args.n_heads), n_rounds = (kNaiveRows + n_rows - 1) / n_rows;
  Errors errors;
  std::vector<float> q;
  for (int round = 0; round < n_rounds; ++round) {
    if (round > 0) {
      Random random(static_cast<uint64_t>(1000 + round));
      q = random.floats(oracle.out.size(), 3.0f);
      args.q = q.data();
    }
    const Attention<double> exact = round == 0 ? oracle : attend<double>(args, cache.keys, cache.values);
    const Attention<float> naive = naive_attention(args, cache.keys, cache.values, rounding);
    errors.out = std::max(errors.out, largest_difference(naive.out, exact.out));
    errors.lse = std::max(errors.lse, largest_finite_difference(naive.lse, exact.lse));
  }
  return errors;
}

// How a run computes the op: as it is, or by a path that a test chose.
struct Way {
  std::string name;
  Rounding (*rounding)(const Run&, DType keys, int n_rows);
};
const Way kAsItIs{"", rounding_of};

bool is_one_range(const AttendArgs& a) {
  const auto is_first = [](const int32_t* of_tokens, int n) {
    return std::all_of(of_tokens, of_tokens + n, [&](int32_t x) { return x == of_tokens[0]; });
  };
  return is_first(a.kv_begin, a.n_tokens) && is_first(a.kv_end, a.n_tokens);
}

// Runs `op`, compares with the reference of `args` and with the same case under another number of threads.
template <class Op> void check_case(Run& run, const Way& way, const std::string& what, AttendArgs args, const Cache& cache, bool has_lse, Op op) {
  static std::map<std::string, Expected> expected;
  static std::map<std::string, std::vector<float>> outputs;
  Expected& e = expected[what];
  if (e.naive.empty()) e.oracle = attend<double>(args, cache.keys, cache.values);
  const Rounding rounding = way.rounding(run, args.kv.dtype, args.n_tokens * args.n_heads / args.n_kv_heads);
  const Attention<double>& oracle = e.oracle;
  const auto errors_of = [&](Rounding by) {
    if (e.naive.find(by) == e.naive.end()) e.naive[by] = naive_errors(args, cache, by, oracle);
    return e.naive[by];
  };
  Errors naive = errors_of(rounding);
  const auto allow = [&](Rounding other) {
    const Errors errors = errors_of(other);
    naive = {std::max(naive.out, errors.out), std::max(naive.lse, errors.lse)};
  };
  if ((rounding == Rounding::kTwoBf16 || rounding == Rounding::kWords) && !is_one_range(args)) {  // tokens with ranges of their own may be few
    if (rounding == Rounding::kTwoBf16) allow(Rounding::kWords);
    if (args.kv.dtype == DType::kQ8_0) allow(Rounding::kInts);
  }
  std::vector<float> out(oracle.out.size(), NAN), lse(oracle.lse.size(), NAN);
  args.out = out.data();
  if (has_lse) args.lse = lse.data();
  op(args);
  run.check_near(out, oracle.out, naive.out, way.name + what);
  if (has_lse) run.check_logarithms(lse, oracle.lse, naive.lse, way.name + what + ", lse");
  std::vector<float>& first = outputs[run.stream.ops->name + way.name + what];
  if (first.empty()) first = out;
  else run.check(first == out, what + ": depends on the number of threads");
}

// Rows of keys and values that no token sees become NaN.
void spoil_unseen(Cache& cache, const AttendCase& c, const std::vector<int32_t>& begin, const std::vector<int32_t>& end) {
  for (int n = 0; n < c.keys; ++n) {
    bool is_seen = false;
    for (size_t t = 0; t < begin.size(); ++t) is_seen = is_seen || (begin[t] <= n && n < end[t]);
    if (is_seen) continue;
    for (int g = 0; g < c.kv_heads; ++g) {
      const size_t at = row_bytes(c.dtype, n * cache.view.row_stride + g * cache.view.head_stride), n_bytes = row_bytes(c.dtype, c.head_dim);
      std::memset(cache.k.data() + at, 0xFF, n_bytes);
      std::memset(cache.v.data() + at, 0xFF, n_bytes);
    }
  }
}

// Case `i`; what nobody sees is spoiled in every second one.
void check_attend(Run& run, const Way& way, const AttendCase& c, int i) {
  Random random(static_cast<uint64_t>(i));
  Cache cache = make_cache(random, c.dtype, c.keys, c.kv_heads, c.head_dim, c.is_head_major, c.spread);
  const std::vector<float> q = random.floats(static_cast<size_t>(c.tokens * c.heads * c.head_dim), 3.0f);
  std::vector<int32_t> begin, end;
  make_ranges(random, c, begin, end);
  if (i % 2 == 0) spoil_unseen(cache, c, begin, end);
  const float scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
  const AttendArgs args{nullptr, q.data(), cache.view, begin.data(), end.data(), c.tokens, c.heads, c.kv_heads, c.head_dim, scale};
  const std::string what = "attend " + std::to_string(i) + " T=" + std::to_string(c.tokens) + " H=" + std::to_string(c.heads) +
                           " G=" + std::to_string(c.kv_heads) + " C=" + std::to_string(c.head_dim) + " N=" + std::to_string(c.keys);
  check_case(run, way, what, args, cache, i % 5 != 0, [&run](const AttendArgs& a) { run.attend(a, 0); });
}

// Keys and values of a cache that lies token by token, in tiles.
struct Tiles {
  Packed k, v;
  KvView view;
  Tiles() = default;
  Tiles(const Cache& cache, int n_rows, int n_heads, int64_t head_dim)
      : k(in_tiles(SlotOrder::kKeyTiles, cache.k.data(), n_rows, n_heads, head_dim)),
        v(in_tiles(SlotOrder::kValueTiles, cache.v.data(), n_rows, n_heads, head_dim)),
        view{k.data(), v.data(), DType::kQ8_0, head_dim, tiled_slots(n_rows) * head_dim, true} {}
};

void check_inject(Run& run, const Way& way, const InjectCase& c, int i) {
  const bool has_tiles = c.dtype == DType::kQ8_0 && run.stream.ops->has_slot_tiles;
  for (const bool is_tiled : {false, true}) {
    if (is_tiled && !has_tiles) continue;
    Random random(static_cast<uint64_t>(i));
    const Cache cache = make_cache(random, c.dtype, c.slots, c.kv_heads, c.head_dim, !is_tiled && i % 2 == 0, 1.0f);
    const Tiles tiles = is_tiled ? Tiles(cache, c.slots, c.kv_heads, c.head_dim) : Tiles();
    const std::vector<float> q = random.floats(static_cast<size_t>(c.tokens * c.heads * c.head_dim), 3.0f);
    const std::vector<int32_t> begin(static_cast<size_t>(c.tokens), 0), end(static_cast<size_t>(c.tokens), c.slots);
    const KvView& view = is_tiled ? tiles.view : cache.view;
    const float scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
    const AttendArgs args{nullptr, q.data(), view, begin.data(), end.data(), c.tokens, c.heads, c.kv_heads, c.head_dim, scale};
    const Way in_floats{"", [](const Run&, DType, int) { return Rounding::kNone; }};  // where rows are not what inject is made for
    const Way in_tiles{"", [](const Run& by, DType keys, int n_rows) {
                         const Rounding rounding = rounding_of(by, keys, n_rows);
                         return rounding == Rounding::kTwoBf16 ? rounding : Rounding::kInts;
                       }};
    check_case(run,
        is_tiled    ? in_tiles
        : has_tiles ? in_floats
                    : way,
        "inject " + std::to_string(i) + (is_tiled ? ", tiles" : ""), args, cache, false, [&run, &c](const AttendArgs& a) {
          run.inject({a.out, a.q, a.kv, c.slots, a.n_tokens, a.n_heads, a.n_kv_heads, a.head_dim, a.scale});
        });
  }
}

#ifdef BANYAN_TEST_CUDA

cuda::AttendChoice chosen;
void attend_as_chosen(Stream& stream, const AttendArgs& args) { cuda::attend_by(stream, args, 0, chosen); }
void inject_as_chosen(Stream& stream, const InjectArgs& a) {
  cuda::attend_by(stream, {a.out, a.q, a.kv, nullptr, nullptr, a.n_tokens, a.n_heads, a.n_kv_heads, a.head_dim, a.scale}, a.n_slots, chosen);
}

// Calls `check` with the ops of `run` replaced by every path in turn; cases differ in the number of splits, which changes roundings only.
template <class Check> void check_paths(Run& run, int i, Check check) {
  const Ops* ops = run.stream.ops;
  Ops by_choice = *ops;
  by_choice.attend = attend_as_chosen;
  by_choice.inject = inject_as_chosen;
  constexpr int kSplits[] = {0, 1, 2, 3, 7};
  const Way ways[] = {
      {"by split, ", [](const Run&, DType, int) { return Rounding::kTwoHalves; }},
      {"by mma, ", [](const Run&, DType, int) { return Rounding::kHalf; }},
      {"exactly, ", [](const Run&, DType, int) { return Rounding::kNone; }},
  };
  constexpr cuda::AttendPath kPaths[] = {cuda::AttendPath::kSplit, cuda::AttendPath::kMma, cuda::AttendPath::kExact};
  run.stream.ops = &by_choice;
  for (size_t path = 0; path < std::size(ways); ++path) {
    chosen = {kPaths[path], kSplits[(static_cast<size_t>(i) + path) % std::size(kSplits)]};
    check(ways[path]);
  }
  run.stream.ops = ops;
}

#endif

}  // namespace

void attend_suite(Run& run) {
  int i = 0;
  for (const AttendCase& c : attend_cases()) {
    check_attend(run, kAsItIs, c, ++i);
#ifdef BANYAN_TEST_CUDA
    if (rounding_of(run, c.dtype, c.tokens * c.heads / c.kv_heads) == Rounding::kHalf)
      check_paths(run, i, [&](const Way& way) { check_attend(run, way, c, i); });
#endif
  }
}

void inject_suite(Run& run) {
  int i = 0;
  for (const InjectCase& c : kInjectCases) {
    check_inject(run, kAsItIs, c, ++i);
#ifdef BANYAN_TEST_CUDA
    if (rounding_of(run, c.dtype, c.tokens * c.heads / c.kv_heads) == Rounding::kHalf)
      check_paths(run, i, [&](const Way& way) { check_inject(run, way, c, i); });
#endif
  }
}

}  // namespace banyan::test
