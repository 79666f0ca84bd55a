// merge against float64, and attention over all keys against the two halves of it merged.
#include <algorithm>
#include <map>

#include "attention.h"
#include "cases.h"
#include "check.h"
#include "data.h"
#include "reference.h"

namespace banyan::test {
namespace {

constexpr float kNothing = -INFINITY;

// Logarithms of sums as attention meets them: near each other, so far apart that one side vanishes, and of sides without keys.
float random_lse(Random& random) {
  const int kind = random.below(8);
  if (kind == 0) return kNothing;
  return random.uniform() * (kind == 1 ? 300.0f : 5.0f);
}

void check_merge(Run& run, const RowsCase& c, float a_power) {
  Random random(static_cast<uint64_t>(c.dim));
  const size_t n = static_cast<size_t>(c.rows) * static_cast<size_t>(c.dim);
  std::vector<float> a = random.floats(n), b = random.floats(n), a_lse, b_lse;
  for (int i = 0; i < c.rows; ++i) {
    a_lse.push_back(random_lse(random));
    b_lse.push_back(random_lse(random));
  }
  const auto wide = [](const std::vector<float>& x) { return std::vector<double>(x.begin(), x.end()); };
  const Attention<double> oracle = merge<double>({wide(a), wide(a_lse)}, {wide(b), wide(b_lse)}, static_cast<double>(a_power));
  const Attention<float> naive = merge<float>({a, a_lse}, {b, b_lse}, a_power);
  std::vector<float> out(n, NAN), lse(a_lse.size(), NAN);
  const std::string what = "merge " + std::to_string(c.rows) + " x " + std::to_string(c.dim) + " power " + std::to_string(a_power);
  for (int row = 0; row < c.rows; ++row) {  // what does not count need not be numbers
    if (a_lse[static_cast<size_t>(row)] == kNothing) a[static_cast<size_t>(row) * static_cast<size_t>(c.dim)] = NAN;
    if (b_lse[static_cast<size_t>(row)] == kNothing) b[static_cast<size_t>(row) * static_cast<size_t>(c.dim)] = NAN;
  }
  run.merge({out.data(), lse.data(), a.data(), a_lse.data(), b.data(), b_lse.data(), c.rows, c.dim, a_power});
  run.check_near(out, oracle.out, naive.out, what);
  run.check_logarithms(lse, oracle.lse, naive.lse, what + ", lse");

  std::vector<float> into_a = a, into_b = b, into_a_lse = a_lse, into_b_lse = b_lse;
  run.merge({into_a.data(), into_a_lse.data(), into_a.data(), into_a_lse.data(), b.data(), b_lse.data(), c.rows, c.dim, a_power});
  run.check(into_a == out && into_a_lse == lse, what + ": over a");
  run.merge({into_b.data(), into_b_lse.data(), a.data(), a_lse.data(), into_b.data(), into_b_lse.data(), c.rows, c.dim, a_power});
  run.check(into_b == out && into_b_lse == lse, what + ": over b");
  std::fill(out.begin(), out.end(), NAN);
  run.merge({out.data(), nullptr, a.data(), a_lse.data(), b.data(), b_lse.data(), c.rows, c.dim, a_power});
  run.check(into_a == out, what + ": without lse");
}

// Attention over the keys [0, n), causal at their end, of one shape.
struct Halves {
  DType dtype;
  int tokens, heads, kv_heads, head_dim, keys;
  Packed k, v;
  std::vector<double> key_numbers, value_numbers;
  std::vector<float> q;

  Halves(DType dtype, int tokens, int group, int head_dim, int keys)
      : dtype(dtype), tokens(tokens), heads(2 * group), kv_heads(2), head_dim(head_dim), keys(keys) {
    Random random(static_cast<uint64_t>(tokens * 1000 + head_dim + group));
    k = random_packed(random, dtype, int64_t{keys} * kv_heads, head_dim);
    v = random_packed(random, dtype, int64_t{keys} * kv_heads, head_dim);
    key_numbers = elements(dtype, k.data(), int64_t{keys} * kv_heads, head_dim);
    value_numbers = elements(dtype, v.data(), int64_t{keys} * kv_heads, head_dim);
    q = random.floats(n_rows() * static_cast<size_t>(head_dim), 3.0f);
  }
  size_t n_rows() const { return static_cast<size_t>(tokens * heads); }
  std::string name() const {
    return std::string("merged halves ") + traits(dtype).name + " T=" + std::to_string(tokens) + " H=" + std::to_string(heads) +
           " C=" + std::to_string(head_dim) + " N=" + std::to_string(keys);
  }
};

// The part of the keys from `from` to `to`, as far as each token sees it.
struct Part {
  std::vector<int32_t> begin, end;
  AttendArgs args;

