// The ops that choosing nodes asks: cosine, standardize, highest. Their sums promise float64, so an output is off by the rounding to a float and, beside the
// oracle's own sums in another order, by next to nothing.
#include <numeric>

#include "cases.h"
#include "check.h"
#include "data.h"

namespace banyan::test {

namespace {

// Half of the last bit of a float, and what sums of some thousand float64 may differ by where numbers are of size 1.
bool is_rounded(float out, double oracle) { return std::fabs(static_cast<double>(out) - oracle) <= 0x1p-24 * std::fabs(oracle) + 1e-11; }

double cosine_of(const std::vector<float>& a, const std::vector<float>& b) {
  const auto dot = [](const std::vector<float>& x, const std::vector<float>& y) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
    return sum;
  };
  return dot(a, b) / (std::max(std::sqrt(dot(a, a)), 1e-6) * std::max(std::sqrt(dot(b, b)), 1e-6));
}

void check_cosine(Run& run, const std::vector<std::vector<float>>& rows, const std::vector<float>& query, const std::string& what) {
  std::vector<const float*> at;
  for (const auto& row : rows) at.push_back(row.data());
  std::vector<float> out(rows.size(), NAN);
  run.cosine({out.data(), at.data(), query.data(), static_cast<int>(rows.size()), static_cast<int>(query.size())});
  bool is_right = true;
  for (size_t i = 0; i < rows.size(); ++i) is_right = is_right && is_rounded(out[i], cosine_of(rows[i], query));
  run.check(is_right, what);
}

// Some chunks, and heads of a few parts of them.
struct StandardizeCase {
  std::vector<int> chunks;  // tokens of each
  int n_parts, group;
  std::vector<int32_t> heads;
  float mean, deviation;
};

const StandardizeCase kStandardizeCases[] = {
    {{}, 1, 1, {0}, 0, 1},
    {{1}, 1, 1, {0}, 3, 1},  // nothing deviates
    {{7}, 1, 4, {2}, 0, 1},
    {{64, 64, 33}, 1, 2, {0, 1}, -5, 0.1f},
    {{5, 1, 64, 300}, 2, 4, {6, 0, 5}, 1000, 1},  // squares would cancel
    {{256, 256, 256, 256, 256, 256, 256, 9}, 3, 3, {8}, 0, 1e-8f},
    {std::vector<int>(700, 17), 2, 1, {1, 0}, 2, 40},
};

struct Products {
  std::vector<int32_t> begin = {0};
  std::vector<float> x;
  size_t at(const StandardizeCase& c, int head, size_t chunk, int i) const {
    const int n = c.chunks[chunk];
    return static_cast<size_t>((head / c.group * begin.back() + begin[chunk]) * c.group + head % c.group * n + i);
  }
};

Products products_of(const StandardizeCase& c, Random& random) {
  Products products;
  for (const int n : c.chunks) products.begin.push_back(products.begin.back() + n);
  products.x = random.floats(static_cast<size_t>(c.n_parts * c.group * products.begin.back()), c.deviation);
  for (float& x : products.x) x += c.mean;
  return products;
}

std::vector<double> standardized(const StandardizeCase& c, const Products& products) {
  const size_t n = static_cast<size_t>(products.begin.back());
  std::vector<double> best(n, -INFINITY);
  for (const int32_t head : c.heads) {
    std::vector<double> x;
    for (size_t chunk = 0; chunk < c.chunks.size(); ++chunk) {
      for (int i = 0; i < c.chunks[chunk]; ++i) x.push_back(static_cast<double>(products.x[products.at(c, head, chunk, i)]));
    }
    const double mean = std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(n);
    double squares = 0;
    for (const double value : x) squares += (value - mean) * (value - mean);
    const double deviation = std::max(std::sqrt(squares / static_cast<double>(n)), 1e-6);
    for (size_t i = 0; i < n; ++i) best[i] = (x[i] - mean) / deviation > best[i] ? (x[i] - mean) / deviation : best[i];
  }
  return best;
}

}  // namespace

