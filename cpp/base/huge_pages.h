// huge_pages: large memory in pages of 2 MiB, where the system gives such on request (Linux). Memory that is read once from end to end otherwise waits for page
// tables.
#pragma once

#include <cstddef>

namespace banyan {

#ifdef __linux__
constexpr size_t kHugePageBytes = size_t{2} << 20;
#else
constexpr size_t kHugePageBytes = 0;  // none that could be asked for
#endif

// Asks for the whole huge pages inside [memory, memory + n_bytes), before they are first written; or, where they are a mapped file, before the system reads it:
// what it holds already stays as it is. Memory too small for it to matter is left alone, and what lies around them, so that nothing grows. A wish: nothing tells
// whether it came true.
void prefer_huge_pages(void* memory, size_t n_bytes) noexcept;

}  // namespace banyan
