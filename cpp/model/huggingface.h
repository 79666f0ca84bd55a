// huggingface: reader of a model directory: config.json and one or several .safetensors files.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "model/tensor_table.h"

namespace banyan {

struct HuggingFaceModel {
  std::string config_path;
  Json config;        // config.json: an adapter's keys are read from it too
  ModelConfig model;  // is_tied also where lm_head is not stored
  std::vector<MappedFile> files;
  TensorTable tensors;
};

// Throws Error: kFileNotFound, kIo, kBadModelFile, kUnsupportedModel.
HuggingFaceModel open_huggingface(const std::string& directory);

// A small JSON file (configurations: up to 16 MiB).
Json read_json_file(const std::string& path, Code damaged);

// The decoder that config.json describes. What config.json leaves out has the default of the family's configuration class in transformers;
// for encoder_config, settings of `parent` (the upper model) come before those defaults.
ModelConfig read_huggingface_config(const JsonKeys& keys, const ModelConfig* parent = nullptr);

// Adds a file's tensors; a name already there throws Error{damaged}.
void add_tensors(const Safetensors& file, TensorTable& table, Code damaged);

}  // namespace banyan
