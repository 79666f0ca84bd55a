#include "base/aligned.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "base/huge_pages.h"

#ifdef _WIN32
#include <malloc.h>
#endif

namespace banyan {

namespace {
constexpr size_t kCacheLine = 64;  // and the widest vector
}

void* allocate_aligned(size_t n_bytes) noexcept {
  const bool is_large = kHugePageBytes != 0 && n_bytes >= 2 * kHugePageBytes;
  const size_t alignment = is_large ? kHugePageBytes : kCacheLine;
  n_bytes = std::max<size_t>(n_bytes, 1);
#ifndef __SANITIZE_ADDRESS__  // which is to see what goes beyond the end
  const size_t n_missing = (alignment - n_bytes % alignment) % alignment;
  if (is_large && n_missing <= n_bytes / 8) n_bytes += n_missing;
#endif
  void* memory = nullptr;
#ifdef _WIN32
  memory = _aligned_malloc(n_bytes, alignment);
#else
  if (posix_memalign(&memory, alignment, n_bytes) != 0) return nullptr;
#endif
  if (is_large) prefer_huge_pages(memory, n_bytes);
  return memory;
}

void release_aligned(void* memory) noexcept {
#ifdef _WIN32
  _aligned_free(memory);
#else
  std::free(memory);
#endif
}

AlignedBytes::AlignedBytes(size_t n_bytes) : memory_(static_cast<std::byte*>(allocate_aligned(n_bytes))), n_bytes_(n_bytes) {
  if (!memory_) throw std::bad_alloc();
}

}  // namespace banyan
