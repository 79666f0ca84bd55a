#include "addon/convert.h"

#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

namespace banyan::addon {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int>::max();

constexpr std::pair<Semantics, const char*> kSemantics[] = {
    {Semantics::kReleased, "released"}, {Semantics::kCorrected, "corrected"}, {Semantics::kPaper, "paper"}};

const char* name_of(Semantics semantics) {
  for (const auto& [value, name] : kSemantics) {
    if (value == semantics) return name;
  }
  return "";
}

Semantics to_semantics(const std::string& text) {
  for (const auto& [value, name] : kSemantics) {
    if (text == name) return value;
  }
  throw ArgumentError("Expected released, corrected or paper for semantics", true);
}

DType to_kv_dtype(const std::string& text) {
  if (text == "f16") return DType::kF16;
  if (text == "f32") return DType::kF32;
  throw ArgumentError("Expected f16 or f32 for kvType", true);
}

Napi::Value number(Napi::Env env, double value) { return Napi::Number::New(env, value); }
Napi::Value text(Napi::Env env, const std::string& value) { return Napi::String::New(env, value); }

// A typed array with one element per item; `field` gives it.
template <class T, class Items, class Field> Napi::Value array_of(Napi::Env env, const Items& items, Field field) {
  auto array = Napi::TypedArrayOf<T>::New(env, items.size());
  T* out = array.Data();
  for (const auto& item : items) *out++ = static_cast<T>(field(item));
  return array;
}

template <class T> Napi::Value array_of(Napi::Env env, const std::vector<T>& values) {
  auto array = Napi::TypedArrayOf<T>::New(env, values.size());
  if (!values.empty()) std::memcpy(array.Data(), values.data(), values.size() * sizeof(T));
  return array;
}

Napi::Value strings(Napi::Env env, const std::vector<std::string>& values) {
  auto array = Napi::Array::New(env, values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    Napi::HandleScope scope(env);  // hundreds of thousands of tokens
    array.Set(static_cast<uint32_t>(i), text(env, values[i]));
  }
  return array;
}

Napi::Object retrieval_object(Napi::Env env, const Retrieval& retrieval) {
  const auto& nodes = retrieval.nodes;
  auto object = Napi::Object::New(env);
  object.Set("document", array_of<int32_t>(env, nodes, [](const OpenedNode& n) { return n.document; }));
  object.Set("chunk", array_of<int32_t>(env, nodes, [](const OpenedNode& n) { return n.chunk; }));
  object.Set("level", array_of<int32_t>(env, nodes, [](const OpenedNode& n) { return n.level; }));
  object.Set("begin", array_of<int32_t>(env, nodes, [](const OpenedNode& n) { return n.begin; }));
  object.Set("end", array_of<int32_t>(env, nodes, [](const OpenedNode& n) { return n.end; }));
  object.Set("slotCount", array_of<int32_t>(env, nodes, [](const OpenedNode& n) { return n.n_slots; }));
  object.Set("finest", array_of<uint8_t>(env, nodes, [](const OpenedNode& n) { return n.is_finest ? 1 : 0; }));
  object.Set("score", array_of<float>(env, nodes, [](const OpenedNode& n) { return n.score; }));
  object.Set("slots", number(env, static_cast<double>(retrieval.n_slots)));
  object.Set("nodesEncoded", number(env, retrieval.n_nodes_encoded));
  return object;
}

Napi::Object event(Napi::Env env, const char* type) {
  auto object = Napi::Object::New(env);
  object.Set("type", text(env, type));
  return object;
}

}  // namespace

LoadOptions to_load_options(const Napi::Value& value) {
  const Options options(value, "options");
  LoadOptions out;
  out.paths.model = to_text(options.get("model"), "model");
  out.paths.adapter = options.text("adapter").value_or("");
  out.device = options.text("device").value_or("auto");
  out.cpu_variant = options.text("cpuVariant").value_or("");
  out.n_threads = static_cast<int>(options.integer("threads", 0, 4096).value_or(0));
  if (const auto kv = options.text("kvType")) out.kv_dtype = to_kv_dtype(*kv);
  if (const auto semantics = options.text("semantics")) out.semantics = to_semantics(*semantics);
  if (const auto depth = options.integer("depth", 1, 16)) out.depth = static_cast<int>(*depth);
  out.last_p = options.text("lastP");
  return out;
}

DocumentOptions to_document_options(const Napi::Value& value) {
  const Options options(value, "options");
  DocumentOptions out;
  out.chunk_size = static_cast<int>(options.integer("chunkSize", 0, kMaxInt).value_or(0));
  const Napi::Value mask = options.get("mask");
  if (!mask.IsUndefined()) out.mask = to_bytes(mask, "mask");
  return out;
}

