#include "engine/kv_pool.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <optional>

#include "base/memory_info.h"
#include "base/scratch_file.h"

namespace banyan {

namespace {

// Large enough that a model of a billion parameters has some chunks in a slab, small enough that a short document wastes little of a disk.
constexpr size_t kSlabBytes = size_t{64} << 20;

constexpr size_t kSlabPages = 256;  // pages of tiny models: no more than a document of theirs may have

struct Slab {
  std::byte* data = nullptr;
  Buffer memory;  // empty where the slab lies in a file
};

}  // namespace

struct KvPool::State {
  State(Device& device, const KvShape& shape, int page_rows, const KvPlace& place)
      : device(device),
        page_rows(page_rows),
        page_bytes(static_cast<size_t>(page_rows) * shape.token_bytes()),
        slab_pages(std::clamp<size_t>(kSlabBytes / page_bytes, 1, kSlabPages)) {
    if (!place.directory.empty()) file = std::make_unique<ScratchFile>(place.directory);
  }
  Device& device;
  const int page_rows;
  const size_t page_bytes, slab_pages;
  std::unique_ptr<ScratchFile> file;
  std::vector<Slab> slabs;  // engine thread
  std::mutex mutex;
  std::vector<size_t> free;  // page numbers, the next one to give last
};

KvPool::KvPool(Device& device, const KvShape& shape, int page_rows, KvPlace place)
    : state_(std::make_shared<State>(device, shape, page_rows, place)) {}

void KvPool::require(size_t n_pages) const {
  if (state_->file) return;  // the file reserves its room as it grows
  size_t n_free = 0;
  {
    const std::lock_guard lock(state_->mutex);
    n_free = state_->free.size();
  }
  if (n_pages <= n_free) return;
  const uint64_t most = std::numeric_limits<uint64_t>::max() / state_->page_bytes;  // what is more is more than enough
  require_memory(std::min<uint64_t>(n_pages - n_free, most) * state_->page_bytes, state_->device.available_bytes(),
      "keeping the keys and values of " + std::to_string(n_pages) + " chunks", "a scratch file (kvDirectory) or 8 bits (poolType) need less");
}

KvRows KvPool::take() {
  State& state = *state_;
  size_t page = 0;
  bool is_found = false;
  {
    const std::lock_guard lock(state.mutex);
    if (!state.free.empty()) {
      page = state.free.back();
      state.free.pop_back();
      is_found = true;
    }
  }
  if (!is_found) {
    require(1);
    Slab slab;
    const size_t n_bytes = state.slab_pages * state.page_bytes;
    if (state.file) {
      slab.data = state.file->grow(n_bytes);
    } else {
      slab.memory = Buffer(state.device, n_bytes);
      slab.data = slab.memory.as<std::byte>();
    }
    page = state.slabs.size() * state.slab_pages;
    state.slabs.push_back(std::move(slab));
    const std::lock_guard lock(state.mutex);
    state.free.reserve(state.slabs.size() * state.slab_pages);  // so that giving back cannot fail
    for (size_t i = state.slab_pages; i > 1; --i) state.free.push_back(page + i - 1);
  }
  const size_t in_slab = page % state.slab_pages;
  const std::shared_ptr<const void> owner(state_.get(), [held = state_, page](const void*) {
    const std::lock_guard lock(held->mutex);
    held->free.push_back(page);
  });
  return {state.slabs[page / state.slab_pages].data, static_cast<int64_t>(state.slab_pages) * state.page_rows,
      static_cast<int32_t>(in_slab * static_cast<size_t>(state.page_rows)), owner};
}

}  // namespace banyan
