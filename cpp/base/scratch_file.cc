#include "base/scratch_file.h"

#include <cerrno>
#include <random>
#include <system_error>

#include "base/error.h"
#include "base/path.h"

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
#include <unistd.h>
#endif

namespace banyan {
namespace {

// Of mappings: the allocation granularity of Windows, a multiple of every page size.
constexpr uint64_t kGranularity = 65536;

std::string name_in(const std::string& directory) { return join_path(directory, "banyan." + std::to_string(std::random_device()()) + ".scratch"); }

}  // namespace

void ScratchFile::fail(const std::string& what, int error) const {
  throw Error(Code::kIo, "scratch file in " + directory_ + ": cannot " + what + ": " + std::system_category().message(error));
}

#ifdef _WIN32

ScratchFile::ScratchFile(const std::string& directory) : directory_(directory) {
  if (!is_directory(directory)) throw Error(Code::kFileNotFound, directory + ": there is no such directory");
  file_ = CreateFileW(native_path(name_in(directory)).c_str(), GENERIC_READ | GENERIC_WRITE, 0, nullptr, CREATE_NEW,
      FILE_ATTRIBUTE_TEMPORARY | FILE_FLAG_DELETE_ON_CLOSE, nullptr);
  if (file_ == INVALID_HANDLE_VALUE) fail("create", static_cast<int>(GetLastError()));
}

ScratchFile::~ScratchFile() {
  for (const auto& [data, n_bytes] : maps_) UnmapViewOfFile(data);
  if (file_ != INVALID_HANDLE_VALUE) CloseHandle(file_);
}

std::byte* ScratchFile::grow(size_t n_bytes) {
  const uint64_t room = (n_bytes + kGranularity - 1) / kGranularity * kGranularity, end = n_bytes_ + room;
  const std::string what = "reserve " + std::to_string(room) + " bytes";
  LARGE_INTEGER size;
  size.QuadPart = static_cast<LONGLONG>(end);
  if (!SetFilePointerEx(file_, size, nullptr, FILE_BEGIN) || !SetEndOfFile(file_)) fail(what, static_cast<int>(GetLastError()));
  HANDLE mapping = CreateFileMappingW(file_, nullptr, PAGE_READWRITE, static_cast<DWORD>(end >> 32), static_cast<DWORD>(end), nullptr);
  if (mapping == nullptr) fail(what, static_cast<int>(GetLastError()));
  void* data = MapViewOfFile(mapping, FILE_MAP_ALL_ACCESS, static_cast<DWORD>(n_bytes_ >> 32), static_cast<DWORD>(n_bytes_), room);
  const DWORD error = GetLastError();
  CloseHandle(mapping);
  if (data == nullptr) fail(what, static_cast<int>(error));
  maps_.emplace_back(static_cast<std::byte*>(data), room);
  n_bytes_ = end;
  return maps_.back().first;
}

#else

ScratchFile::ScratchFile(const std::string& directory) : directory_(directory) {
  const std::string name = name_in(directory);
  descriptor_ = ::open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor_ < 0) {
    if (errno == ENOENT || errno == ENOTDIR) throw Error(Code::kFileNotFound, directory + ": there is no such directory");
    fail("create", errno);
  }
  ::unlink(name.c_str());
}

ScratchFile::~ScratchFile() {
  for (const auto& [data, n_bytes] : maps_) ::munmap(data, n_bytes);
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::byte* ScratchFile::grow(size_t n_bytes) {
  const uint64_t room = (n_bytes + kGranularity - 1) / kGranularity * kGranularity;
  const std::string what = "reserve " + std::to_string(room) + " bytes";
#ifdef __APPLE__
  fstore_t store{F_ALLOCATEALL, F_PEOFPOSMODE, 0, static_cast<off_t>(room), 0};
  if (::fcntl(descriptor_, F_PREALLOCATE, &store) != 0 || ::ftruncate(descriptor_, static_cast<off_t>(n_bytes_ + room)) != 0) fail(what, errno);
#else
  if (const int error = ::posix_fallocate(descriptor_, static_cast<off_t>(n_bytes_), static_cast<off_t>(room)); error != 0) fail(what, error);
#endif
  void* data = ::mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, static_cast<off_t>(n_bytes_));
  if (data == MAP_FAILED) fail("map " + std::to_string(room) + " bytes", errno);
  maps_.emplace_back(static_cast<std::byte*>(data), room);
  n_bytes_ += room;
  return maps_.back().first;
}

#endif

}  // namespace banyan
