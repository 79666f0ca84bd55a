#include <functional>

#include "check.h"
#include "make_files.h"
#include "model/weights.h"

namespace banyan::test {
namespace {

std::unique_ptr<ModelFiles> open(const std::string& path) { return ModelFiles::open({path, ""}); }

// A tiny model's file with more entries and with its tensors changed.
std::string make_with(
    const Tiny& m, const std::function<void(GgufEntries&)>& add, const std::function<void(std::vector<GgufTensorSpec>&)>& change = {}) {
  GgufEntries entries = gguf_entries(m);
  if (add) add(entries);
  std::vector<GgufTensorSpec> tensors;
  for (const MadeTensor& tensor : gguf_tensors_of(m)) tensors.push_back(gguf_tensor(tensor));
  if (change) change(tensors);
  return make_gguf(entries, tensors);
}

void check_matrix(const WeightView& view, const std::string& name, DType dtype) {
  const std::string bytes = tensor_bytes(name, dtype, {view.rows, view.cols});
  CHECK_EQUAL(static_cast<int>(view.dtype), static_cast<int>(dtype));
  if (!view || std::memcmp(view.data, bytes.data(), bytes.size()) != 0) fail(__FILE__, __LINE__, name + " is another tensor");
}

TEST(gguf_opens_every_family_and_type) {
  const TempDirectory temp;
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
      Tiny m = tiny(architecture);
      m.dtype = dtype;
      if (traits(dtype).block_size == 256) m.dim = m.ffn_dim = 256, m.n_heads = 8, m.n_kv_heads = 2, m.head_dim = 32;
      const auto model = open(temp.write("m.gguf", make_gguf_model(m)));
      const ModelConfig& c = model->upper_config;
      CHECK_EQUAL(c.architecture, architecture);
      CHECK(c.n_layers == 2 && c.dim == m.dim && c.ffn_dim == m.ffn_dim && c.n_heads == m.n_heads && c.n_kv_heads == 2 && c.head_dim == m.head_dim &&
            c.vocab_size == 24);
      CHECK(c.rope.is_interleaved == (c.architecture == "llama") && c.has_qkv_bias == m.has_qkv_bias && c.has_qk_norm == m.has_qk_norm &&
            !c.is_tied && c.window == 512);
      CHECK(c.eos_ids == std::vector<int32_t>({2, 5}) && c.bos_id == 1 && c.rope.scaling == RopeScaling::kNone && c.rope.theta == 10000.0);
      const LayerWeights& layer = model->upper.layers[1];
      check_matrix(layer.q, "blk.1.attn_q.weight", dtype);
      check_matrix(layer.o, "blk.1.attn_output.weight", dtype);
      check_matrix(layer.down, "blk.1.ffn_down.weight", dtype);
      check_matrix(layer.up, "blk.1.ffn_up.weight", dtype);
      check_matrix(model->upper.head, "output.weight", dtype);
      CHECK_EQUAL(layer.mlp_norm[3], tensor_value("blk.1.ffn_norm.weight", 3));
      CHECK_EQUAL(model->upper.final_norm[3], tensor_value("output_norm.weight", 3));
      if (m.has_qkv_bias) CHECK_EQUAL(layer.v_bias[1], tensor_value("blk.1.attn_v.bias", 1));
      if (m.has_qk_norm) CHECK_EQUAL(layer.k_norm[1], tensor_value("blk.1.attn_k_norm.weight", 1));
    }
  }
}

TEST(gguf_tokenizer) {
  const TempDirectory temp;
  const auto model = open(temp.write("m.gguf", make_gguf_model(tiny("llama"))));
  CHECK(model->tokenizer.has_value());
  const TokenizerData& t = *model->tokenizer;
  CHECK(t.model == "llama" && t.pre == "default" && t.chat_template == "{{ messages }}" && t.tokens.size() == 24 &&
        t.tokens[3] == "\xE2\x96\x81\xC3\xA9");
  CHECK(t.merges == std::vector<std::string>({"t 0", "t 1"}) && t.scores.size() == 24 && t.scores[5] == -5.0f && t.token_types[0] == 1);
  CHECK(t.bos_id == 1 && t.eos_id == 2 && t.unk_id == 0 && !t.pad_id && t.eot_id == 5 && t.add_bos == true && t.add_eos == false &&
        t.add_space_prefix == true);
}

