// place_weights: brings a model's tensors where ops read them, before the first answer.
#pragma once

#include <deque>
#include <vector>

#include "banyan.h"
#include "device/buffer.h"
#include "model/weights.h"

namespace banyan {

// For a device that reads mapped files: brings all of them into memory, so that loading waits for the disk and not the first answer. Reports
// options.on_progress in bytes. Throws kAborted, kIo.
void read_files(const std::deque<MappedFile>& files, const LoadOptions& options);

// For another device: copies all tensors, norms and biases too, in their files' formats, and points the views of `files` there; the buffers returned own
// the copies. Reports options.on_progress in bytes. Throws kAborted, kOutOfMemory.
std::vector<Buffer> place_weights(ModelFiles& files, Device& device, const LoadOptions& options);

}  // namespace banyan
