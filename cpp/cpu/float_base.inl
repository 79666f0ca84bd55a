// float_base: how sums of integers become floats without being converted (x86; on Intel conversions and products share ports). They start at the bits of
// kFloatBase, whose last place is 1, so that the bits of the sum are those of the float kFloatBase + sum, as long as its magnitude is below 2^22; a block's is
// at most 32 x 128 x 127. The multiply-add that scales it takes scale * kFloatBase off again, exactly: a scale is a half (11 bits) times an integer of 8 at
// most, and three times that has 21 bits of a float's 24.

constexpr float kFloatBase = 12582912.0f;  // 1.5 * 2^23
constexpr int32_t kFloatBaseBits = 0x4b400000;

// scale * sum, rounded once. `base` is based(scale).
BANYAN_INLINE Vec based(Vec scale) { return mul(scale, broadcast(-kFloatBase)); }
BANYAN_INLINE Vec scaled(IVec sum, Vec scale, Vec base) { return fma(as_float(sum), scale, base); }