GenerateRequest to_generate_request(const Napi::Value& value) {
  const Options options(value, "request");
  GenerateRequest out;
  out.ids = to_ids(options.get("ids"), "ids");
  out.query_index = options.integer("queryIndex", -1, kMaxInt).value_or(-1);
  out.max_tokens = static_cast<int>(to_integer(options.get("maxTokens"), "maxTokens", 0, kMaxInt));
  out.stop_ids = to_ids(options.get("stopIds"), "stopIds");
  SamplerOptions& sampler = out.sampler;
  sampler.temperature = static_cast<float>(to_number(options.get("temperature"), "temperature"));
  sampler.top_k = static_cast<int>(to_integer(options.get("topK"), "topK", 0, kMaxInt));
  sampler.top_p = static_cast<float>(to_number(options.get("topP"), "topP"));
  sampler.min_p = static_cast<float>(to_number(options.get("minP"), "minP"));
  sampler.repetition_penalty = static_cast<float>(to_number(options.get("repetitionPenalty"), "repetitionPenalty"));
  sampler.frequency_penalty = static_cast<float>(to_number(options.get("frequencyPenalty"), "frequencyPenalty"));
  sampler.presence_penalty = static_cast<float>(to_number(options.get("presencePenalty"), "presencePenalty"));
  sampler.penalty_window = static_cast<int>(to_integer(options.get("penaltyWindow"), "penaltyWindow", 0, kMaxInt));
  sampler.seed = static_cast<uint64_t>(to_integer(options.get("seed"), "seed", 0, kMaxSafeInteger));
  const auto bias_ids = to_ids(options.get("biasIds"), "biasIds");
  const auto bias_values = to_floats(options.get("biasValues"), "biasValues");
  if (bias_ids.size() != bias_values.size()) throw ArgumentError("Expected as many biasValues as biasIds", true);
  for (size_t i = 0; i < bias_ids.size(); ++i) sampler.logit_bias.emplace_back(bias_ids[i], bias_values[i]);
  return out;
}

TraceRequest to_trace_request(const Napi::Value& value) {
  const Options options(value, "request");
  TraceRequest out;
  out.ids = to_ids(options.get("ids"), "ids");
  out.query_index = options.integer("queryIndex", -1, kMaxInt).value_or(-1);
  out.max_new_tokens = static_cast<int>(to_integer(options.get("maxNewTokens"), "maxNewTokens", 0, kMaxInt));
  out.recompute = to_bool(options.get("recompute"), "recompute");
  return out;
}

std::vector<std::pair<std::string, std::string>> to_attributes(const Napi::Value& value) {
  const Napi::Object object = to_object(value, "attributes");
  const Napi::Array names = object.GetPropertyNames();
  std::vector<std::pair<std::string, std::string>> out;
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const std::string name = to_text(names.Get(i), "attributes");
    out.emplace_back(name, to_text(object.Get(name), name.c_str()));
  }
  return out;
}

Napi::Value int32_array(Napi::Env env, const std::vector<int32_t>& values) { return array_of(env, values); }

Napi::Value model_info(Napi::Env env, const ModelInfo& info) {
  const ModelConfig& config = info.upper;
  auto object = Napi::Object::New(env);
  object.Set("architecture", text(env, config.architecture));
  object.Set("layers", number(env, config.n_layers));
  object.Set("dim", number(env, config.dim));
  object.Set("heads", number(env, config.n_heads));
  object.Set("kvHeads", number(env, config.n_kv_heads));
  object.Set("headDim", number(env, config.head_dim));
  object.Set("vocabSize", number(env, config.vocab_size));
  object.Set("window", number(env, static_cast<double>(config.window)));
  object.Set("parameters", number(env, static_cast<double>(info.n_parameters)));
  object.Set("bytes", number(env, static_cast<double>(info.n_bytes)));
  object.Set("bosId", number(env, config.bos_id));
  object.Set("eosIds", int32_array(env, config.eos_ids));
  object.Set("device", text(env, info.device));
  object.Set("deviceReason", text(env, info.device_reason));
  object.Set("fingerprint", text(env, info.fingerprint));
  object.Set("kvType", text(env, info.kv_dtype == DType::kF32 ? "f32" : "f16"));
  if (info.tree.n_injected_layers == 0) {
    object.Set("tree", env.Null());
    return object;
  }
  auto tree = Napi::Object::New(env);
  tree.Set("semantics", text(env, name_of(info.tree.semantics)));
  tree.Set("slotKind", text(env, info.tree.slot_kind == SlotKind::kMean ? "mean" : "strided"));
  tree.Set("injectedLayers", number(env, info.tree.n_injected_layers));
  tree.Set("depth", number(env, info.tree.depth));
  tree.Set("chunkSize", number(env, info.tree.chunk_size));
  tree.Set("retrieval", Napi::Boolean::New(env, info.tree.do_retrieval));
  tree.Set("lowerShared", Napi::Boolean::New(env, info.is_lower_shared));
  object.Set("tree", tree);
  return object;
}