TEST(gguf_tied_and_biased) {
  const TempDirectory temp;
  Tiny m = tiny("llama");
  m.is_tied = true;
  const auto tied = open(temp.write("m.gguf", make_gguf_model(m)));
  CHECK(tied->upper_config.is_tied && tied->upper.head.data == tied->upper.embedding.data);
  m.has_o_bias = m.has_mlp_bias = true;
  const auto biased = open(temp.write("b.gguf", make_gguf_model(m)));
  CHECK(biased->upper_config.has_qkv_bias && biased->upper_config.has_o_bias && biased->upper_config.has_mlp_bias);
  CHECK_EQUAL(biased->upper.layers[1].gate_bias[7], tensor_value("blk.1.ffn_gate.bias", 7));
}

TEST(gguf_rope) {
  const TempDirectory temp;
  const auto rope = [&](const std::function<void(GgufEntries&)>& add, const std::function<void(std::vector<GgufTensorSpec>&)>& change = {}) {
    return open(temp.write("m.gguf", make_with(tiny("llama"), add, change)))->upper_config.rope;
  };
  RopeConfig r = rope([](auto& e) { e.text("llama.rope.scaling.type", "linear").f32("llama.rope.scaling.factor", 4); });
  CHECK(r.scaling == RopeScaling::kLinear && r.factor == 4);
  r = rope([](auto& e) { e.f32("llama.rope.scale_linear", 2); });
  CHECK(r.scaling == RopeScaling::kLinear && r.factor == 2);
  CHECK(rope([](auto& e) { e.text("llama.rope.scaling.type", "none").f32("llama.rope.scaling.factor", 4); }).scaling == RopeScaling::kNone);
  r = rope([](auto& e) {
    e.text("llama.rope.scaling.type", "yarn").f32("llama.rope.scaling.factor", 4).u32("llama.rope.scaling.original_context_length", 128);
  });
  CHECK(r.scaling == RopeScaling::kYarn && r.factor == 4 && r.original_window == 128 && r.attention_factor == 0);
  r = rope(
      [](auto& e) { e.text("llama.rope.scaling.type", "yarn").f32("llama.rope.scaling.factor", 4).f32("llama.rope.scaling.attn_factor", 0.5f); });
  CHECK_NEAR(r.attention_factor, 0.5 * 1.1386294361119891, 1e-9);
  const MadeTensor factors = {"rope_freqs.weight", DType::kF32, {4}, bytes_of(1.0f) + bytes_of(1.0f) + bytes_of(2.0f) + bytes_of(8.0f)};
  CHECK(rope({}, [&](auto& t) { t.push_back(gguf_tensor(factors)); }).freq_factors == std::vector<float>({1, 1, 2, 8}));
  CHECK_THROWS(kBadTensor, "rope_freqs.weight must hold 4",
      rope({}, [](auto& t) { t.push_back(gguf_tensor(make_tensor("rope_freqs.weight", DType::kF32, {5}))); }));
  CHECK_THROWS(kBadTensor, "rope_freqs.weight must hold 4",
      rope({}, [](auto& t) { t.push_back(gguf_tensor(make_tensor("rope_freqs.weight", DType::kI8, {4}))); }));
  CHECK_THROWS(kBadModelFile, "rope factors", rope({}, [](auto& t) { t.push_back({"rope_freqs.weight", 0, {4}, std::string(16, '\0')}); }));
  CHECK_THROWS(kUnsupportedModel, "rope_factors_long", rope({}, [](auto& t) {
    t.push_back({"rope_factors_long.weight", 0, {4}, std::string(16, '\0')});
  }));
  CHECK_THROWS(kUnsupportedModel, "llama.rope.scaling.type", rope([](auto& e) { e.text("llama.rope.scaling.type", "longrope"); }));
  CHECK_THROWS(kBadModelFile, "llama.rope.scaling.factor must be at least 1", rope([](auto& e) { e.f32("llama.rope.scaling.factor", 0.5f); }));
}

