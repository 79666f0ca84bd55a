#include "base/huge_pages.h"

#ifdef __linux__
#include <sys/mman.h>

#include <cstdint>
#endif

namespace banyan {

#ifdef __linux__
void prefer_huge_pages(void* memory, size_t n_bytes) noexcept {
  constexpr uintptr_t kPage = kHugePageBytes;
  constexpr size_t kLeast = 2 * kPage;  // contains one, wherever it begins
  if (n_bytes < kLeast) return;
  const auto begin = reinterpret_cast<uintptr_t>(memory), first = (begin + kPage - 1) / kPage * kPage, end = (begin + n_bytes) / kPage * kPage;
  madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
}
#else
void prefer_huge_pages(void*, size_t) noexcept {}
#endif

}  // namespace banyan
