#include "cuda/emulate/runtime.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

struct EmulatedGraph {
  struct Launch {
    banyan::emulate::Shape shape;
    banyan::emulate::Body body;
  };
  std::vector<Launch> launches;
};
struct EmulatedGraphExec : EmulatedGraph {};
struct EmulatedStream {
  std::unique_ptr<EmulatedGraph> captured;  // null: it does not capture
  bool is_sound = true;                     // what it captured
};
struct EmulatedEvent {};

namespace banyan::emulate {
namespace {

constexpr size_t kAlignment = 64;  // less than a real device's 256, so that the end lies near the guard page
constexpr size_t kDefaultMiB = 16 * 1024;
constexpr size_t kRetired = 64;  // so many of the latest released allocations' addresses belong to nobody: who still uses one is seen

struct Allocation {
  size_t n_bytes;  // what was asked for
  char* pages;     // mapped: the pages, then a guard
  size_t page_bytes;
};

struct Device {
  std::mutex mutex;  // one launch or copy at a time
  std::map<const char*, Allocation> by_start;
  size_t used = 0;
  std::deque<Allocation> retired;         // the oldest first
  std::vector<const Allocation*> opened;  // by the kernel that runs
  std::string failure;                    // of a launch
};

Device& device() {
  static Device device;
  return device;
}

size_t page_size() {
  static const auto size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

int setting(const char* name, int fallback) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? std::atoi(text) : fallback;
}

size_t total_bytes() { return static_cast<size_t>(setting("BANYAN_EMULATED_MIB", kDefaultMiB)) << 20; }

// The allocation that holds [at, at + n_bytes), or null.
const Allocation* owner_of(const void* at, size_t n_bytes) {
  const Device& d = device();
  auto next = d.by_start.upper_bound(static_cast<const char*>(at));
  if (next == d.by_start.begin()) return nullptr;
  --next;
  const auto offset = static_cast<size_t>(static_cast<const char*>(at) - next->first);
  return offset <= next->second.n_bytes && n_bytes <= next->second.n_bytes - offset ? &next->second : nullptr;
}

// The allocation in whose pages this address lies, or null.
const Allocation* pages_of(const void* at) {
  for (const auto& [start, allocation] : device().by_start) {
    if (at >= allocation.pages && at < allocation.pages + allocation.page_bytes) return &allocation;
  }
  return nullptr;
}

// Gives the memory back and keeps the addresses for a while.
void retire(const Allocation& allocation) {
  const size_t n_bytes = allocation.page_bytes + page_size();
  mmap(allocation.pages, n_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  std::deque<Allocation>& retired = device().retired;
  retired.push_back(allocation);
  if (retired.size() <= kRetired) return;
  munmap(retired.front().pages, retired.front().page_bytes + page_size());
  retired.pop_front();
}

void protect(const Allocation& allocation, int how) { mprotect(allocation.pages, allocation.page_bytes, how); }

// A kernel's first access to an allocation opens it. Any other fault ends the process after saying whose it was: a kernel's that leaves its memory, or
// the host's.
void on_fault(int number, siginfo_t* info, void*) {
  const Allocation* allocation = pages_of(info->si_addr);
  if (current != nullptr && allocation != nullptr) {
    protect(*allocation, PROT_READ | PROT_WRITE);
    device().opened.push_back(allocation);  // has room for all
    return;
  }
  char text[400];
  int n;
  if (current != nullptr) {
    n = std::snprintf(text, sizeof text, "emulated device: block (%u, %u, %u), thread (%u, %u, %u) of a kernel touches %p, which is not its memory\n",
        block_index.x, block_index.y, block_index.z, current->index.x, current->index.y, current->index.z, info->si_addr);
  } else {
    n = std::snprintf(
        text, sizeof text, "emulated device: the host touches %p%s\n", info->si_addr, allocation != nullptr ? ", which is device memory" : "");
  }
  if (write(STDERR_FILENO, text, static_cast<size_t>(n)) < 0) _exit(1);
  signal(number, SIG_DFL);
}

void watch_faults() {
  static const bool is_watching = [] {
    static char stack[64 * 1024];
    stack_t alternate{};
    alternate.ss_sp = stack;
    alternate.ss_size = sizeof stack;
    sigaltstack(&alternate, nullptr);
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
    return true;
  }();
  (void)is_watching;
}

thread_local EmulatedStream* capturing = nullptr;  // the stream that captures for this thread

// What a thread may not do while it captures; the capture ends in failure if it does. The default stream never captures.
bool is_forbidden() {
  if (capturing == nullptr) return false;
  capturing->is_sound = false;
  return true;
}
bool is_forbidden_in(EmulatedStream* stream) {
  if (stream == nullptr || stream->captured == nullptr) return false;
  stream->is_sound = false;
  return true;
}

cudaError_t state() { return device().failure.empty() ? cudaSuccess : cudaErrorLaunchFailure; }

}  // namespace

namespace {

void run_kernel(const Shape& shape, const Body& body) {
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  watch_faults();
  if (!d.failure.empty()) return;
  d.opened.reserve(d.by_start.size());
  d.failure = run_grid(shape, body);
  for (const Allocation* allocation : d.opened) protect(*allocation, PROT_NONE);
  d.opened.clear();
  if (!d.failure.empty()) std::fprintf(stderr, "emulated device: %s\n", d.failure.c_str());
}

}  // namespace

void launch(cudaStream_t stream, const Shape& shape, Body body) {
  if (stream != nullptr && stream->captured != nullptr) stream->captured->launches.push_back({shape, std::move(body)});
  else run_kernel(shape, body);
}

void forget_failure() { device().failure.clear(); }

}  // namespace banyan::emulate

using namespace banyan::emulate;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorIllegalState: return "cudaErrorIllegalState";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorNotSupported: return "cudaErrorNotSupported";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
  }
  return "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorLaunchFailure && !device().failure.empty() ? device().failure.c_str() : cudaGetErrorName(error);
}
cudaError_t cudaGetLastError() { return state(); }
cudaError_t cudaPeekAtLastError() { return state(); }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) { return *count = setting("BANYAN_EMULATED_DEVICES", 1), *count > 0 ? cudaSuccess : cudaErrorNoDevice; }
cudaError_t cudaSetDevice(int index) {
  int count = 0;
  cudaGetDeviceCount(&count);
  return index >= 0 && index < count ? cudaSuccess : cudaErrorInvalidDevice;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::snprintf(properties->name, sizeof properties->name, "Emulated");
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = setting("BANYAN_EMULATED_SMS", 132); return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: *value = setting("BANYAN_EMULATED_CAPABILITY", 90) / 10; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = setting("BANYAN_EMULATED_CAPABILITY", 90) % 10; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 227 * 1024; return cudaSuccess;
    case cudaDevAttrMemoryPoolsSupported: *value = 1; return cudaSuccess;
  }
  return cudaErrorInvalidValue;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const std::lock_guard lock(device().mutex);
  *total = total_bytes();
  *free = *total - std::min(*total, device().used);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return *stream = new EmulatedStream, cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return is_forbidden_in(stream) ? cudaErrorStreamCaptureUnsupported : state(); }
