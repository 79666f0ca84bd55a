// scratch_file: memory that lies in a file, so that the system may write it out: a file without a name, grown and mapped piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace banyan {

class ScratchFile {
 public:
  // The file lies in `directory` and is gone with the object, however the process ends. Throws kFileNotFound, kIo.
  explicit ScratchFile(const std::string& directory);
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  ~ScratchFile();

  // The next n_bytes of the file, mapped for reading and writing, aligned to pages, zero. The disk has room for them: a full one is an Error{kIo} here
  // that says how many bytes were wanted, never a fault later.
  std::byte* grow(size_t n_bytes);

 private:
  [[noreturn]] void fail(const std::string& what, int error) const;
  const std::string directory_;
  std::vector<std::pair<std::byte*, size_t>> maps_;
  uint64_t n_bytes_ = 0;
#ifdef _WIN32
  void* file_ = nullptr;
#else
  int descriptor_ = -1;
#endif
};

}  // namespace banyan
