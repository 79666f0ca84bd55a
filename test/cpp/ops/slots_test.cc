// The ops that make slots and move them: compress and place, against means and turns in float64.
#include "check.h"
#include "data.h"
#include "reference.h"

namespace banyan::test {

namespace {

constexpr int kHeads = 3;

// The rows of a cache that an op writes, what they should be, and what plain code in float32 makes of them before it rounds.
class Cache {
 public:
  Cache(DType dtype, int n_rows, int dim)
      : dtype_(dtype),
        dim_(dim),
        row_(row_bytes(dtype, dim)),
        bytes_(static_cast<size_t>(n_rows) * row_, 0xab),
        oracle_(static_cast<size_t>(n_rows)),
        naive_(oracle_.size()) {}
  uint8_t* data() { return bytes_.data(); }

  void expect(int row, std::vector<double> oracle, std::vector<float> naive) {
    oracle_[static_cast<size_t>(row)] = std::move(oracle);
    naive_[static_cast<size_t>(row)] = std::move(naive);
  }

  // No element further off than twice the plain code's error and the rounding to the type; rows that nobody expects keep what they held.
  void check(Run& run, const std::string& what) const {
    bool is_right = true;
    for (size_t r = 0; r < oracle_.size(); ++r) {
      const uint8_t* row = bytes_.data() + r * row_;
      if (oracle_[r].empty()) {
        is_right = is_right && std::all_of(row, row + row_, [](uint8_t byte) { return byte == 0xab; });
        continue;
      }
      const double allowed = tolerance_of(oracle_[r], largest_difference(naive_[r], oracle_[r]));
      const std::vector<double> out = elements(dtype_, row, 1, dim_);
      for (size_t c = 0; c < out.size(); ++c) is_right = is_right && std::fabs(out[c] - oracle_[r][c]) <= allowed + rounding(oracle_[r], c);
    }
    run.check(is_right, what);
  }

 private:
  double rounding(const std::vector<double>& row, size_t c) const {
    if (dtype_ == DType::kF32) return 0;
    if (dtype_ == DType::kF16) return 0x1p-11 * std::fabs(row[c]) + 0x1p-25;
    double highest = 0;  // half a step of 1 / 127, and the scale is a half
    for (size_t i = c / 32 * 32; i < c / 32 * 32 + 32; ++i) highest = std::max(highest, std::fabs(row[i]));
    return highest / 127 * (0.5 + 127 * 0x1p-11);
  }

