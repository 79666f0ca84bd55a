// tiles_amx: the tile registers of AMX. Eight tiles of 16 rows x 64 bytes: 16 x 32 bf16, or 16 x 16 floats. Written in assembly, because the compilers' own
// functions do not say that they read and write memory.

// What the thread's tiles look like, for as long as it lives. Without it a tile instruction faults; a thread that has let go of its tiles is switched to and
// from without their 8 KiB.
class TileScope {
 public:
  TileScope() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t n_rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    static_assert(sizeof config == 64);
    __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
  }
  ~TileScope() { __asm__ volatile("tilerelease" ::: "memory"); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

template <int kTile> BANYAN_INLINE void tile_zero() { __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile)); }
// 16 rows of 64 bytes, `stride` bytes apart.
template <int kTile> BANYAN_INLINE void tile_load(const void* at, int64_t stride = 64) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(at), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile> BANYAN_INLINE void tile_store(void* at, int64_t stride = 64) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(at), "r"(stride), "i"(kTile) : "memory");
}
// sums[16, 16] += a[16, 32] b[32, 16]; b has two elements of its 32 side by side for each of 16 columns, so that its row i holds elements 2 i and 2 i + 1.
// What is below 2^-126 counts as 0, before and after.
template <int kSums, int kA, int kB> BANYAN_INLINE void tile_multiply() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
}
