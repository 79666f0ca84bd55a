#include "base/output_file.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <random>
#include <system_error>

#include <fcntl.h>

#include "base/error.h"
#include "base/path.h"

#ifdef _WIN32
#include <io.h>
#include <sys/stat.h>
#else
#include <unistd.h>
#endif

namespace banyan {

namespace {

#ifdef _WIN32
int open_new(const std::string& path) { return _wopen(native_path(path).c_str(), _O_CREAT | _O_EXCL | _O_WRONLY | _O_BINARY, _S_IREAD | _S_IWRITE); }
std::ptrdiff_t write_some(int fd, const void* data, size_t n) { return _write(fd, data, static_cast<unsigned>(n)); }
int sync_file(int fd) { return _commit(fd); }
int close_file(int fd) { return _close(fd); }
#else
int open_new(const std::string& path) { return ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666); }
std::ptrdiff_t write_some(int fd, const void* data, size_t n) { return ::write(fd, data, n); }
int sync_file(int fd) { return ::fsync(fd); }
int close_file(int fd) { return ::close(fd); }
#endif

// One write call: below the 2 GiB that some systems cap it at, and short enough that an abort is noticed in between.
constexpr size_t kWriteBytes = size_t{16} << 20;

}  // namespace

OutputFile::OutputFile(const std::string& path) : path_(path) {
  std::random_device random;
  temporary_ = path + "." + std::to_string(random()) + ".tmp";
  descriptor_ = open_new(temporary_);
  if (descriptor_ < 0) {
    const int error = errno;
    if (error == ENOENT) throw Error(Code::kFileNotFound, "cannot write " + path + ": its directory does not exist");
    fail("create", error);
  }
}

OutputFile::~OutputFile() {
  if (descriptor_ < 0) return;
  close();
  std::error_code ignored;
  std::filesystem::remove(native_path(temporary_), ignored);
}

void OutputFile::write(const void* data, size_t n_bytes) {
  const auto* next = static_cast<const std::byte*>(data);
  while (n_bytes > 0) {
    const std::ptrdiff_t written = write_some(descriptor_, next, std::min(n_bytes, kWriteBytes));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("write", errno);
    }
    next += written;
    n_bytes -= static_cast<size_t>(written);
  }
}

void OutputFile::commit() {
  if (sync_file(descriptor_) != 0) fail("sync", errno);
  close();
  std::error_code error;
  std::filesystem::rename(native_path(temporary_), native_path(path_), error);
  if (!error) return;
  std::error_code ignored;
  std::filesystem::remove(native_path(temporary_), ignored);
  throw Error(Code::kIo, "cannot rename " + temporary_ + " to " + path_ + ": " + error.message());
}

void OutputFile::close() noexcept {
  close_file(descriptor_);
  descriptor_ = -1;
}

void OutputFile::fail(const char* what, int error) const {
  throw Error(Code::kIo, std::string("cannot ") + what + " " + path_ + ": " + std::generic_category().message(error));
}

}  // namespace banyan