TEST(gguf_refuses_configs) {
  const TempDirectory temp;
  const auto add = [&](const std::function<void(GgufEntries&)>& change) { return open(temp.write("m.gguf", make_with(tiny("llama"), change))); };
  CHECK_THROWS(kUnsupportedModel, "llama.expert_count", add([](auto& e) { e.u32("llama.expert_count", 8); }));
  CHECK_EQUAL(add([](auto& e) { e.u32("llama.expert_count", 0); })->upper_config.n_layers, 2);
  CHECK_THROWS(kUnsupportedModel, "llama.logit_scale", add([](auto& e) { e.f32("llama.logit_scale", 2); }));
  CHECK_THROWS(kUnsupportedModel, "split.count", add([](auto& e) { e.raw("split.count", 2, bytes_of<uint16_t>(3)); }));
  CHECK_THROWS(kUnsupportedModel, "llama.attention.causal", add([](auto& e) { e.boolean("llama.attention.causal", false); }));
  CHECK_EQUAL(add([](auto& e) { e.u32("llama.attention.sliding_window", 64); })->upper_config.sliding_window, 64);
  CHECK_EQUAL(add([](auto& e) { e.u32("llama.vocab_size", 24); })->upper_config.vocab_size, 24);
  CHECK_THROWS(kBadModelFile, "more than the vocabulary size 23", add([](auto& e) { e.u32("llama.vocab_size", 23); }));
  CHECK_THROWS(kBadTensor, "token_embd.weight has shape [24, 32] but must have [25, 32]", add([](auto& e) { e.u32("llama.vocab_size", 25); }));

  // one key of a minimal file left out or replaced
  const auto minimal = [&](const std::string& key, const std::function<void(GgufEntries&)>& replace) {
    GgufEntries e;
    const auto u32 = [&](const std::string& name, uint32_t value) {
      if (name == key) {
        if (replace) replace(e);
      } else e.u32(name, value);
    };
    if (key != "general.architecture") e.text("general.architecture", "llama");
    else if (replace) replace(e);
    u32("llama.context_length", 512), u32("llama.embedding_length", 32), u32("llama.block_count", 2), u32("llama.feed_forward_length", 64);
    u32("llama.attention.head_count", 4), u32("llama.attention.head_count_kv", 2), u32("llama.rope.dimension_count", 8);
    if (key != "llama.attention.layer_norm_rms_epsilon") e.f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    else if (replace) replace(e);
    std::vector<GgufTensorSpec> tensors;
    for (const MadeTensor& tensor : gguf_tensors_of(tiny("llama"))) tensors.push_back(gguf_tensor(tensor));
    return open(temp.write("m.gguf", make_gguf(e, tensors)));
  };
  const auto plain = minimal("", {});
  CHECK(plain->upper_config.head_dim == 8 && plain->upper_config.rope.theta == 10000.0 && !plain->tokenizer && plain->upper_config.vocab_size == 24);
  for (const char* key : {"general.architecture", "llama.context_length", "llama.embedding_length", "llama.block_count", "llama.feed_forward_length",
           "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"}) {
    CHECK_THROWS(kBadModelFile, std::string(key) + " is missing", minimal(key, {}));
    CHECK_THROWS(kBadModelFile, key, minimal(key, [&](auto& e) { e.f32s(key, {}); }));
  }
  CHECK_THROWS(kUnsupportedModel, "general.architecture is \"gemma\"",
      minimal("general.architecture", [](auto& e) { e.text("general.architecture", "gemma"); }));
  CHECK_THROWS(kUnsupportedModel, "dimension_count", minimal("llama.rope.dimension_count", [](auto& e) { e.u32("llama.rope.dimension_count", 4); }));
  CHECK_EQUAL(minimal("llama.attention.head_count_kv", [](auto& e) { e.i32s("llama.attention.head_count_kv", {2, 2}); })->upper_config.n_kv_heads, 2);
  CHECK_EQUAL(minimal("llama.attention.head_count", [](auto& e) { e.u64("llama.attention.head_count", 4); })->upper_config.n_heads, 4);
  CHECK_THROWS(kUnsupportedModel, "differs from layer to layer", minimal("llama.attention.head_count_kv", [](auto& e) {
    e.i32s("llama.attention.head_count_kv", {2, 4});
  }));
  CHECK_THROWS(kBadModelFile, "head_count", minimal("llama.attention.head_count", [](auto& e) { e.u32("llama.attention.head_count", 0); }));
  CHECK_THROWS(kBadModelFile, "does not divide", minimal("llama.attention.head_count", [](auto& e) { e.u32("llama.attention.head_count", 5); }));
  CHECK_THROWS(kBadModelFile, "from 1 to", minimal("llama.block_count", [](auto& e) { e.u64("llama.block_count", ~uint64_t{0}); }));
  CHECK_THROWS(kBadModelFile, "number of layers", minimal("llama.block_count", [](auto& e) { e.u32("llama.block_count", 0x7FFFFFFF); }));
  CHECK_THROWS(kBadModelFile, "epsilon",
      minimal("llama.attention.layer_norm_rms_epsilon", [](auto& e) { e.f32("llama.attention.layer_norm_rms_epsilon", -1); }));
}

