// The variant amx over emulated tiles, for machines that have none; it needs the other instructions of the variant.
#include <cstdlib>

#define BANYAN_TILES "tiles_emulated.inl"
#define kernels_amx kernels_amx_emulated
#include "cpu/kernels_amx.cc"
