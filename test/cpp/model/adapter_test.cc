#include <algorithm>

#include "check.h"
#include "make_files.h"
#include "model/weights.h"

namespace banyan::test {
namespace {

std::string quoted(const std::string& text) { return "\"" + text + "\""; }

std::vector<MadeTensor> together(std::vector<MadeTensor> a, const std::vector<MadeTensor>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

bool same_bytes(const WeightView& view, const std::string& name) {
  const std::string bytes = tensor_bytes(name, view.dtype, {view.rows, view.cols});
  return view && std::memcmp(view.data, bytes.data(), bytes.size()) == 0;
}

// Value [row, 0] of an F32 matrix.
float row_head(const WeightView& view, int64_t row) {
  float value;
  std::memcpy(&value, static_cast<const char*>(view.data) + static_cast<size_t>(row * view.cols) * sizeof value, sizeof value);
  return value;
}

Tiny lower_of(const Tiny& base, int n_layers) {
  Tiny lower = base;
  lower.n_layers = n_layers;
  return lower;
}

Members authors_keys(const Tiny& base, int n_injected, const Tiny& lower) {
  Members config = tiny_config(base);
  config["num_cross_attn_layers"] = std::to_string(-n_injected);
  config["last_p"] = quoted("8");
  config["segment_tree_depth"] = "2";
  config["encoder_config"] = json_object(tiny_config(lower));
  return config;
}

TEST(checkpoint_with_its_own_lower_model) {
  const TempDirectory temp;
  const Tiny m = tiny("llama");
  const auto own = together(huggingface_tensors(m), together(cross_tensors(m, 1), huggingface_tensors(m, "encoder.", false)));
  const auto model = ModelFiles::open({write_huggingface(temp, "m", authors_keys(m, 1, m), own), ""});
  CHECK(!model->is_lower_shared && model->lower_config.n_layers == 1 && model->lower.layers.size() == 1 && model->cross.size() == 1);
  const TreeConfig& tree = model->tree;
  CHECK(tree.semantics == Semantics::kReleased && tree.slot_kind == SlotKind::kStrided && tree.depth == 2 && tree.chunk_size == 1024 &&
        tree.do_retrieval);
  CHECK(tree.n_injected_layers == 1 && !tree.keep.is_fraction && tree.keep.count == 8);
  CHECK(same_bytes(model->lower.layers[0].q, "encoder.layers.0.self_attn.q_proj.weight") &&
        same_bytes(model->lower.embedding, "encoder.embed_tokens.weight"));
  CHECK(same_bytes(model->cross[0].q, "model.layers.0.cross_attn.q_proj.weight") &&
        same_bytes(model->cross[0].o, "model.layers.0.cross_attn.o_proj.weight"));
  CHECK_EQUAL(model->cross[0].norm[2], tensor_value("model.layers.0.cross_attn.layernorm.weight", 2));
  CHECK_EQUAL(model->lower.final_norm[2], tensor_value("encoder.norm.weight", 2));
  CHECK(!model->lower.head);

  auto fewer = own;  // embedding and norm fall back to the upper model's
  std::erase_if(fewer, [](const MadeTensor& t) { return t.name == "encoder.embed_tokens.weight" || t.name == "encoder.norm.weight"; });
  const auto fallen = ModelFiles::open({write_huggingface(temp, "m", authors_keys(m, 1, m), fewer), ""});
  CHECK(same_bytes(fallen->lower.embedding, "model.embed_tokens.weight") && fallen->lower.final_norm == fallen->upper.final_norm);
}

TEST(checkpoint_with_a_shared_lower_model) {
  const TempDirectory temp;
  const Tiny m = tiny("llama");
  const auto shared = together(huggingface_tensors(m), cross_tensors(m, 2));
  Members config = authors_keys(m, 2, m);
  for (const char* weights : {"", "\"shared\""}) {
    if (*weights != '\0') config["encoder_weights"] = weights;
    const auto model = ModelFiles::open({write_huggingface(temp, "m", config, shared), ""});
    CHECK(model->is_lower_shared && model->lower.layers.size() == 2 && model->lower_config.n_layers == 2);
    CHECK(model->lower.layers[1].k.data == model->upper.layers[1].k.data && model->lower.embedding.data == model->upper.embedding.data);
    CHECK(model->lower.final_norm == model->upper.final_norm && !model->lower.head);
  }
  const auto mismatch = [&](const std::string& key, const std::string& value) {
    Members lower = tiny_config(m), changed = config;
    lower[key] = value;
    changed["encoder_config"] = json_object(lower);
    return ModelFiles::open({write_huggingface(temp, "m", changed, shared), ""});
  };
  CHECK_THROWS(kBadAdapter, "another intermediate_size", mismatch("intermediate_size", "65"));
  CHECK_THROWS(kBadAdapter, "another vocab_size", mismatch("vocab_size", "25"));
  CHECK_THROWS(kBadAdapter, "rope_theta", mismatch("rope_theta", "5e5"));
  CHECK_THROWS(kBadAdapter, "another rms_norm_eps", mismatch("rms_norm_eps", "1e-6"));
  CHECK_THROWS(kBadAdapter, "fewer than", mismatch("num_hidden_layers", "1"));
  CHECK_THROWS(kBadAdapter, "another model_type", mismatch("model_type", "\"qwen2\""));
  CHECK_THROWS(kUnsupportedModel, "encoder_config.hidden_act", mismatch("hidden_act", "\"gelu\""));
  config["encoder_weights"] = "\"own\"";
  CHECK_THROWS(kBadAdapter, "0 are stored", ModelFiles::open({write_huggingface(temp, "m", config, shared), ""}));
}

TEST(checkpoint_keys) {
  const TempDirectory temp;
  const Tiny m = tiny("llama");
  const auto tensors = together(huggingface_tensors(m), cross_tensors(m, 2));
  const auto with = [&](const Members& changes) {
    Members config = authors_keys(m, 2, m);
    for (const auto& [key, value] : changes) config[key] = value;
    return ModelFiles::open({write_huggingface(temp, "m", config, tensors), ""})->tree;
  };
  CHECK_EQUAL(with({{"last_p", "16"}}).keep.count, 16);
  CHECK_EQUAL(with({{"last_p", "0.25"}}).keep.fraction, 0.25);
  CHECK_EQUAL(with({{"last_p", "null"}}).keep.count, 64);
  CHECK_EQUAL(with({{"last_p", "\"\\\"4\\\"\""}}).keep.count, 4);
  CHECK_EQUAL(with({{"segment_tree_depth", "null"}}).depth, 3);
  CHECK_EQUAL(with({{"do_retrieval", "false"}}).do_retrieval, false);
  CHECK_EQUAL(with({{"chunk_size", "64"}}).chunk_size, 64);
  CHECK(with({{"semantics", "\"corrected\""}, {"slot_kind", "\"mean\""}}).semantics == Semantics::kCorrected);
  CHECK_EQUAL(with({{"num_cross_attn_layers", "0"}}).n_injected_layers, 0);
  CHECK_EQUAL(with({{"do_cross_attention", "false"}}).n_injected_layers, 0);
  CHECK_THROWS(kBadAdapter, "\"num_cross_attn_layers\" is positive", with({{"num_cross_attn_layers", "2"}}));
  CHECK_THROWS(kBadAdapter, "the base has 2", with({{"num_cross_attn_layers", "-3"}}));
  CHECK_THROWS(kBadAdapter, "must be an integer", with({{"num_cross_attn_layers", "\"-2\""}}));
  CHECK_THROWS(kBadAdapter, "is missing but tensor", with({{"num_cross_attn_layers", "null"}}));
  CHECK_THROWS(kBadAdapter, "\"last_p\"", with({{"last_p", "\"eval\""}}));
  CHECK_THROWS(kBadAdapter, "\"last_p\"", with({{"last_p", "true"}}));
  CHECK_THROWS(kBadAdapter, "semantics", with({{"semantics", "\"else\""}}));
  CHECK_THROWS(kBadAdapter, "must be one of strided, mean", with({{"slot_kind", "\"max\""}}));
  const auto matching = with({{"selection", "\"token_keys\""}, {"selection_layer", "1"}, {"selection_heads", "[1]"}});
  CHECK(matching.selection == SelectionRule::kTokenKeys && matching.selection_layer == 1 && matching.selection_heads == std::vector<int>{1});
  CHECK_THROWS(kBadAdapter, "must be one of cosine, token_keys", with({{"selection", "\"best\""}}));
  CHECK_THROWS(kBadAdapter, "selection_layer", with({{"selection", "\"token_keys\""}}));
  CHECK_THROWS(kBadAdapter, "selection_layer", with({{"selection", "\"token_keys\""}, {"selection_layer", "2"}}));
  CHECK_THROWS(kBadAdapter, "selection_heads", with({{"selection", "\"token_keys\""}, {"selection_layer", "0"}, {"selection_heads", "[99]"}}));
  CHECK_THROWS(kBadAdapter, "selection_heads", with({{"selection", "\"token_keys\""}, {"selection_layer", "0"}, {"selection_heads", "1"}}));
  CHECK_THROWS(kBadAdapter, "encoder_weights", with({{"encoder_weights", "\"tied\""}}));
  CHECK_THROWS(kBadAdapter, "segment_tree_depth", with({{"segment_tree_depth", "0"}}));
  CHECK_THROWS(kBadAdapter, "cannot be halved", with({{"chunk_size", "63"}}));
  CHECK_THROWS(kMissingTensor, "model.layers.1.cross_attn.layernorm.weight", [&] {
    auto fewer = tensors;
    std::erase_if(fewer, [](const MadeTensor& t) { return t.name == "model.layers.1.cross_attn.layernorm.weight"; });
    return ModelFiles::open({write_huggingface(temp, "m", authors_keys(m, 2, m), fewer), ""});
  }());
}

TEST(checkpoint_lower_model_must_fit) {
  const TempDirectory temp;
  const Tiny m = tiny("llama");
  const auto with = [&](const Tiny& lower, int n_injected, const char* do_retrieval = "true") {
    Members config = authors_keys(m, n_injected, lower);
    config["do_retrieval"] = do_retrieval;
    const auto tensors = together(huggingface_tensors(m), together(cross_tensors(m, n_injected), huggingface_tensors(lower, "encoder.", false)));
    return ModelFiles::open({write_huggingface(temp, "m", config, tensors), ""});
  };
  Tiny deep = lower_of(m, 4);
  CHECK_EQUAL(with(deep, 2)->lower.layers.size(), 2u);
  CHECK_THROWS(kBadAdapter, "fewer than", with(lower_of(m, 1), 2));
  Tiny lying = lower_of(m, 1);
  Members config = authors_keys(m, 2, m);  // claims 2 layers, stores 1
  const auto tensors = together(huggingface_tensors(m), together(cross_tensors(m, 2), huggingface_tensors(lying, "encoder.", false)));
  CHECK_THROWS(kBadAdapter, "1 are stored", ModelFiles::open({write_huggingface(temp, "m", config, tensors), ""}));
  Tiny heads = m;
  heads.n_heads = 3, heads.n_kv_heads = 3;
  CHECK_THROWS(kBadAdapter, "do not divide", with(heads, 1));
  heads.n_heads = heads.n_kv_heads = 4;
  CHECK_EQUAL(with(heads, 1)->lower_config.n_kv_heads, 4);
  Tiny size = m;
  size.head_dim = 16;
  CHECK_THROWS(kBadAdapter, "head size 16", with(size, 1));
  Tiny narrow = m;
  narrow.dim = 16;
  CHECK_THROWS(kBadAdapter, "hidden_size 16", with(narrow, 1));
  CHECK_EQUAL(with(narrow, 1, "false")->lower_config.dim, 16);
  Tiny vocabulary = m;
  vocabulary.vocab_size = 20;
  CHECK_THROWS(kBadAdapter, "vocab_size", with(vocabulary, 1));
}

TEST(adapter_positions_and_budget) {
  const TempDirectory temp;
  const Tiny m = tiny("llama");
  const std::string base = write_huggingface(temp, "base", tiny_config(m), huggingface_tensors(m));
  const auto open = [&](const Members& changes) {
    Members config = adapter_config(m, 2);
    for (const auto& [key, value] : changes) config[key] = value;
    return ModelFiles::open({base, write_adapter(temp, "a", config, cross_tensors(m, 2))});
  };
  const std::pair<const char*, const char*> nested{"semantics", "\"nested\""}, banded{"positions", "\"banded\""};
  const auto plain = open({nested});
  CHECK(plain->tree.semantics == Semantics::kNested && plain->tree.positions == Positions::kSum && plain->tree.slot_budget == 0 &&
        plain->tree.budget_unit == BudgetUnit::kChunk);
  const auto full =
      open({nested, banded, {"slot_budget", "512"}, {"budget_unit", "\"group\""}, {"selection", "\"token_keys\""}, {"selection_layer", "1"}});
  CHECK(full->tree.positions == Positions::kBanded && full->tree.slot_budget == 512 && full->tree.budget_unit == BudgetUnit::kGroup);
  CHECK(open({nested, banded})->fingerprint != plain->fingerprint);
  CHECK_EQUAL(open({nested, {"slot_budget", "9"}})->fingerprint, plain->fingerprint);  // documents serve any budget
  CHECK_EQUAL(open({{"slot_budget", "9"}, {"chunk_size", "37"}})->tree.slot_budget, 9);
  CHECK_THROWS(kBadAdapter, "must be one of sum, banded", open({nested, {"positions", "\"both\""}}));
  CHECK_THROWS(kBadAdapter, "need the semantics nested", open({banded}));
  CHECK_THROWS(kBadAdapter, "must be one of released, corrected, paper, nested", open({{"semantics", "\"deep\""}}));
  CHECK_THROWS(kBadAdapter, "slot_budget", open({nested, {"slot_budget", "-1"}}));
  CHECK_THROWS(kBadAdapter, "slot_budget", open({nested, {"slot_budget", "1.5"}}));
  CHECK_THROWS(kBadAdapter, "slot_budget", open({nested, {"slot_budget", "\"9\""}}));
  CHECK_THROWS(kBadAdapter, "slot_budget needs scores", open({nested, {"slot_budget", "9"}, {"do_retrieval", "false"}}));
  CHECK_THROWS(kBadAdapter, "must be one of chunk, group", open({nested, {"budget_unit", "\"slot\""}}));
  CHECK_THROWS(kBadAdapter, "budget_unit \"group\" needs", open({nested, {"slot_budget", "9"}, {"budget_unit", "\"group\""}}));
}

TEST(adapter_on_a_huggingface_base) {
  const TempDirectory temp;
  const Tiny m = tiny("qwen3");
  const std::string base = write_huggingface(temp, "base", tiny_config(m), huggingface_tensors(m));
  const std::string adapter = write_adapter(temp, "adapter", adapter_config(m, 1), cross_tensors(m, 1, DType::kF16));
  const auto plain = ModelFiles::open({base, ""});
  const auto model = ModelFiles::open({base, adapter});
  const TreeConfig& tree = model->tree;
  CHECK(tree.semantics == Semantics::kPaper && tree.slot_kind == SlotKind::kMean && tree.depth == 2 && tree.chunk_size == 256 &&
        tree.keep.count == 32 && tree.do_retrieval);
  CHECK(model->is_lower_shared && model->lower.layers.size() == 1 && model->cross.size() == 1 && model->cross[0].q.dtype == DType::kF16);
  CHECK(same_bytes(model->cross[0].q, "model.layers.0.cross_attn.q_proj.weight"));
  CHECK(model->fingerprint != plain->fingerprint && model->n_parameters == plain->n_parameters && model->n_bytes > plain->n_bytes);
  CHECK_EQUAL(ModelFiles::open({base, adapter + "/adapter.safetensors"})->fingerprint, model->fingerprint);
  uint64_t n_read = 0;
  int n_calls = 0;
  const auto read = [&](const std::deque<MappedFile>& files) {
    ++n_calls;
    for (const MappedFile& file : files) n_read += file.bytes().size();
  };
  CHECK_EQUAL(ModelFiles::open({base, adapter}, false, read)->fingerprint, model->fingerprint);
  CHECK(n_calls == 1 && n_read == model->n_bytes);
  CHECK_THROWS(
      kMissingTensor, "is missing", ModelFiles::open({base, write_adapter(temp, "less", adapter_config(m, 2), cross_tensors(m, 1))}, false, read));
  CHECK_EQUAL(n_calls, 1);  // what lacks tensors is not read first
  CHECK_THROWS(kAborted, "enough", ModelFiles::open({base, adapter}, false, [](const auto&) { throw Error(Code::kAborted, "enough"); }));
  Members deeper = adapter_config(m, 1);
  deeper["segment_tree_depth"] = "3";
  CHECK(ModelFiles::open({base, write_adapter(temp, "deeper", deeper, cross_tensors(m, 1, DType::kF16))})->fingerprint != model->fingerprint);
}

TEST(adapter_with_its_own_lower_model) {
  const TempDirectory temp;
  const Tiny m = tiny("qwen2"), lower = lower_of(m, 2);
  const std::string base = write_huggingface(temp, "base", tiny_config(m), huggingface_tensors(m));
  Members config = adapter_config(m, 1);
  config["lower"] = "\"own\"";
  auto tensors = together(cross_tensors(m, 1), huggingface_tensors(lower, "encoder.", false));
  const auto model = ModelFiles::open({base, write_adapter(temp, "a", config, tensors)});
  CHECK(!model->is_lower_shared && model->lower.layers.size() == 1 && model->lower_config.has_qkv_bias);
  CHECK(same_bytes(model->lower.layers[0].down, "encoder.layers.0.mlp.down_proj.weight"));
  CHECK_EQUAL(model->lower.layers[0].k_bias[1], tensor_value("encoder.layers.0.self_attn.k_proj.bias", 1));
  config["encoder_config"] = "{\"rope_theta\":7,\"intermediate_size\":64}";
  CHECK_EQUAL(ModelFiles::open({base, write_adapter(temp, "a", config, tensors)})->lower_config.rope.theta, 7.0);
  config["lower"] = "\"shared\"";
  config.erase("encoder_config");
  CHECK_THROWS(
      kBadAdapter, "tensor encoder.embed_tokens.weight is none of this adapter", ModelFiles::open({base, write_adapter(temp, "a", config, tensors)}));
}

// On a GGUF llama base the keys of a shared lower model have interleaved pairs; rows of q must follow. An own lower model comes in half-split order.
TEST(adapter_rows_follow_the_keys) {
  const TempDirectory temp;
  const std::string name = "model.layers.1.cross_attn.q_proj.weight";
  for (const char* architecture : {"llama", "qwen2"}) {
    const Tiny m = tiny(architecture);
    const bool is_permuted = m.architecture == "llama";
    const std::string base = temp.write("m.gguf", make_gguf_model(m));
    const auto shared = ModelFiles::open({base, write_adapter(temp, "shared", adapter_config(m, 2), cross_tensors(m, 2))});
    CHECK(shared->lower_config.rope.is_interleaved == is_permuted && shared->is_lower_shared);
    for (int64_t head = 0; head < 4; ++head) {
      for (int64_t pair = 0; pair < 4; ++pair) {  // of a head of 8
        const int64_t at = head * 8;
        const int64_t first = is_permuted ? at + 2 * pair : at + pair, second = is_permuted ? at + 2 * pair + 1 : at + pair + 4;
        CHECK_EQUAL(row_head(shared->cross[1].q, first), tensor_value(name, (at + pair) * 32));
        CHECK_EQUAL(row_head(shared->cross[1].q, second), tensor_value(name, (at + pair + 4) * 32));
      }
    }
    CHECK(same_bytes(shared->cross[1].o, "model.layers.1.cross_attn.o_proj.weight"));
    Members config = adapter_config(m, 2);
    config["lower"] = "\"own\"";
    const auto own =
        ModelFiles::open({base, write_adapter(temp, "own", config, together(cross_tensors(m, 2), huggingface_tensors(m, "encoder.", false)))});
    CHECK(!own->lower_config.rope.is_interleaved && own->upper_config.rope.is_interleaved == is_permuted && same_bytes(own->cross[1].q, name));
  }
}

TEST(adapter_of_the_authors) {
  const TempDirectory temp;
  const Tiny m = tiny("llama");
  const std::string base = write_huggingface(temp, "base", tiny_config(m), huggingface_tensors(m));
  const auto tensors = together(cross_tensors(m, 1), huggingface_tensors(m, "encoder.", false));
  temp.write("a/config.json", json_object(authors_keys(m, 1, m)));
  temp.write("a/adapter.safetensors", make_safetensors(tensors));
  for (const char* path : {"a", "a/adapter.safetensors"}) {
    const auto model = ModelFiles::open({base, temp.file(path)});
    CHECK(!model->is_lower_shared && model->tree.semantics == Semantics::kReleased && model->tree.depth == 2 && model->tree.chunk_size == 1024);
  }
  temp.write("a/adapter.safetensors", make_safetensors(cross_tensors(m, 1)));
  CHECK(ModelFiles::open({base, temp.file("a")})->is_lower_shared);
  temp.write("a/adapter.safetensors", make_safetensors(together(tensors, {make_tensor("model.norm.weight", DType::kF32, {32})})));
  CHECK_THROWS(kBadAdapter, "tensor model.norm.weight is none", ModelFiles::open({base, temp.file("a")}));
  Tiny other = m;
  other.n_layers = 3;
  temp.write("a/config.json", json_object(authors_keys(other, 1, m)));
  CHECK_THROWS(kAdapterMismatch, "num_hidden_layers", ModelFiles::open({base, temp.file("a")}));
}

TEST(adapter_belongs_to_its_base) {
  const TempDirectory temp;
  const Tiny m = tiny("llama");
  const std::string base = write_huggingface(temp, "base", tiny_config(m), huggingface_tensors(m));
  const auto with_base = [&](const Tiny& other) {
    return ModelFiles::open({base, write_adapter(temp, "a", adapter_config(other, 1), cross_tensors(m, 1))});
  };
  Tiny other = m;
  other.architecture = "qwen2";
  CHECK_THROWS(kAdapterMismatch, "base.model_type", with_base(other));
  other = m, other.dim = 64;
  CHECK_THROWS(kAdapterMismatch, "base.hidden_size", with_base(other));
  other = m, other.n_layers = 9;
  CHECK_THROWS(kAdapterMismatch, "base.num_hidden_layers\" is 9 but the model has 2", with_base(other));
  other = m, other.vocab_size = 25;
  CHECK_THROWS(kAdapterMismatch, "base.vocab_size", with_base(other));
  other = m, other.architecture = "mistral";  // GGUF files of Mistral say llama
  CHECK_EQUAL(with_base(other)->tree.n_injected_layers, 1);
  const auto full = together(huggingface_tensors(m), cross_tensors(m, 1));
  const std::string own = write_huggingface(temp, "own", authors_keys(m, 1, m), full);
  CHECK_THROWS(kBadAdapter, "weights already", ModelFiles::open({own, write_adapter(temp, "a", adapter_config(m, 1), cross_tensors(m, 1))}));
}

TEST(adapter_refuses) {
  const TempDirectory temp;
  const Tiny m = tiny("llama");
  const std::string base = write_huggingface(temp, "base", tiny_config(m), huggingface_tensors(m));
  const auto with = [&](const Members& changes, const std::vector<MadeTensor>& tensors) {
    Members config = adapter_config(m, 1);
    for (const auto& [key, value] : changes) config[key] = value;
    return ModelFiles::open({base, write_adapter(temp, "a", config, tensors)});
  };
  const auto cross = cross_tensors(m, 1);
  const auto key = [&](const std::string& name, const std::string& value) { return with({{name, value}}, cross); };
  CHECK_THROWS(kBadAdapter, "\"format\"", key("format", "\"peft\""));
  CHECK_THROWS(kUnsupportedModel, "\"version\"", key("version", "2"));
  CHECK_THROWS(kBadAdapter, "\"version\"", key("version", "0"));
  CHECK_THROWS(kBadAdapter, "is none of this adapter", key("method", "\"focusllm\""));
  CHECK_THROWS(kBadAdapter, "method", key("method", "\"other\""));
  CHECK_THROWS(kBadAdapter, "\"method\"", key("method", "\"lora\""));
  CHECK_THROWS(kBadAdapter, "\"semantics\" is missing", key("semantics", "null"));
  CHECK_THROWS(kBadAdapter, "\"lower\"", key("lower", "\"both\""));
  CHECK_THROWS(kBadAdapter, "\"num_cross_attn_layers\" is missing", key("num_cross_attn_layers", "null"));
  CHECK_THROWS(kBadAdapter, "is 0", key("num_cross_attn_layers", "0"));
  CHECK_THROWS(kBadAdapter, "\"base\" must be an object", key("base", "[]"));
  CHECK_THROWS(kMissingTensor, "model.layers.1.cross_attn.layernorm.weight is missing", key("num_cross_attn_layers", "-2"));
  for (const char* name : {"lora_A", "model.layers.1.cross_attn.q_proj.weight", "model.layers.0.cross_attn.k_proj.weight",
           "model.layers.00.cross_attn.q_proj.weight", "model.layers.-0.cross_attn.q_proj.weight", "encoder.layers.0.x.weight", "model.layers."}) {
    CHECK_THROWS(kBadAdapter, std::string("tensor ") + name + " is none", with({}, together(cross, {make_tensor(name, DType::kF32, {1})})));
  }
  auto wrong = cross;
  wrong[1] = make_tensor(cross[1].name, DType::kF32, {32, 31});
  CHECK_THROWS(kBadTensor, "q_proj.weight has shape [32, 31] but must have [32, 32]", with({}, wrong));
  CHECK_THROWS(kFileNotFound, "no such adapter", ModelFiles::open({base, temp.file("none")}));
  temp.write("empty/x", "");
  CHECK_THROWS(kFileNotFound, "neither adapter_config.json nor config.json", ModelFiles::open({base, temp.file("empty")}));
  temp.write("a/adapter_config.json", "{");
  CHECK_THROWS(kBadAdapter, "adapter_config.json: JSON has no key", ModelFiles::open({base, temp.file("a")}));
  temp.write("a/adapter_config.json", json_object(adapter_config(m, 1)));
  temp.write("a/adapter.safetensors", "x");
  CHECK_THROWS(kBadAdapter, "shorter than", ModelFiles::open({base, temp.file("a")}));
}

}  // namespace
}  // namespace banyan::test
