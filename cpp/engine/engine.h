// engine: what all documents, sessions and jobs of one model share. Used on the engine thread only, except where said.
#pragma once

#include <atomic>
#include <memory>

#include "banyan.h"
#include "engine/compress.h"
#include "engine/document_file.h"
#include "engine/kv_pool.h"
#include "engine/scheduler.h"

namespace banyan {

struct Engine;

// Where a slice of a job computes; what it cost counts for the engine.
struct EngineStream : Stream {
  EngineStream(const Engine& engine, const CancelFlag& cancel);
  EngineStream(const EngineStream&) = delete;
  ~EngineStream();

 private:
  const Engine& engine_;
};

struct Engine {
  Engine(std::unique_ptr<ModelFiles> files, std::unique_ptr<Device> device, const LoadOptions& options);

  const std::unique_ptr<ModelFiles> files;
  const std::unique_ptr<Device> device;
  const std::vector<Buffer> weights;  // copies of the files' tensors, where the device cannot read those
  const TreeConfig tree;              // the adapter's, with the options' overrides
  const DType kv_dtype;
  const BatchRows batch_rows;  // the device's
  const Decoder upper, lower;
  const KvShape kv_shape, pool_shape;  // of local caches; of whole chunks
  const KvPlace kv_place;              // of whole chunks
  KvRows prefix;                       // the begin-of-text token alone (parallel encoding), once computed
  Activations activations;
  Compressor compressor;
  ModelInfo info;                                   // any thread; constant after load
  mutable std::atomic<uint64_t> multiply_adds = 0;  // of all jobs; any thread
  std::atomic<uint64_t> n_shared_tokens = 0;        // generated in a pass with other sessions'; any thread
  Scheduler scheduler;                              // any thread; last member: its thread ends before the rest goes

  bool has_adapter() const { return tree.n_injected_layers > 0; }  // SharedLLM
  bool has(Method method) const { return method == Method::kShared ? has_adapter() : method == Method::kFocus ? files->focus.is_present : true; }
  std::optional<Method> default_method() const {
    if (has_adapter()) return Method::kShared;
    return files->focus.is_present ? std::optional(Method::kFocus) : std::nullopt;
  }
  EngineStream stream(const CancelFlag& cancel) const { return {*this, cancel}; }
  // Throws kInvalidArgument for an id outside the vocabulary. Any thread.
  void check_ids(const std::vector<int32_t>& ids, Code code = Code::kInvalidArgument) const;
  DocumentShape document_shape(const TreeConfig& tree) const;
};

inline EngineStream::EngineStream(const Engine& engine, const CancelFlag& flag) : Stream(engine.device->stream()), engine_(engine) {
  cancel = flag.get();
}
inline EngineStream::~EngineStream() { engine_.multiply_adds += multiply_adds; }

}  // namespace banyan
