// aligned: memory for arrays: it begins with a cache line, and large memory with a huge page (huge_pages.h).
#pragma once

#include <cstddef>
#include <memory>

namespace banyan {

// nullptr where the system has none. Memory of 4 MiB or more lies in huge pages where they can be had: from its beginning, and to its end where that adds an
// eighth at most. Otherwise up to 2 MiB at either end would lie in small pages, and a matrix of a few MiB mostly so.
void* allocate_aligned(size_t n_bytes) noexcept;
void release_aligned(void* memory) noexcept;

struct ReleaseAligned {
  void operator()(std::byte* memory) const noexcept { release_aligned(memory); }
};
using AlignedBytes = std::unique_ptr<std::byte[], ReleaseAligned>;

// Not initialized. Throws std::bad_alloc.
AlignedBytes aligned_bytes(size_t n_bytes);

}  // namespace banyan
