// path: the few questions the readers ask the file system. Paths are UTF-8 on every system.
#pragma once

#include <filesystem>
#include <string>

namespace banyan {

inline std::filesystem::path native_path(const std::string& path) { return std::filesystem::path(std::u8string(path.begin(), path.end())); }

// False also for what cannot be looked at; opening it then says why.
inline bool is_directory(const std::string& path) noexcept {
  try {
    return std::filesystem::is_directory(native_path(path));
  } catch (...) { return false; }
}

inline bool path_exists(const std::string& path) noexcept {
  try {
    return std::filesystem::exists(native_path(path));
  } catch (...) { return false; }
}

#ifdef _WIN32
inline constexpr const char* kPathSeparators = "/\\";
#else
inline constexpr const char* kPathSeparators = "/";
#endif

inline std::string join_path(const std::string& directory, const std::string& name) {
  const bool has_separator = !directory.empty() && std::string(kPathSeparators).find(directory.back()) != std::string::npos;
  return directory + (has_separator ? "" : "/") + name;
}

inline std::string parent_path(const std::string& path) {
  const size_t end = path.find_last_of(kPathSeparators);
  if (end == std::string::npos) return ".";
  return end == 0 ? path.substr(0, 1) : path.substr(0, end);
}

// True for a name that stays inside its directory on every system: no separators, no drive, not "." or "..", no control bytes.
inline bool is_plain_file_name(const std::string& name) {
  if (name.empty() || name == "." || name == "..") return false;
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == '/' || c == '\\' || c == ':') return false;
  }
  return true;
}

}  // namespace banyan