cudaError_t cudaDeviceSynchronize() { return is_forbidden() ? cudaErrorStreamCaptureUnsupported : state(); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = new EmulatedEvent, cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t stream) { return is_forbidden_in(stream) ? cudaErrorStreamCaptureUnsupported : state(); }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return state(); }

cudaError_t cudaMallocAsync(void** memory, size_t n_bytes, cudaStream_t stream) {
  if (is_forbidden_in(stream)) return cudaErrorStreamCaptureUnsupported;
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  watch_faults();
  if (n_bytes > total_bytes() - std::min(total_bytes(), d.used)) return cudaErrorMemoryAllocation;
  const size_t page = page_size(), space = (std::max<size_t>(n_bytes, 1) + kAlignment - 1) / kAlignment * kAlignment,
               page_bytes = (space + page - 1) / page * page;
  void* pages = mmap(nullptr, page_bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return cudaErrorMemoryAllocation;
  std::memset(pages, 0xFF, page_bytes);
  mprotect(pages, page_bytes + page, PROT_NONE);
  char* start = static_cast<char*>(pages) + page_bytes - space;
  d.by_start[start] = {n_bytes, static_cast<char*>(pages), page_bytes};
  d.used += n_bytes;
  *memory = start;
  return cudaSuccess;
}

cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  if (is_forbidden_in(stream)) return cudaErrorStreamCaptureUnsupported;
  if (memory == nullptr) return cudaSuccess;
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  const auto found = d.by_start.find(static_cast<char*>(memory));
  if (found == d.by_start.end()) return cudaErrorInvalidValue;
  const Allocation& allocation = found->second;
  d.used -= allocation.n_bytes;
  protect(allocation, PROT_READ);
  // What lies between the end that was asked for and the guard must still be as it was.
  bool is_sound = true;
  for (const char* at = found->first + allocation.n_bytes; at < allocation.pages + allocation.page_bytes; ++at) is_sound = is_sound && *at == '\xFF';
  if (!is_sound) d.failure = "a kernel wrote behind an allocation of " + std::to_string(allocation.n_bytes) + " bytes";
  if (!is_sound) std::fprintf(stderr, "emulated device: %s\n", d.failure.c_str());
  retire(allocation);
  d.by_start.erase(found);
  return state();
}

