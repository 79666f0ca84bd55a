// collective: what ldmatrix and mma compute for a warp, from the description in the PTX ISA.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/half.h"
#include "cuda/prim/memory.cuh"
#include "cuda/prim/mma.cuh"

namespace banyan::cuda {
namespace {

struct Rows {
  uint32_t* r;
  const void* row;
};

void load_matrices(int n_matrices, bool is_transposed, uint32_t* r, const void* row, const Where& where) {
  const bool is_used = emulate::current->lane < 8 * n_matrices;
  if (is_used && reinterpret_cast<uintptr_t>(row) % 16 != 0) emulate::fail(where, "ldmatrix of an unaligned row");
  Rows mine{r, row};
  emulate::warp_collective(mine, where, "ldmatrix", [&](Rows** lanes) {
    for (int m = 0; m < n_matrices; ++m) {
      uint16_t matrix[8][8];
      for (int i = 0; i < 8; ++i) std::memcpy(matrix[i], lanes[8 * m + i]->row, 16);
      for (int lane = 0; lane < 32; ++lane) {
        const int i = lane / 4, j = 2 * (lane % 4);
        const uint16_t first = is_transposed ? matrix[j][i] : matrix[i][j], second = is_transposed ? matrix[j + 1][i] : matrix[i][j + 1];
        lanes[lane]->r[m] = first | static_cast<uint32_t>(second) << 16;
      }
    }
  });
}

struct Fragments {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

// The tensor cores round sums toward zero.
float toward_zero(double exact) {
  const auto nearest = static_cast<float>(exact);
  if (std::isinf(nearest) || std::fabs(static_cast<double>(nearest)) <= std::fabs(exact)) return nearest;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(nearest) - 1);
}

// a[16][k], b[k][8] as exact values; the sum of a step is exact up to its one rounding.
template <int kDepth> void multiply(Fragments** lanes, const double (&a)[16][kDepth], const double (&b)[kDepth][8]) {
  for (int i = 0; i < 16; ++i) {
    double sum[8];
    for (int j = 0; j < 8; ++j) sum[j] = static_cast<double>(lanes[i % 8 * 4 + j / 2]->d[i / 8 * 2 + j % 2]);
    for (int k = 0; k < kDepth; ++k) {
      for (int j = 0; j < 8; ++j) sum[j] += a[i][k] * b[k][j];
    }
    for (int j = 0; j < 8; ++j) lanes[i % 8 * 4 + j / 2]->d[i / 8 * 2 + j % 2] = toward_zero(sum[j]);
  }
}

template <float (*kValue)(uint16_t)> void multiply_16(Fragments** lanes) {
  double a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, pair = lane % 4;
    for (int part = 0; part < 4; ++part) {
      for (int e = 0; e < 2; ++e) {
        const int row = group + part % 2 * 8, column = 2 * pair + e + part / 2 * 8;
        a[row][column] = static_cast<double>(kValue(static_cast<uint16_t>(lanes[lane]->a[part] >> (16 * e))));
        if (part < 2) b[2 * pair + e + 8 * part][group] = static_cast<double>(kValue(static_cast<uint16_t>(lanes[lane]->b[part] >> (16 * e))));
      }
    }
  }
  multiply<16>(lanes, a, b);
}

// The hardware reads the upper 19 bits of an operand.
double tf32_value(uint32_t bits) { return static_cast<double>(std::bit_cast<float>(bits & 0xFFFFE000u)); }

void multiply_tf32(Fragments** lanes) {
  double a[16][8], b[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, pair = lane % 4;
    for (int part = 0; part < 4; ++part) a[group + part % 2 * 8][pair + part / 2 * 4] = tf32_value(lanes[lane]->a[part]);
    for (int part = 0; part < 2; ++part) b[pair + 4 * part][group] = tf32_value(lanes[lane]->b[part]);
  }
  multiply<8>(lanes, a, b);
}

}  // namespace

void ldmatrix_x4(uint32_t (&r)[4], const void* row, const Where& where) { load_matrices(4, false, r, row, where); }
void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, const Where& where) { load_matrices(4, true, r, row, where); }
void ldmatrix_x2(uint32_t (&r)[2], const void* row, const Where& where) { load_matrices(2, false, r, row, where); }
void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row, const Where& where) { load_matrices(2, true, r, row, where); }

void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], F16Tag, const Where& where) {
  Fragments mine{d, a, b};
  emulate::warp_collective(mine, where, "mma", multiply_16<f16_to_f32>);
}
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], BF16Tag, const Where& where) {
  Fragments mine{d, a, b};
  emulate::warp_collective(mine, where, "mma", multiply_16<bf16_to_f32>);
}
void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Where& where) {
  Fragments mine{d, a, b};
  emulate::warp_collective(mine, where, "mma", multiply_tf32);
}

}  // namespace banyan::cuda