void cosine_suite(Run& run) {
  for (const RowsCase& c : kRowsCases) {
    for (const float scale : {1.0f, 1e-6f, 1e6f}) {
      Random random(static_cast<uint64_t>(c.dim));
      const std::vector<float> query = random.floats(static_cast<size_t>(c.dim), scale);
      std::vector<std::vector<float>> rows;
      for (int i = 0; i < c.rows; ++i) {
        rows.push_back(random.floats(query.size(), scale * static_cast<float>(i + 1)));
        if (i % 4 == 1) rows.back() = query;
        if (i % 4 == 2) rows.push_back(rows.back());
      }
      check_cosine(run, rows, query, "cosine dim " + std::to_string(c.dim));
    }
  }
  check_cosine(run, {{3, 4}, {0, 0}, {-4, 3}, {0, 1e-30f}, {3e38f, 3e38f}, {1e-7f, 0}}, {4, 3}, "cosine of zero, tiny and huge vectors");
  check_cosine(run, {{3, 4}, {0, 0}}, {0, 0}, "cosine with a zero query");
  check_cosine(run, {{3e38f, 3e38f}}, {3e38f, 3e38f}, "cosine of two huge vectors");
}

void standardize_suite(Run& run) {
  for (const StandardizeCase& c : kStandardizeCases) {
    Random random(c.chunks.size());
    const Products products = products_of(c, random);
    const auto n_chunks = static_cast<int>(c.chunks.size()), n_heads = static_cast<int>(c.heads.size());
    const auto n = static_cast<size_t>(products.begin.back());
    const auto run_with = [&](const std::vector<float>& x) {
      std::vector<float> out(n, NAN);
      std::vector<double> sums(c.heads.size() * (c.chunks.size() + 1) * 2, NAN);
      run.standardize({out.data(), x.data(), products.begin.data(), c.heads.data(), sums.data(), n_chunks, n_heads, c.group, products.begin.back()});
      return out;
    };
    const std::vector<float> out = run_with(products.x);
    const std::vector<double> oracle = standardized(c, products);
    bool is_right = true;
    for (size_t i = 0; i < n; ++i) is_right = is_right && is_rounded(out[i], oracle[i]);
    run.check(is_right, "standardize " + std::to_string(n_chunks) + " chunks, " + std::to_string(n_heads) + " heads");

    if (n == 0) continue;
    std::vector<float> broken = products.x;  // not a number: its head counts nothing
    broken[products.at(c, c.heads[0], c.chunks.size() - 1, 0)] = NAN;
    StandardizeCase rest = c;
    rest.heads.erase(rest.heads.begin());
    const std::vector<float> without = run_with(broken);
    const std::vector<double> others = standardized(rest, products);
    is_right = true;
    for (size_t i = 0; i < n; ++i) is_right = is_right && (std::isinf(others[i]) ? without[i] == -INFINITY : is_rounded(without[i], others[i]));
    run.check(is_right, "standardize without a head that is not a number");
  }
}

void highest_suite(Run& run) {
  Random random(5);
  std::vector<float> x = random.floats(3000);
  for (size_t i = 0; i < x.size(); i += 7) x[i] = i % 3 == 0 ? NAN : -INFINITY;
  std::fill(x.begin() + 100, x.begin() + 140, NAN);
  std::fill(x.begin() + 200, x.begin() + 240, -INFINITY);
  std::vector<int32_t> begin = {100, 200, 0, 2999}, end = {140, 240, 3000, 3000};
  for (int n = 1; n <= 600; n += n < 40 ? 1 : 61) {
    begin.push_back(random.below(3000 - n));
    end.push_back(begin.back() + n);
  }
  std::vector<float> out(begin.size(), NAN), expected;
  for (size_t i = 0; i < begin.size(); ++i) {
    float most = -INFINITY;
    for (int at = begin[i]; at < end[i]; ++at) most = x[static_cast<size_t>(at)] > most ? x[static_cast<size_t>(at)] : most;
    expected.push_back(most);
  }
  run.highest({out.data(), x.data(), begin.data(), end.data(), static_cast<int>(begin.size())});
  run.check(out == expected, "highest");
  run.highest({nullptr, x.data(), begin.data(), end.data(), 0});
}

}  // namespace banyan::test
