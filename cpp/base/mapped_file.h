// mapped_file: a read-only file in memory. The mapping is private and read-only; it lives as long as the object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace banyan {

class MappedFile {
 public:
  // Paths are UTF-8 on every system. Throws Error: kFileNotFound, kIo (also for directories and unreadable files). An empty file maps to an empty span.
  explicit MappedFile(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, n_bytes_}; }
  // Reads bytes [at, at + n_bytes) into memory, so that whoever looks at them later need not wait for the disk; `at` is a multiple of 64 KiB. Where the
  // system can tell (Linux 5.14) throws Error{kIo} if they cannot be read; elsewhere that ends the process, as looking at them would.
  void read(size_t at, size_t n_bytes) const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t n_bytes_ = 0;
};

}  // namespace banyan
