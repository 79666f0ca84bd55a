// engine: what all documents, sessions and jobs of one model share. Used on the engine thread only, except where said.
#pragma once

#include <memory>

#include "banyan.h"
#include "engine/compress.h"
#include "engine/document_file.h"
#include "engine/scheduler.h"

namespace banyan {

struct Engine {
  Engine(std::unique_ptr<ModelFiles> files, std::unique_ptr<Device> device, const LoadOptions& options);

  const std::unique_ptr<ModelFiles> files;
  const std::unique_ptr<Device> device;
  const TreeConfig tree;  // the adapter's, with the options' overrides
  const DType kv_dtype;
  const Decoder upper, lower;
  Activations activations;
  Compressor compressor;
  ModelInfo info;       // any thread; constant after load
  Scheduler scheduler;  // any thread; last member: its thread ends before the rest goes

  bool has_adapter() const { return tree.n_injected_layers > 0; }
  Stream stream(const CancelFlag& cancel) const {
    Stream s = device->stream();
    s.cancel = cancel.get();
    return s;
  }
  // Throws kInvalidArgument for an id outside the vocabulary. Any thread.
  void check_ids(const std::vector<int32_t>& ids, Code code = Code::kInvalidArgument) const;
  DocumentShape document_shape(const TreeConfig& tree) const;
};

}  // namespace banyan