Napi::Value tokenizer_data(Napi::Env env, const TokenizerData* data) {
  if (data == nullptr) return env.Null();
  auto object = Napi::Object::New(env);
  const auto set_text = [&](const char* name, const std::string& value) {
    if (!value.empty()) object.Set(name, text(env, value));
  };
  const auto set_id = [&](const char* name, const std::optional<int64_t>& value) {
    if (value) object.Set(name, number(env, static_cast<double>(*value)));
  };
  const auto set_flag = [&](const char* name, const std::optional<bool>& value) {
    if (value) object.Set(name, Napi::Boolean::New(env, *value));
  };
  object.Set("model", text(env, data->model));
  set_text("pre", data->pre);
  set_text("chatTemplate", data->chat_template);
  object.Set("tokens", strings(env, data->tokens));
  if (!data->merges.empty()) object.Set("merges", strings(env, data->merges));
  if (!data->scores.empty()) object.Set("scores", array_of(env, data->scores));
  if (!data->token_types.empty()) object.Set("tokenTypes", array_of(env, data->token_types));
  set_id("bosId", data->bos_id);
  set_id("eosId", data->eos_id);
  set_id("unkId", data->unk_id);
  set_id("padId", data->pad_id);
  set_id("eotId", data->eot_id);
  set_flag("addBos", data->add_bos);
  set_flag("addEos", data->add_eos);
  set_flag("addSpacePrefix", data->add_space_prefix);
  return object;
}

Napi::Value document_info(Napi::Env env, const DocumentInfo& info) {
  auto object = Napi::Object::New(env);
  object.Set("tokens", number(env, static_cast<double>(info.n_tokens)));
  object.Set("chunks", number(env, info.n_chunks));
  object.Set("chunkSize", number(env, info.chunk_size));
  object.Set("depth", number(env, info.depth));
  object.Set("nodes", number(env, static_cast<double>(info.n_nodes)));
  object.Set("nodesEncoded", number(env, static_cast<double>(info.n_nodes_encoded)));
  object.Set("slots", number(env, static_cast<double>(info.n_slots)));
  object.Set("bytes", number(env, static_cast<double>(info.n_bytes)));
  return object;
}

Napi::Value generate_result(Napi::Env env, const GenerateResult& result) {
  auto object = Napi::Object::New(env);
  object.Set("finish", text(env, result.finish == FinishReason::kStop ? "stop" : "length"));
  object.Set("stopId", number(env, result.stop_id));
  object.Set("promptTokens", number(env, result.n_prompt));
  object.Set("cachedTokens", number(env, result.n_cached));
  object.Set("generatedTokens", number(env, result.n_generated));
  object.Set("selectMs", number(env, result.select_ms));
  object.Set("encodeMs", number(env, result.encode_ms));
  object.Set("prefillMs", number(env, result.prefill_ms));
  object.Set("decodeMs", number(env, result.decode_ms));
  return object;
}

Napi::Value trace_result(Napi::Env env, const Trace& trace) {
  auto object = Napi::Object::New(env);
  object.Set("logits", array_of(env, trace.logits));
  object.Set("greedy", array_of(env, trace.greedy));
  object.Set("greedyLogits", array_of(env, trace.greedy_logits));
  object.Set("queryVector", array_of(env, trace.query_vector));
  object.Set("retrieval", retrieval_object(env, trace.retrieval));
  object.Set("slotPositions", array_of<int32_t>(env, trace.slot_positions, [](int64_t position) { return position; }));
  object.Set("keys", array_of(env, trace.keys));
  object.Set("values", array_of(env, trace.values));
  object.Set("multiplyAdds", number(env, static_cast<double>(trace.multiply_adds)));
  return object;
}

Napi::Value progress_event(Napi::Env env, const Progress& progress) {
  auto object = event(env, "progress");
  object.Set("phase", text(env, progress.phase));
  object.Set("done", number(env, static_cast<double>(progress.done)));
  object.Set("total", number(env, static_cast<double>(progress.total)));
  return object;
}

Napi::Value retrieval_event(Napi::Env env, const Retrieval& retrieval) {
  auto object = retrieval_object(env, retrieval);
  object.Set("type", text(env, "retrieval"));
  return object;
}

Napi::Value tokens_event(Napi::Env env, const std::vector<int32_t>& ids) {
  auto object = event(env, "tokens");
  object.Set("ids", int32_array(env, ids));
  return object;
}

}  // namespace banyan::addon
