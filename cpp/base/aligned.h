// aligned: memory for arrays: it begins with a cache line, and large memory with a huge page (huge_pages.h).
#pragma once

#include <cstddef>
#include <memory>

namespace banyan {

// nullptr where the system has none. Memory of 4 MiB or more lies in huge pages where they can be had: from its beginning, and to its end where that adds an
// eighth at most. Otherwise up to 2 MiB at either end would lie in small pages, and a matrix of a few MiB mostly so.
void* allocate_aligned(size_t n_bytes) noexcept;
void release_aligned(void* memory) noexcept;

// Owns such memory, not initialized; move-only.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t n_bytes);  // throws std::bad_alloc
  std::byte* data() const { return memory_.get(); }
  size_t size() const { return n_bytes_; }

 private:
  struct Release {
    void operator()(std::byte* memory) const noexcept { release_aligned(memory); }
  };
  std::unique_ptr<std::byte, Release> memory_;
  size_t n_bytes_;
};

}  // namespace banyan
