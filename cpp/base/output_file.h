// output_file: a file that appears whole or not at all: written beside its target under a temporary name, synced, then renamed over it.
#pragma once

#include <cstddef>
#include <string>

namespace banyan {

class OutputFile {
 public:
  // Creates "<path>.<random>.tmp". Throws Error{kIo} with the system's reason (also kFileNotFound if the directory is missing).
  explicit OutputFile(const std::string& path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();  // removes the temporary file unless committed

  void write(const void* data, size_t n_bytes);  // throws Error{kIo}: full disk, quota, ...
  void commit();                                 // syncs and renames; throws Error{kIo}

 private:
  [[noreturn]] void fail(const char* what, int error) const;
  void close() noexcept;
  std::string path_, temporary_;
  int descriptor_ = -1;
};

}  // namespace banyan