TEST(gguf_refuses_tokenizers) {
  const TempDirectory temp;
  const auto with = [&](const std::function<void(GgufEntries&)>& add) {
    GgufEntries e;
    e.text("general.architecture", "llama").u32("llama.context_length", 512).u32("llama.embedding_length", 32).u32("llama.block_count", 2);
    e.u32("llama.feed_forward_length", 64)
        .u32("llama.attention.head_count", 4)
        .u32("llama.attention.head_count_kv", 2)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    e.u32("llama.vocab_size", 24).text("tokenizer.ggml.model", "gpt2");
    add(e);
    std::vector<GgufTensorSpec> tensors;
    for (const MadeTensor& tensor : gguf_tensors_of(tiny("llama"))) tensors.push_back(gguf_tensor(tensor));
    return open(temp.write("m.gguf", make_gguf(e, tensors)));
  };
  const std::vector<std::string> tokens = {"a", "b"};
  const auto none = with([&](auto& e) { e.texts("tokenizer.ggml.tokens", tokens).u32("tokenizer.ggml.eos_token_id", 0xFFFFFFFFu); });
  CHECK(!none->tokenizer->eos_id && none->upper_config.eos_ids.empty() && none->upper_config.bos_id == -1 && !none->tokenizer->add_bos);
  CHECK_THROWS(kBadModelFile, "tokens must be an array", with([](auto& e) { e.text("tokenizer.ggml.tokens", "x"); }));
  CHECK_THROWS(kBadModelFile, "array of strings", with([](auto& e) { e.i32s("tokenizer.ggml.tokens", {1, 2}); }));
  CHECK_THROWS(kBadModelFile, "scores has another length",
      with([&](auto& e) { e.texts("tokenizer.ggml.tokens", tokens).f32s("tokenizer.ggml.scores", {1}); }));
  CHECK_THROWS(
      kBadModelFile, "array of numbers", with([&](auto& e) { e.texts("tokenizer.ggml.tokens", tokens).texts("tokenizer.ggml.scores", tokens); }));
  CHECK_THROWS(kBadModelFile, "token_type has another",
      with([&](auto& e) { e.texts("tokenizer.ggml.tokens", tokens).i32s("tokenizer.ggml.token_type", {1}); }));
  CHECK_THROWS(kBadModelFile, "not from 0 to 255", with([&](auto& e) {
    e.texts("tokenizer.ggml.tokens", tokens).i32s("tokenizer.ggml.token_type", {1, -1});
  }));
  CHECK_THROWS(kBadModelFile, "bos_token_id is no token: 2",
      with([&](auto& e) { e.texts("tokenizer.ggml.tokens", tokens).u32("tokenizer.ggml.bos_token_id", 2); }));
  CHECK_THROWS(
      kBadModelFile, "must be a boolean", with([&](auto& e) { e.texts("tokenizer.ggml.tokens", tokens).u32("tokenizer.ggml.add_bos_token", 1); }));
}

TEST(gguf_refuses_weights) {
  const TempDirectory temp;
  const auto tensors = gguf_tensors_of(tiny("qwen2"));
  const auto open_with = [&](const std::function<void(std::vector<GgufTensorSpec>&)>& change) {
    return open(temp.write("m.gguf", make_with(tiny("qwen2"), {}, change)));
  };
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string& name = tensors[i].name;
    if (name != "output.weight") {
      CHECK_THROWS(kMissingTensor, "tensor " + name + " is missing",
          open_with([&](auto& list) { list.erase(list.begin() + static_cast<std::ptrdiff_t>(i)); }));
    }
    CHECK_THROWS(kBadTensor, "tensor " + name + " has elements of type I16", open_with([&](auto& list) { list[i].type = 25; }));
    CHECK_THROWS(kBadTensor, "tensor " + name + " has shape", open_with([&](auto& list) { list[i].shape[0] -= 1; }));
    if (tensors[i].shape.back() % 32 == 0) {
      CHECK_THROWS(kUnsupportedModel, "tensor " + name + " has the type IQ4_NL", open_with([&](auto& list) { list[i].type = 20; }));
    }
  }
  Tiny m = tiny("llama");
  m.vector_dtype = DType::kQ8_0;
  CHECK_THROWS(kBadTensor, "has elements of type Q8_0", open(temp.write("m.gguf", make_gguf_model(m))));
}

}  // namespace
}  // namespace banyan::test