cudaError_t cudaMalloc(void** memory, size_t n_bytes) {
  return is_forbidden() ? cudaErrorStreamCaptureUnsupported : cudaMallocAsync(memory, n_bytes, {});
}
cudaError_t cudaFree(void* memory) { return is_forbidden() ? cudaErrorStreamCaptureUnsupported : cudaFreeAsync(memory, {}); }
cudaError_t cudaMallocHost(void** memory, size_t n_bytes) {
  if (is_forbidden()) return cudaErrorStreamCaptureUnsupported;
  *memory = std::malloc(n_bytes);
  return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* memory) {
  if (is_forbidden()) return cudaErrorStreamCaptureUnsupported;
  return std::free(memory), cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n_bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (is_forbidden_in(stream)) return cudaErrorStreamCaptureUnsupported;
  if (n_bytes == 0) return state();
  const std::lock_guard lock(device().mutex);
  if (state() != cudaSuccess) return state();
  const bool is_to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool is_from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const Allocation* target = owner_of(to, n_bytes);
  const Allocation* source = owner_of(from, n_bytes);
  if ((target != nullptr) != is_to_device || (source != nullptr) != is_from_device) return cudaErrorInvalidValue;
  if (target != nullptr) protect(*target, PROT_READ | PROT_WRITE);
  if (source != nullptr && source != target) protect(*source, PROT_READ);
  std::memmove(to, from, n_bytes);
  if (target != nullptr) protect(*target, PROT_NONE);
  if (source != nullptr) protect(*source, PROT_NONE);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int byte, size_t n_bytes, cudaStream_t stream) {
  if (is_forbidden_in(stream)) return cudaErrorStreamCaptureUnsupported;
  if (n_bytes == 0) return state();
  const std::lock_guard lock(device().mutex);
  const Allocation* target = owner_of(to, n_bytes);
  if (target == nullptr) return cudaErrorInvalidValue;
  protect(*target, PROT_READ | PROT_WRITE);
  std::memset(to, byte, n_bytes);
  protect(*target, PROT_NONE);
  return state();
}

// The environment variable BANYAN_EMULATED_GRAPHS says how many kernels a graph may have; 0: there are no graphs.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (mode != cudaStreamCaptureModeThreadLocal || setting("BANYAN_EMULATED_GRAPHS", 1) == 0) return cudaErrorNotSupported;
  if (stream == nullptr) return cudaErrorStreamCaptureUnsupported;
  if (stream->captured != nullptr || capturing != nullptr) return cudaErrorIllegalState;
  stream->captured = std::make_unique<EmulatedGraph>();
  stream->is_sound = true;
  capturing = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (stream == nullptr || stream->captured == nullptr || stream != capturing) return cudaErrorIllegalState;
  capturing = nullptr;
  const std::unique_ptr<EmulatedGraph> captured = std::move(stream->captured);
  if (!stream->is_sound) return cudaErrorStreamCaptureInvalidated;
  *graph = new EmulatedGraph(std::move(*captured));
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  if (graph->launches.size() > static_cast<size_t>(setting("BANYAN_EMULATED_GRAPHS", 1 << 20))) return cudaErrorMemoryAllocation;
  *made = new EmulatedGraphExec{*graph};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  if (is_forbidden_in(stream)) return cudaErrorStreamCaptureUnsupported;
  for (const EmulatedGraph::Launch& each : graph->launches) launch(stream, each.shape, each.body);
  return state();
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