  const DType dtype_;
  const int dim_;
  const size_t row_;
  std::vector<uint8_t> bytes_;
  std::vector<std::vector<double>> oracle_;
  std::vector<std::vector<float>> naive_;
};

std::vector<float> frequencies(int head_dim) {
  std::vector<float> inv_freq;
  for (int m = 0; m < head_dim / 2; ++m) inv_freq.push_back(static_cast<float>(std::pow(10000.0, -2.0 * m / head_dim)));
  return inv_freq;
}

struct SlotsCase {
  DType dtype;
  int head_dim;
  bool is_interleaved;
};
constexpr SlotsCase kSlotsCases[] = {{DType::kF32, 64, false}, {DType::kF32, 6, true}, {DType::kF32, 1026, false}, {DType::kF16, 80, false},
    {DType::kF16, 64, true}, {DType::kQ8_0, 64, false}, {DType::kQ8_0, 96, true}, {DType::kF16, 1024, true}, {DType::kQ8_0, 1024, false}};

// Rows wider than any memory of a task or block: a lying file may ask for a million elements.
constexpr int kWideHeads = 8200, kWideHeadDim = 64, kWideDim = kWideHeads * kWideHeadDim;

}  // namespace

void compress_suite(Run& run) {
  for (const auto& [dtype, head_dim, is_interleaved] : kSlotsCases) {
    const int dim = kHeads * head_dim;
    Random random(static_cast<uint64_t>(head_dim));
    const std::vector<int> node_slots = {5, 1, 9}, lengths = {17, 1, 9};  // of nodes; the last slot of one is shorter
    constexpr int kSides = 4, kTokens = 27;
    const std::vector<float> x = random.floats(static_cast<size_t>(kTokens) * static_cast<size_t>(dim)), inv_freq = frequencies(head_dim);
    const std::vector<double> values(x.begin(), x.end());
    std::vector<int32_t> rows, strides, begin, end, positions;
    for (size_t node = 0, slot = 0, token = 0; node < node_slots.size(); ++node) {
      const int n = node_slots[node], step = (lengths[node] + n - 1) / n;
      for (int i = 0; i < n; ++i) {
        rows.push_back(static_cast<int32_t>(kSides * slot) + i);
        strides.push_back(n);
        begin.push_back(static_cast<int32_t>(token) + i * step);
        end.push_back(static_cast<int32_t>(token) + std::min((i + 1) * step, lengths[node]));
        positions.push_back(i % 4 == 3 ? 70000 * i : i * step);
      }
      slot += static_cast<size_t>(n);
      token += static_cast<size_t>(lengths[node]);
    }
    const auto n_slots = static_cast<int>(rows.size());
    for (const bool is_mean : {false, true}) {
      for (const float magnitude : {0.0f, 1.0f, 1.25f}) {  // 0: nothing turns
        const int side = is_mean ? 3 : 0;
        Cache cache(dtype, kSides * n_slots, dim);
        for (size_t i = 0; i < rows.size(); ++i) {
          const int last = is_mean ? end[i] : begin[i] + 1;
          std::vector<double> oracle = mean_of_rows<double>(values, begin[i], last, dim);
          std::vector<float> naive = mean_of_rows<float>(values, begin[i], last, dim);
          const auto angle = [&](int m) { return static_cast<double>(positions[i]) * static_cast<double>(inv_freq[static_cast<size_t>(m)]); };
          if (magnitude != 0) {
            turn_row(oracle, kHeads, head_dim, is_interleaved, static_cast<double>(magnitude), angle);
            turn_row(naive, kHeads, head_dim, is_interleaved, static_cast<double>(magnitude), angle);
          }
          cache.expect(rows[i] + side * strides[i], std::move(oracle), std::move(naive));
        }
        run.compress({cache.data(), dtype, rows.data(), strides.data(), side, x.data(), begin.data(), is_mean ? end.data() : nullptr,
            positions.data(), magnitude != 0 ? inv_freq.data() : nullptr, magnitude, n_slots, kHeads, head_dim, is_interleaved});
        cache.check(run, std::string("compress ") + traits(dtype).name + " dim " + std::to_string(head_dim) + (is_mean ? ", mean" : ", picked"));
      }
    }
    run.compress({nullptr, dtype, nullptr, nullptr, 0, nullptr, nullptr, nullptr, nullptr, nullptr, 1, 0, kHeads, head_dim, is_interleaved});
  }

  Random random(1);
  const std::vector<float> x = random.floats(size_t{2} * kWideDim);
  const std::vector<int32_t> zero = {0}, two = {2};
  std::vector<float> wide(kWideDim, NAN), expected(kWideDim);
  for (size_t c = 0; c < expected.size(); ++c) expected[c] = (x[c] + x[c + kWideDim]) / 2.0f;
  run.compress({wide.data(), DType::kF32, zero.data(), zero.data(), 0, x.data(), zero.data(), two.data(), nullptr, nullptr, 1, 1, kWideHeads,
      kWideHeadDim, false});
  run.check(wide == expected, "compress, a wide row");
}

// Pieces in any order.
void place_suite(Run& run) {
  // rows it is made of, stride, pooled; rows it becomes; position, step, index
  const std::vector<PlacedRows> shapes = {{nullptr, 1, 1, 1, 0, 1, 5, 0, 0}, {nullptr, 32, 1, 1, 0, 32, 0, 0, 0}, {nullptr, 0, 1, 1, 0, 0, 9, 0, 0},
      {nullptr, 7, 1, 1, 0, 7, -3, 0, 0}, {nullptr, 33, 1, 1, 0, 33, 70000, 0, 0}, {nullptr, 30, 4, 4, 0, 8, 64, 8, 3},
      {nullptr, 9, 2, 1, 0, 5, 1, 2, 4000}, {nullptr, 16, 2, 2, 0, 8, 0, 2, 0}, {nullptr, 6, 3, 3, 0, 2, 0, 0, 0}, {nullptr, 4, 2, 1, 0, 2, 0, 0, 0}};
  for (const auto& [dtype, head_dim, is_interleaved] : kSlotsCases) {
    const int dim = kHeads * head_dim;
    Random random(static_cast<uint64_t>(head_dim));
    const size_t row = row_bytes(dtype, dim);
    std::vector<float> fast = frequencies(head_dim), slow = fast;
    const std::vector<float> inv_freq = fast;
    std::fill(fast.begin() + head_dim / 4, fast.end(), 0.0f);
    std::fill(slow.begin(), slow.begin() + head_dim / 4, 0.0f);
    std::vector<Packed> memory;
    std::vector<PlacedRows> pieces;
    int n_rows = 0;
    for (size_t i = shapes.size(); i-- > 0;) {  // the last piece comes first
      memory.push_back(random_packed(random, dtype, shapes[i].n_from, dim, 1));
      pieces.push_back(shapes[i]);
      pieces.back().from = memory.back().data();
      if (shapes[i].n_rows == kTileSlots) n_rows = (n_rows + kTileSlots - 1) / kTileSlots * kTileSlots;  // a whole tile
      pieces.back().row = n_rows;
      n_rows += shapes[i].n_rows + 1;  // a row between that stays
    }
    enum class How : uint8_t { kAsTheyAre, kTurned, kBanded, kStretched };
    for (const How how : {How::kAsTheyAre, How::kTurned, How::kBanded, How::kStretched}) {
      const float magnitude = how == How::kStretched ? 1.25f : 1.0f;
      const std::vector<float>& freq = how == How::kBanded ? fast : inv_freq;
      Cache cache(dtype, n_rows, dim);
      std::vector<std::pair<const uint8_t*, size_t>> kept;  // rows whose bits must come through, and where to
      for (const PlacedRows& piece : pieces) {
        const auto* from = static_cast<const uint8_t*>(piece.from);
        const std::vector<double> values = elements(dtype, from, piece.n_from, dim);
        for (int j = 0; j < piece.n_rows; ++j) {
          const int begin = j * piece.stride, end = std::min(begin + piece.pooled, piece.n_from);
          std::vector<double> oracle = mean_of_rows<double>(values, begin, end, dim);
          std::vector<float> naive = mean_of_rows<float>(values, begin, end, dim);
          const auto angle = [&](int m) {
            const auto at = static_cast<size_t>(m);
            return static_cast<double>(piece.position + j * piece.step) * static_cast<double>(freq[at]) +
                   (how == How::kBanded ? static_cast<double>(piece.index) * static_cast<double>(slow[at]) : 0.0);
          };
          if (how != How::kAsTheyAre) {
            turn_row(oracle, kHeads, head_dim, is_interleaved, static_cast<double>(magnitude), angle);
            turn_row(naive, kHeads, head_dim, is_interleaved, static_cast<double>(magnitude), angle);
          }
          const bool is_turned = how != How::kAsTheyAre && (piece.position != 0 || piece.step != 0 || piece.index != 0 || magnitude != 1.0f);
          if (piece.pooled == 1 && !is_turned) kept.emplace_back(from + static_cast<size_t>(begin) * row, static_cast<size_t>(piece.row + j));
          cache.expect(piece.row + j, std::move(oracle), std::move(naive));
        }
      }
      PlaceArgs args{cache.data(), dtype, pieces.data(), static_cast<int>(pieces.size()), how == How::kAsTheyAre ? nullptr : freq.data(),
          how == How::kBanded ? slow.data() : nullptr, magnitude, kHeads, head_dim, is_interleaved};
      const std::string what =
          std::string("place ") + traits(dtype).name + " dim " + std::to_string(head_dim) + ", way " + std::to_string(static_cast<int>(how));
      std::vector<std::pair<SlotOrder, Packed>> tiles;
      if (dtype == DType::kQ8_0 && run.stream.ops->has_slot_tiles) {
        for (const SlotOrder order : {SlotOrder::kKeyTiles, SlotOrder::kValueTiles})
          tiles.emplace_back(order, in_tiles(order, cache.data(), n_rows, kHeads, head_dim));
      }
      run.place(args);
      cache.check(run, what);
      bool has_bits = true;
      for (const auto& [from, to] : kept) has_bits = has_bits && std::memcmp(from, cache.data() + to * row, row) == 0;
      run.check(has_bits && kept.empty() == (how == How::kStretched), what + ": bits");
      if (run.device == nullptr) {  // heads apart: the CPU's
        std::vector<uint8_t> expected(static_cast<size_t>(n_rows) * row, 0xab), apart = expected;
        const size_t n_bytes = row / kHeads;
        for (size_t head = 0; head < kHeads; ++head) {
          for (size_t r = 0; r < static_cast<size_t>(n_rows); ++r) {
            std::memcpy(&expected[(head * static_cast<size_t>(n_rows) + r) * n_bytes], cache.data() + (r * kHeads + head) * n_bytes, n_bytes);
          }
        }
        args.out = apart.data();
        args.head_rows = n_rows;
        run.place(args);
        run.check(apart == expected, what + ": heads apart");
      }
      for (auto& [order, side] : tiles) {
        args.out = side.data();
        args.order = order;
        args.head_rows = tiled_slots(n_rows);
        run.place(args);
        const Packed expected = in_tiles(order, cache.data(), n_rows, kHeads, head_dim);
        const size_t n_bytes = static_cast<size_t>(args.head_rows) * row;
        run.check(std::memcmp(side.data(), expected.data(), n_bytes) == 0, what + ": tiles");
        std::vector<uint8_t> rows(static_cast<size_t>(n_rows) * row);
        copy_rows_of_tiles(order, side.data(), n_rows, kHeads, head_dim, rows.data());
        run.check(std::memcmp(rows.data(), cache.data(), rows.size()) == 0, what + ": rows of tiles");
      }
    }
  }

  Random random(1);
  std::vector<float> x = random.floats(kWideDim), wide(kWideDim, NAN);
  const std::vector<float> inv_freq = frequencies(kWideHeadDim);
  const PlacedRows piece{x.data(), 1, 1, 1, 0, 1, 7, 0, 0};
  run.place({wide.data(), DType::kF32, &piece, 1, inv_freq.data(), nullptr, 1, kWideHeads, kWideHeadDim, false});
  const std::vector<int32_t> seven = {7};
  run.rope({x.data(), seven.data(), inv_freq.data(), 1, kWideHeads, kWideHeadDim, 1, false});
  run.check(wide == x, "place, a wide row");
}

}  // namespace banyan::test
