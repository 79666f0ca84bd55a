// kernels_int8_avx2: the sources of a variant with integer products in vectors of 32 bytes, which brings those (BANYAN_PRODUCTS). Beside kBase it has gemm of
// block formats (gemm_int8), attention and injection of many queries in words (attend_words) and injection of Q8_0 slots in tiles (inject_int8).

constexpr auto kBase = kernels_avx2;
#include "cpu/vec_avx2.h"
#include "cpu/vec_math.inl"
#include "cpu/tasks.inl"
#include "cpu/gemm_plan.inl"
#include "cpu/int8_format_avx2.inl"
#include BANYAN_PRODUCTS
#include "cpu/float_base.inl"
#include "cpu/quantize_rows_avx2.inl"
#include "cpu/quantize_tile.inl"
#include "cpu/dot_unit_avx2.inl"
#include "cpu/gemm_int8_few.inl"
#include "cpu/ahead.inl"
#include "cpu/unpack_int8.inl"
#include "cpu/multiply_strip.inl"
#include "cpu/gemm_int8.inl"

#include "cpu/dequant.inl"
#include "cpu/multiply.inl"
#include "cpu/attend.inl"
#include "cpu/attend_few.inl"
#include "cpu/attend_keys.inl"
#include "cpu/inject.inl"
#include "cpu/slot_tiles.inl"
#include "cpu/tile_products_avx2.inl"
#include "cpu/attend_tiles.inl"
#include "cpu/attend_words.inl"

inline void attend_base(Stream& stream, const AttendArgs& args) { kBase()->attend(stream, args); }
