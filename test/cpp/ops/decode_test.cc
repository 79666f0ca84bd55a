// decode: the formats of weights. Blocks made by hand with values worked out by hand check the reference decoders; random blocks then check
// the kernels (through embed and gather) against those, bit for bit: every decoded value is one rounding of an exact product sum.
#include "cases.h"
#include "check.h"
#include "data.h"
#include "reference.h"

namespace banyan::test {
namespace {

constexpr uint8_t kOneLow = 0x00, kOneHigh = 0x3c;  // half 1.0

// Checks that element i of the block is `expected`.
void expect(Tally& tally, DType dtype, const std::vector<uint8_t>& block, int64_t i, double expected) {
  const double value = element(dtype, block.data(), i);
  ++(value == expected ? tally.passed : tally.failed);
  if (value != expected) std::printf("  FAILED: %s element %d is %g, expected %g\n", traits(dtype).name, static_cast<int>(i), value, expected);
}

}  // namespace

Tally decode_suite() {
  Tally tally;
  expect(tally, DType::kF16, {0x00, 0xc0}, 0, -2.0);
  expect(tally, DType::kF16, {0x01, 0x00}, 0, 0x1p-24);  // smallest subnormal
  expect(tally, DType::kF16, {0xff, 0x7b}, 0, 65504.0);
  expect(tally, DType::kBF16, {0x80, 0xbf}, 0, -1.0);

  std::vector<uint8_t> q8(34);
  q8[1] = 0x38;  // 0.5
  q8[2] = 0x80;
  q8[33] = 127;
  expect(tally, DType::kQ8_0, q8, 0, -64.0);
  expect(tally, DType::kQ8_0, q8, 1, 0.0);
  expect(tally, DType::kQ8_0, q8, 31, 63.5);

  std::vector<uint8_t> q4(18);
  q4[1] = 0x40;  // 2.0
  q4[2] = 0xf0;
  q4[17] = 0x19;
  expect(tally, DType::kQ4_0, q4, 0, -16.0);
  expect(tally, DType::kQ4_0, q4, 16, 14.0);
  expect(tally, DType::kQ4_0, q4, 15, 2.0);
  expect(tally, DType::kQ4_0, q4, 31, -14.0);

  // d = 1, dmin = 1; scale of group 1 = 5, its minimum 3; scale of group 6 = 0b100110 (38), its minimum 0b010001 (17).
  std::vector<uint8_t> q4k(144);
  q4k[0] = kOneLow;
  q4k[1] = kOneHigh;
  q4k[2] = kOneLow;
  q4k[3] = kOneHigh;
  q4k[4 + 1] = 5;
  q4k[4 + 5] = 3;
  q4k[4 + 10] = 0x16;        // low nibble: scale of group 6; high: its minimum
  q4k[4 + 2] = 0b10 << 6;    // upper bits of that scale
  q4k[4 + 6] = 0b01 << 6;    // and of that minimum
  q4k[16 + 7] = 0x40;        // group 1, element 7: 4
  q4k[16 + 96 + 31] = 0x0b;  // group 6, element 31: 11
  expect(tally, DType::kQ4_K, q4k, 32 + 7, 5 * 4 - 3);
  expect(tally, DType::kQ4_K, q4k, 32 + 8, -3);
  expect(tally, DType::kQ4_K, q4k, 192 + 31, 38 * 11 - 17);
  expect(tally, DType::kQ4_K, q4k, 0, 0.0);

  std::vector<uint8_t> q5k(176);
  std::copy(q4k.begin(), q4k.begin() + 16, q5k.begin());
  q5k[48 + 7] = 0x40;
  q5k[48 + 96 + 31] = 0x0b;
  q5k[16 + 7] = 1 << 1;   // fifth bit of group 1, element 7
  q5k[16 + 31] = 1 << 6;  // of group 6, element 31
  expect(tally, DType::kQ5_K, q5k, 32 + 7, 5 * 20 - 3);
  expect(tally, DType::kQ5_K, q5k, 192 + 31, 38 * 27 - 17);
  expect(tally, DType::kQ5_K, q5k, 32 + 8, -3);

  std::vector<uint8_t> q6k(210);
  q6k[208] = kOneLow;
  q6k[209] = kOneHigh;
  q6k[192 + 0] = 2;          // scale of elements 0-15
  q6k[192 + 15] = 0xfd;      // -3: of elements 240-255
  q6k[192 + 3] = 7;          // of elements 48-63
  q6k[0] = 0x05;             // element 0: low nibble
  q6k[128 + 0] = 0b11;       // its upper bits
  q6k[64 + 32 + 31] = 0x90;  // element 255: high nibble 9
  q6k[128 + 32 + 31] = 0b10 << 6;
  q6k[32 + 20] = 0x0f;  // element 52
  q6k[128 + 20] = 0b01 << 2;
  expect(tally, DType::kQ6_K, q6k, 0, 2 * (5 + 48 - 32));
  expect(tally, DType::kQ6_K, q6k, 255, -3 * (9 + 32 - 32));
  expect(tally, DType::kQ6_K, q6k, 52, 7 * (15 + 16 - 32));
  expect(tally, DType::kQ6_K, q6k, 1, 2 * -32);
  return tally;
}

void embed_suite(Run& run) {
  for (const DType dtype : kWeightTypes) {
    for (const RowsCase& c : kRowsCases) {
      const int64_t cols = (c.dim + traits(dtype).block_size - 1) / traits(dtype).block_size * traits(dtype).block_size;
      Random random(static_cast<uint64_t>(c.dim));
      constexpr int kTableRows = 37;
      const Packed table = random_packed(random, dtype, kTableRows, cols, c.rows % 4);
      std::vector<int32_t> ids(static_cast<size_t>(c.rows));
      for (int32_t& id : ids) id = random.below(kTableRows);
      std::vector<float> out(static_cast<size_t>(c.rows * cols), NAN);
      run.embed({out.data(), {table.data(), dtype, kTableRows, cols}, ids.data(), c.rows});
      bool is_equal = true;
      for (int64_t i = 0; i < static_cast<int64_t>(out.size()); ++i) {
        const uint8_t* row = table.data() + row_bytes(dtype, cols) * static_cast<size_t>(ids[static_cast<size_t>(i / cols)]);
        is_equal = is_equal && out[static_cast<size_t>(i)] == static_cast<float>(element(dtype, row, i % cols));
      }
      run.check(is_equal, std::string("embed ") + traits(dtype).name + " dim " + std::to_string(cols));
    }
  }
}

void gather_suite(Run& run) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0}) {
    for (RowsCase c : kRowsCases) {
      c.dim = (c.dim + traits(dtype).block_size - 1) / traits(dtype).block_size * traits(dtype).block_size;
      Random random(static_cast<uint64_t>(c.dim));
      constexpr int kSourceRows = 23;
      const Packed x = random_packed(random, dtype, kSourceRows, c.dim);
      std::vector<int32_t> rows(static_cast<size_t>(c.rows));
      for (int32_t& row : rows) row = random.below(kSourceRows);
      std::vector<float> out(static_cast<size_t>(c.rows) * static_cast<size_t>(c.dim), NAN);
      run.gather({out.data(), x.data(), dtype, rows.data(), c.rows, c.dim});
      bool is_equal = true;
      for (size_t i = 0; i < out.size(); ++i) {
        const auto row = static_cast<size_t>(rows[i / static_cast<size_t>(c.dim)]);
        is_equal =
            is_equal && out[i] == static_cast<float>(element(dtype, x.data() + row * row_bytes(dtype, c.dim), static_cast<int64_t>(i) % c.dim));
      }
      run.check(is_equal, std::string("gather ") + traits(dtype).name + " dim " + std::to_string(c.dim));
    }
  }
}

}  // namespace banyan::test
