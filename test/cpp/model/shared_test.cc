// Cases over files that are not made here: the SharedLLM fixtures (folder BANYAN_TEST_FIXTURES, else the repository's) and a real small
// model (folder BANYAN_TEST_MODELS with stories260K-f16.gguf and -f32.gguf).
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/json.h"
#include "base/mapped_file.h"
#include "base/path.h"
#include "check.h"
#include "model/weights.h"

namespace banyan::test {
namespace {

std::string folder(const char* variable, const std::string& fallback) {
  const char* value = std::getenv(variable);
  const std::string path = value != nullptr ? value : fallback;
  if (path.empty() || !is_directory(path)) skip(std::string(variable) + " names no folder");
  return path;
}

void open_fixture(const std::string& path) {
  const MappedFile text(path + "/config.json");
  const Json json = parse_json({reinterpret_cast<const char*>(text.bytes().data()), text.bytes().size()}, path, Code::kBadModelFile);
  const auto model = ModelFiles::open({path, ""});
  CHECK_EQUAL(model->tree.n_injected_layers, static_cast<int>(-*json.find("num_cross_attn_layers")->integer()));
  CHECK_EQUAL(model->tree.depth, static_cast<int>(*json.find("segment_tree_depth")->integer()));
  CHECK_EQUAL(model->is_lower_shared, json.find("encoder_weights") != nullptr);
  CHECK_EQUAL(model->upper_config.rope.theta, *json.find("rope_theta")->number());
  const Json* semantics = json.find("semantics");  // the authors' files have none
  const Semantics named = semantics == nullptr ? Semantics::kReleased : *semantics->string() == "nested" ? Semantics::kNested : Semantics::kPaper;
  CHECK(model->tree.semantics == named);
  CHECK(model->cross.size() == model->lower.layers.size() && !model->cross.empty());
}

TEST(fixtures_open) {
#ifdef BANYAN_FIXTURES
  const std::string fallback = BANYAN_FIXTURES;
#else
  const std::string fallback;
#endif
  const std::string root = folder("BANYAN_TEST_FIXTURES", fallback);
  int n_opened = 0;
  for (const char* group : {"/sharedllm", "/paper"}) {
    if (!is_directory(root + group)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(root + group)) {
      const std::string path = entry.path().generic_string();
      if (!path_exists(path + "/config.json") || !path_exists(path + "/model.safetensors")) continue;
      open_fixture(path);
      ++n_opened;
    }
  }
  if (n_opened == 0) skip(root + " holds no fixtures");
}

TEST(stories_open) {
  const std::string root = folder("BANYAN_TEST_MODELS", "");
  if (!path_exists(root + "/stories260K-f16.gguf")) skip(root + " has no stories260K-f16.gguf");
  for (const DType dtype : {DType::kF16, DType::kF32}) {
    const auto model = ModelFiles::open({root + (dtype == DType::kF16 ? "/stories260K-f16.gguf" : "/stories260K-f32.gguf"), ""});
    const ModelConfig& c = model->upper_config;
    CHECK(c.architecture == "llama" && c.dim == 64 && c.ffn_dim == 172 && c.n_layers == 5 && c.n_heads == 8 && c.n_kv_heads == 4 && c.head_dim == 8 &&
          c.vocab_size == 512);
    CHECK(c.window == 512 && c.rope.is_interleaved && c.rope.theta == 10000.0 && c.eos_ids == std::vector<int32_t>{2} && c.bos_id == 1);
    CHECK_EQUAL(model->n_parameters, 260032u + 512u * 64u);  // the tied output matrix is written out
    CHECK(model->upper.layers[4].down.dtype == dtype && model->tokenizer->tokens.size() == 512 && model->tokenizer->tokens[1] == "<s>");
  }
}

}  // namespace
}  // namespace banyan::test
