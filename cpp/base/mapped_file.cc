#include "base/mapped_file.h"

#include <cerrno>
#include <cstring>
#include <limits>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/huge_pages.h"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace banyan {
namespace {

[[noreturn]] void fail(const std::string& path, bool is_missing, const std::string& reason) {
  throw Error(is_missing ? Code::kFileNotFound : Code::kIo, path + ": " + reason);
}

#ifdef _WIN32

struct Handle {
  HANDLE value;
  ~Handle() {
    if (value != nullptr && value != INVALID_HANDLE_VALUE) CloseHandle(value);
  }
};

[[noreturn]] void fail_with(const std::string& path, DWORD error) {
  const bool is_missing = error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND || error == ERROR_INVALID_NAME;
  fail(path, is_missing, std::system_category().message(static_cast<int>(error)));
}

std::wstring wide(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos || path.size() > 32767) fail(path, true, "not a path");
  const int n_bytes = static_cast<int>(path.size());
  const int n_units = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path.data(), n_bytes, nullptr, 0);
  if (n_units <= 0) fail(path, true, "the path is not valid UTF-8");
  std::wstring text(static_cast<size_t>(n_units), L'\0');
  MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path.data(), n_bytes, text.data(), n_units);
  return text;
}

std::span<const std::byte> map(const std::string& path) {
  const std::wstring name = wide(path);
  const DWORD attributes = GetFileAttributesW(name.c_str());
  if (attributes == INVALID_FILE_ATTRIBUTES) fail_with(path, GetLastError());
  if (attributes & FILE_ATTRIBUTE_DIRECTORY) fail(path, false, "is a directory");
  const Handle file{
      CreateFileW(name.c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr)};
  if (file.value == INVALID_HANDLE_VALUE) fail_with(path, GetLastError());
  LARGE_INTEGER size;
  if (!GetFileSizeEx(file.value, &size)) fail_with(path, GetLastError());
  if (size.QuadPart == 0) return {};
  if (static_cast<uint64_t>(size.QuadPart) > std::numeric_limits<size_t>::max()) fail(path, false, "too large for this process");
  const Handle mapping{CreateFileMappingW(file.value, nullptr, PAGE_READONLY, 0, 0, nullptr)};
  if (mapping.value == nullptr) fail_with(path, GetLastError());
  const void* data = MapViewOfFile(mapping.value, FILE_MAP_READ, 0, 0, 0);  // the view outlives both handles
  if (data == nullptr) fail_with(path, GetLastError());
  return {static_cast<const std::byte*>(data), static_cast<size_t>(size.QuadPart)};
}

void unmap(const std::byte* data, size_t) noexcept { UnmapViewOfFile(data); }

#else

struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) close(value);
  }
};

[[noreturn]] void fail_with(const std::string& path, int error) {
  fail(path, error == ENOENT || error == ENOTDIR, std::generic_category().message(error));
}

#ifdef __SANITIZE_ADDRESS__
// Bytes from the file's end to its last page's: reading them is silent, so the sanitizer is told.
size_t page_tail(size_t n_bytes) {
  const auto page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (page_bytes - n_bytes % page_bytes) % page_bytes;
}
#endif

std::span<const std::byte> map(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos) fail(path, true, "not a path");
  // O_NONBLOCK: opening a pipe must not wait for its writer; regular files do not mind.
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.value < 0) fail_with(path, errno);
  struct stat status;
  if (fstat(file.value, &status) != 0) fail_with(path, errno);
  if (S_ISDIR(status.st_mode)) fail(path, false, "is a directory");
  if (!S_ISREG(status.st_mode)) fail(path, false, "is not a regular file");
  if (status.st_size == 0) return {};
  if (static_cast<uint64_t>(status.st_size) > std::numeric_limits<size_t>::max()) fail(path, false, "too large for this process");
  const size_t n_bytes = static_cast<size_t>(status.st_size);
  void* data = mmap(nullptr, n_bytes, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (data == MAP_FAILED) fail_with(path, errno);
  prefer_huge_pages(data, n_bytes);
#ifdef __SANITIZE_ADDRESS__
  __asan_poison_memory_region(static_cast<std::byte*>(data) + n_bytes, page_tail(n_bytes));
#endif
  return {static_cast<const std::byte*>(data), n_bytes};
}

void unmap(const std::byte* data, size_t n_bytes) noexcept {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(data + n_bytes, page_tail(n_bytes));
#endif
  munmap(const_cast<std::byte*>(data), n_bytes);
}

#endif

#ifdef __linux__
constexpr int kPopulateRead = 22;  // MADV_POPULATE_READ, which not every C library's headers have

// False: the system does not know how.
bool populate(const std::string& path, const std::byte* data, size_t n_bytes) {
  if (madvise(const_cast<std::byte*>(data), n_bytes, kPopulateRead) == 0) return true;
  if (errno == EFAULT) fail(path, false, "a part of it cannot be read");  // a signal would end whoever touched it
  return false;
}
#else
bool populate(const std::string&, const std::byte*, size_t) { return false; }
#endif

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const std::span<const std::byte> bytes = map(path);
  data_ = bytes.data();
  n_bytes_ = bytes.size();
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), n_bytes_(std::exchange(other.n_bytes_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    if (n_bytes_ > 0) unmap(data_, n_bytes_);
    path_ = std::move(other.path_);
    data_ = std::exchange(other.data_, nullptr);
    n_bytes_ = std::exchange(other.n_bytes_, 0);
  }
  return *this;
}

void MappedFile::read(size_t at, size_t n_bytes) const {
  if (n_bytes == 0 || populate(path_, data_ + at, n_bytes)) return;
  constexpr size_t kPage = 4096;  // or more
  volatile std::byte sink{};
  for (size_t i = at; i < at + n_bytes; i += kPage) sink = data_[i];
  (void)sink;
}

MappedFile::~MappedFile() {
  if (n_bytes_ > 0) unmap(data_, n_bytes_);
}

}  // namespace banyan
