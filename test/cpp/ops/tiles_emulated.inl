// tiles_emulated: what cpu/tiles_amx.inl offers, in plain C++, as Intel's description of the instructions has it. So the kernels over tiles are tested on machines
// without them, and sanitizers see what they read and write.

struct EmulatedTiles {
  alignas(64) std::byte rows[8][16][64];
  bool is_configured = false;
};

inline EmulatedTiles& emulated_tiles() {
  static thread_local EmulatedTiles tiles;
  return tiles;
}

// Without it, and after it, a tile instruction faults.
inline auto& tile_of(int tile) {
  if (!emulated_tiles().is_configured) std::abort();
  return emulated_tiles().rows[tile];
}

class TileScope {
 public:
  TileScope() {
    std::memset(emulated_tiles().rows, 0, sizeof emulated_tiles().rows);
    emulated_tiles().is_configured = true;
  }
  ~TileScope() { emulated_tiles().is_configured = false; }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

template <int kTile> void tile_zero() { std::memset(tile_of(kTile), 0, sizeof tile_of(kTile)); }
template <int kTile> void tile_load(const void* at, int64_t stride = 64) {
  for (int r = 0; r < 16; ++r) std::memcpy(tile_of(kTile)[r], static_cast<const std::byte*>(at) + r * stride, 64);
}
template <int kTile> void tile_store(void* at, int64_t stride = 64) {
  for (int r = 0; r < 16; ++r) std::memcpy(static_cast<std::byte*>(at) + r * stride, tile_of(kTile)[r], 64);
}

inline float without_subnormals(float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x; }
inline float tile_bf16(const std::byte* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  const uint32_t wide = uint32_t{bits} << 16;
  float x;
  std::memcpy(&x, &wide, sizeof x);
  return without_subnormals(x);
}

// Even and odd elements have sums of their own, which meet before they are added.
template <int kSums, int kA, int kB> void tile_multiply() {
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 16; ++n) {
      float pair[2] = {};
      for (int k = 0; k < 32; ++k) {
        pair[k % 2] =
            without_subnormals(std::fma(tile_bf16(tile_of(kA)[m] + 2 * k), tile_bf16(tile_of(kB)[k / 2] + 4 * n + 2 * (k % 2)), pair[k % 2]));
      }
      float sum;
      std::memcpy(&sum, tile_of(kSums)[m] + 4 * n, sizeof sum);
      sum = without_subnormals(without_subnormals(sum) + without_subnormals(pair[0] + pair[1]));
      std::memcpy(tile_of(kSums)[m] + 4 * n, &sum, sizeof sum);
    }
  }
}