  Part(Halves& h, int from, int to) : begin(static_cast<size_t>(h.tokens), from) {
    for (int t = 0; t < h.tokens; ++t) end.push_back(std::min(to, h.keys - h.tokens + t + 1));
    const KvView kv{h.k.data(), h.v.data(), h.dtype, int64_t{h.kv_heads} * h.head_dim, h.head_dim};
    const float scale = 1.0f / std::sqrt(static_cast<float>(h.head_dim));
    args = {nullptr, h.q.data(), kv, begin.data(), end.data(), h.tokens, h.heads, h.kv_heads, h.head_dim, scale};
  }
  Part(const Part&) = delete;
  Attention<double> expected(const Halves& h) const { return attend<double>(args, h.key_numbers, h.value_numbers); }
  Attention<float> naive(const Halves& h, Rounding rounding) const { return naive_attention(args, h.key_numbers, h.value_numbers, rounding); }
  Attention<float> run(Run& run, const Halves& h) {
    Attention<float> result{std::vector<float>(h.q.size(), NAN), std::vector<float>(h.n_rows(), NAN)};
    args.out = result.out.data();
    args.lse = result.lse.data();
    run.attend(args, 0);
    return result;
  }
};

// The references of one shape: they serve every variant and every number of threads.
struct Expected {
  Attention<double> oracle;
  std::map<std::pair<int, Rounding>, Attention<float>> naive;  // by the key that parts the halves
};

void check_halves(Run& run, Halves& h) {
  static std::map<std::string, Expected> known;
  Expected& expected = known[h.name()];
  if (expected.oracle.lse.empty()) expected.oracle = Part(h, 0, h.keys).expected(h);
  for (const int k : {0, 1, 63, 64, h.keys / 2, h.keys - h.tokens / 2, h.keys}) {
    if (k > h.keys) continue;
    Part first(h, 0, k), second(h, k, h.keys);
    const Rounding rounding = rounding_of(run, h.dtype, h.tokens * h.heads / h.kv_heads);
    Attention<float>& naive = expected.naive[{k, rounding}];
    if (naive.lse.empty()) naive = merge<float>(first.naive(h, rounding), second.naive(h, rounding), 1.0f);
    Attention<float> a = first.run(run, h), b = second.run(run, h);
    const int n_rows = static_cast<int>(h.n_rows());
    run.merge({a.out.data(), a.lse.data(), a.out.data(), a.lse.data(), b.out.data(), b.lse.data(), n_rows, h.head_dim, 1.0f});
    const std::string what = h.name() + " at " + std::to_string(k);
    run.check_near(a.out, expected.oracle.out, naive.out, what);
    run.check_logarithms(a.lse, expected.oracle.lse, naive.lse, what + ", lse");
  }
}

}  // namespace

void merge_suite(Run& run) {
  for (const RowsCase& c : kRowsCases) {
    for (const float a_power : {1.0f, 0.9f, 2.5f, 0.0f}) check_merge(run, c, a_power);
  }
  for (const int head_dim : {8, 64, 80, 128}) {
    for (const int group : {1, 4, 8}) {
      for (const int tokens : {1, 2, 17}) {
        const bool is_long = tokens <= 2 && head_dim != 8;  // so long that attention splits its keys
        Halves halves(tokens == 2 ? DType::kF16 : DType::kF32, tokens, group, head_dim, is_long ? 1100 : 130);
        check_halves(run, halves);
        if (head_dim % 32 != 0) continue;
        Halves in_8_bit(DType::kQ8_0, tokens, group, head_dim, is_long ? 700 : 130);
        check_halves(run, in_8_bit);
      }
    }
  }
}

}  // namespace banyan::test
