#include "cuda/replay.h"

#include <algorithm>
#include <string>
#include <utility>

#include "cuda/failure.h"

namespace banyan::cuda {
namespace {

// Of a step there are two, the pass and its logits, and each has two addresses of the residual stream (Layer::ask swaps buffers in a prefill). So this is
// four sessions that take turns, or one and the shared passes that form around it. A log of 450 ops is 50 KB, a graph of as many kernels some hundreds, and
// a log that is another differs within its first layer, so looking through all costs microseconds.
constexpr size_t kMostKnown = 16;

thread_local const Replays* noting_here = nullptr;

}  // namespace

Replays::Replays(const Ops& ops, Backend& backend) : ops_(ops), noting_(AllOps::noting(ops.name)), backend_(backend) {
  require(cudaStreamCreateWithFlags(&capturing_, cudaStreamNonBlocking), "making a stream");
}

// A graph that still runs is freed when it is done.
Replays::~Replays() {
  for (const Known& known : known_) {
    if (known.graph != nullptr) cudaGraphExecDestroy(known.graph);
  }
  cudaStreamDestroy(capturing_);
}

void Replays::refuse_between(const char* what) const {
  if (noting_here == this) throw Error(Code::kInternal, std::string("between the beginning and the end of a replay somebody ") + what);
}

void Replays::note_between(const char* what) noexcept {
  if (noting_here == this) between_ = what;
}

void Replays::begin(Stream& stream) {
  if (noting_here != nullptr) throw Error(Code::kInternal, "a replay begins before the end of another");
  log_.clear();
  between_ = nullptr;
  noting_here = this;
  stream.ops = &noting_;
  stream.backend = &log_;
}

void Replays::drop(Stream& stream) noexcept {
  noting_here = nullptr;
  stream.ops = &ops_;
  stream.backend = &backend_;
}

void Replays::end(Stream& stream) {
  drop(stream);
  if (between_ != nullptr) throw Error(Code::kInternal, std::string("between the beginning and the end of a replay somebody ") + between_);
  if (log_.empty() || stream.cancelled()) return;
  use_device(backend_.device_index);
  Known* known = find();
  if (known == nullptr) return keep(stream);
  if (known->graph != nullptr && known->generation != backend_.scratch.generation()) cudaGraphExecDestroy(std::exchange(known->graph, nullptr));
  if (known->graph == nullptr && !known->is_refused) capture(*known);
  if (known->graph == nullptr || !start(*known)) run(log_, ops_, stream);
}

// The one that is equal to log_ becomes the latest.
Replays::Known* Replays::find() {
  const auto found = std::find_if(known_.begin(), known_.end(), [this](const Known& known) { return known.log == log_; });
  if (found == known_.end()) return nullptr;
  std::rotate(known_.begin(), found, found + 1);
  return &known_.front();
}

// The first time: kernels are loaded and scratch memory grows, neither of which may happen in a capture. Ops that were cut short may not have done that.
void Replays::keep(Stream& stream) {
  run(log_, ops_, stream);
  if (stream.cancelled()) return;
  if (known_.size() == kMostKnown) {
    if (known_.back().graph != nullptr) cudaGraphExecDestroy(known_.back().graph);
    known_.pop_back();
  }
  known_.insert(known_.begin(), Known{std::move(log_), nullptr, 0, false});
}

// Without cancel: a graph holds all of its ops, and is started or not.
void Replays::capture(Known& known) {
  const LaunchErrors errors;
  const Scratch::Held held(backend_.scratch);
  Backend backend = backend_;
  backend.stream = capturing_;
  Stream stream;
  stream.ops = &ops_;
  stream.backend = &backend;
  cudaGraph_t graph = nullptr;
  cudaError_t error = cudaStreamBeginCapture(capturing_, cudaStreamCaptureModeThreadLocal);
  if (error == cudaSuccess) {
    run(known.log, ops_, stream);
    error = cudaStreamEndCapture(capturing_, &graph);
  }
  if (error == cudaSuccess && !errors.has_any() && !held.was_short()) error = cudaGraphInstantiate(&known.graph, graph, 0);
  if (graph != nullptr) cudaGraphDestroy(graph);
  known.generation = backend_.scratch.generation();
  if (known.graph != nullptr) return;
  known.is_refused = !held.was_short();  // once the scratch memory has grown, it may work
  cudaGetLastError();                    // what failed here shall not be told as a failure of the next call
}

bool Replays::start(Known& known) {
  if (cudaGraphLaunch(known.graph, backend_.stream) == cudaSuccess) {
    ++n_started_;
    return true;
  }
  cudaGetLastError();
  cudaGraphExecDestroy(std::exchange(known.graph, nullptr));
  known.is_refused = true;
  return false;
}

}  // namespace banyan::cuda
