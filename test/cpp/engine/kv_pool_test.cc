// Pools of keys and values, the scratch files they may lie in, and what is said when there is too little memory.
#include "engine/kv_pool.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <set>

#include "base/memory_info.h"
#include "base/scratch_file.h"
#include "device/device.h"
#include "run.h"
#include "toy.h"

#ifndef _WIN32
#include <csignal>
#include <sys/resource.h>
#endif

namespace banyan::test {

namespace {

constexpr KvShape kShape{3, 12, 6, DType::kF32};
constexpr int kRows = 8;

// Every row of every layer of the page.
template <class F> void each_row(const KvRows& rows, F&& visit) {
  for (int layer = 0; layer < kShape.n_layers; ++layer) {
    const KvView view = rows.layer(kShape, layer);
    for (void* side : {view.k, view.v}) {
      for (int i = 0; i < kRows; ++i) visit(static_cast<std::byte*>(side) + static_cast<size_t>(rows.row + i) * kShape.row());
    }
  }
}

std::string message_of(const std::function<void()>& body, Code code) {
  try {
    body();
  } catch (const Error& error) { return error.code == code ? error.what() : std::string("another code: ") + error.what(); }
  return "nothing was thrown";
}

}  // namespace

TEST(kv_pool_pages) {
  Run run;
  const auto device = make_cpu_device(1, "");
  const TempDir directory;
  for (const std::string& place : {std::string(), directory.path()}) {
    const std::string name = place.empty() ? "memory: " : "file: ";
    KvPool pool(*device, kShape, kRows, {place});
    std::vector<KvRows> pages;
    std::set<std::byte*> slabs, rows;
    int n_neighbours = 0;
    for (int i = 0; i < 600; ++i) {
      const KvRows page = pool.take();
      slabs.insert(page.slab);
      each_row(page, [&](std::byte* row) { run.check(rows.insert(row).second, name + "no row is given twice"); });
      n_neighbours += !pages.empty() && pages.back().slab == page.slab && pages.back().row + kRows == page.row;
      each_row(page, [&](std::byte* row) { std::memset(row, i, kShape.row()); });
      pages.push_back(page);
    }
    for (auto row = rows.begin(); std::next(row) != rows.end(); ++row)
      run.check(*row + kShape.row() <= *std::next(row), name + "rows do not overlap");
    run.check(slabs.size() > 1 && slabs.size() < 60, name + std::to_string(slabs.size()) + " slabs for 600 pages");
    run.equal(n_neighbours, 600 - static_cast<int>(slabs.size()), name + "pages that follow one another");
    bool is_same = true;
    for (int i = 0; i < 600; ++i) {
      each_row(pages[static_cast<size_t>(i)], [&](std::byte* row) {
        for (size_t at = 0; at < kShape.row(); ++at) is_same = is_same && row[at] == static_cast<std::byte>(i);
      });
    }
    run.check(is_same, name + "what was written into a page stays");

    // given back and used again
    std::set<std::pair<std::byte*, int>> freed, again;
    for (int i = 0; i < 600; i += 3) {
      freed.insert({pages[static_cast<size_t>(i)].slab, pages[static_cast<size_t>(i)].row});
      pages[static_cast<size_t>(i)] = {};
    }
    while (pages.size() < 3000 && slabs.count((pages.push_back(pool.take()), pages.back().slab)) == 1)
      again.insert({pages.back().slab, pages.back().row});
    run.check(std::includes(again.begin(), again.end(), freed.begin(), freed.end()), name + "given back pages are used again before new slabs");
    std::set<std::pair<std::byte*, int>> held;
    for (const KvRows& page : pages) {
      if (page.slab != nullptr) run.check(held.insert({page.slab, page.row}).second, name + "no page is held twice");
    }
  }
  run.check(directory.names().empty(), "nothing is left in the directory");
}

TEST(kv_pool_outlived) {
  Run run;
  const auto device = make_cpu_device(1, "");
  const TempDir directory;
  for (const std::string& place : {std::string(), directory.path()}) {
    KvRows page;
    {
      KvPool pool(*device, kShape, kRows, {place});
      page = pool.take();
      each_row(page, [](std::byte* row) { std::memset(row, 7, kShape.row()); });
    }
    bool is_same = true;
    each_row(page, [&](std::byte* row) { is_same = is_same && row[kShape.row() - 1] == std::byte{7}; });
    run.check(is_same, "a page outlives its pool");
  }
}

TEST(kv_pool_errors) {
  Run run;
  const auto device = make_cpu_device(1, "");
  const TempDir directory;
  KvPool pool(*device, kShape, kRows, {});
  pool.require(1);
  pool.require(1000);
  const size_t n_pages = size_t{1} << 45, n_bytes = n_pages * kRows * kShape.token_bytes();
  const std::string text = message_of([&] { pool.require(n_pages); }, Code::kOutOfMemory);
  run.check(text.find(std::to_string(n_bytes)) != std::string::npos, "the message has the needed bytes: " + text);
  run.check(text.find("bytes of memory") != std::string::npos && text.find("kvDirectory") != std::string::npos, "and what to do: " + text);
  const KvRows page = pool.take();
  run.check(page.slab != nullptr, "the pool stays usable");
  KvPool filed(*device, kShape, kRows, {directory.path()});
  filed.require(n_pages);  // what a file needs is known when it grows
  run.throws(
      Code::kFileNotFound, [&] { KvPool(*device, kShape, kRows, {directory.path("none")}); }, "no such directory");
}

TEST(memory_is_counted) {
  Run run;
  const uint64_t available = available_memory();
  run.check(available > (1u << 20), "some memory is available: " + std::to_string(available));
  require_memory(0, available, "nothing");
  require_memory(1 << 16, available, "a little");
  const uint64_t wanted = UINT64_MAX / 2;
  for (const std::string& advice : {std::string(), std::string("take less")}) {
    const std::string text = message_of([&] { require_memory(wanted, available_memory(), "reading this", advice); }, Code::kOutOfMemory);
    run.check(text.rfind("reading this", 0) == 0, "the message begins with what needs it: " + text);
    run.check(text.find(std::to_string(wanted)) != std::string::npos, "it has the needed bytes: " + text);
    run.check(advice.empty() ? text.find(';') == std::string::npos : text.find(advice) != std::string::npos, "advice: " + text);
    const size_t at = text.find_last_of("0123456789"), begin = text.find_last_not_of("0123456789", at) + 1;
    const uint64_t said = std::stoull(text.substr(begin, at - begin + 1));
    run.check(said > 0 && said < wanted, "it has the available bytes: " + text);
  }
}

TEST(scratch_file_content) {
  Run run;
  const TempDir directory;
  ScratchFile file(directory.path());
#ifndef _WIN32
  run.check(directory.names().empty(), "it has no name");
#endif
  std::vector<std::pair<std::byte*, size_t>> pieces;
  for (const size_t n : {size_t{1}, size_t{4096}, size_t{65536}, size_t{65537}, size_t{3000001}, size_t{10}}) {
    std::byte* data = file.grow(n);
    run.check(reinterpret_cast<uintptr_t>(data) % 4096 == 0, "aligned to pages");
    run.check(std::all_of(data, data + n, [](std::byte b) { return b == std::byte{0}; }), "zero at first");
    for (size_t i = 0; i < n; ++i) data[i] = static_cast<std::byte>(i * 31 + n);
    pieces.emplace_back(data, n);
  }
  for (const auto& [data, n] : pieces) {
    bool is_same = true;
    for (size_t i = 0; i < n; ++i) is_same = is_same && data[i] == static_cast<std::byte>(i * 31 + n);
    run.check(is_same, "a piece of " + std::to_string(n) + " bytes keeps its content");
  }
  const ScratchFile other(directory.path());
}

TEST(scratch_file_errors) {
  Run run;
  const TempDir directory;
  run.throws(
      Code::kFileNotFound, [&] { ScratchFile(directory.path("none")); }, "no such directory");
  write_bytes(directory.path("file"), "x");
  run.throws(
      Code::kFileNotFound, [&] { ScratchFile(directory.path("file")); }, "a file in its place");
#ifdef __linux__
  ScratchFile file(directory.path());
  std::byte* data = file.grow(100);
  data[99] = std::byte{5};
  const uint64_t n_bytes = uint64_t{1} << 60;
  const std::string text = message_of([&] { file.grow(n_bytes); }, Code::kIo);
  run.check(text.find(std::to_string(n_bytes)) != std::string::npos && text.find(directory.path()) != std::string::npos, "beyond the disk: " + text);
  run.check(data[99] == std::byte{5}, "what was there stays");
  // a limit on the file's size is what a full disk looks like
  void (*const old_handler)(int) = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  rlimit limit = old;
  limit.rlim_cur = 1 << 20;
  setrlimit(RLIMIT_FSIZE, &limit);
  const std::string full = message_of([&] { file.grow(4 << 20); }, Code::kIo);
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, old_handler);
  run.check(full.find(std::to_string(4 << 20)) != std::string::npos, "a full disk: " + full);
  std::byte* more = file.grow(8 << 20);
  std::memset(more, 1, 8 << 20);
  run.check(data[99] == std::byte{5} && more[(8 << 20) - 1] == std::byte{1}, "it grows when there is room again");
#endif
}

}  // namespace banyan::test
