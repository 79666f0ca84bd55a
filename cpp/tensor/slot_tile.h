// slot_tile: slots in the order in which the integer products of attention read them. A document's memory is written once and read for every token.
#pragma once

#include <cstdint>
#include <cstring>

#include "tensor/dtype.h"

namespace banyan {

// Where the slots of one side of a memory lie: each a row, or as keys or values in tiles of kTileSlots. The last tile may hold fewer; what else lies in it
// means nothing.
// A tile of Q8_0 holds the slots of one kv head; 32 elements of them are a block: the scales of all slots as halves, then their bytes. It takes the bytes of
// as many rows of the head, and a block is a whole number of cache lines. All tiles of a head lie one behind the other, then come those of the next: what a
// query reads is then one stretch of memory, met by one head's state (the heads of a token side by side took a sixth more time).
//   keys    [element / 4][slot][element % 4], plus 128: VPDPBUSD multiplies unsigned bytes, four a lane
//   values  [slot % 16][element][slot / 16]: VPDPWSSD multiplies pairs
enum class SlotOrder : uint8_t { kRows, kKeyTiles, kValueTiles };

constexpr int kTileSlots = 32;
constexpr int kTileBlockBytes = kTileSlots * traits(DType::kQ8_0).block_bytes;

// Bytes of a block before what belongs to a slot of the tile: its scale, and one of its elements, 0 to 31.
constexpr int scale_in_tile(int slot) { return 2 * slot; }
constexpr int key_in_tile(int slot, int element) { return 2 * kTileSlots + element / 4 * 4 * kTileSlots + 4 * slot + element % 4; }
constexpr int value_in_tile(int slot, int element) { return 2 * kTileSlots + slot % 16 * 64 + 2 * element + slot / 16; }

// n slots in whole tiles.
constexpr int64_t tiled_slots(int64_t n) { return (n + kTileSlots - 1) / kTileSlots * kTileSlots; }

// n slots of a side that lies in tiles, as rows [n_heads, head_dim].
inline void copy_rows_of_tiles(SlotOrder order, const uint8_t* tiles, int n, int n_heads, int64_t head_dim, uint8_t* rows) {
  const auto head_row = static_cast<int64_t>(row_bytes(DType::kQ8_0, head_dim));
  for (int64_t i = 0; i < n; ++i) {
    const auto slot = static_cast<int>(i % kTileSlots);
    for (int head = 0; head < n_heads; ++head) {
      const uint8_t* from = tiles + (head * tiled_slots(n) + i - slot) * head_row;
      for (int64_t c = 0; c < head_dim; c += 32, from += kTileBlockBytes, rows += kTileBlockBytes / kTileSlots) {
        std::memcpy(rows, from + scale_in_tile(slot), 2);
        for (int e = 0; e < 32; ++e) {
          rows[2 + e] = order == SlotOrder::kKeyTiles ? from[key_in_tile(slot, e)] ^ 128 : from[value_in_tile(slot, e)];
        }
      }
    }
  }
}

}  // namespace banyan
