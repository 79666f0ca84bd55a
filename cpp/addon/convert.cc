#include "addon/convert.h"

#include <cstring>
#include <type_traits>
#include <utility>

namespace banyan::addon {
namespace {

constexpr std::pair<Semantics, const char*> kSemantics[] = {
    {Semantics::kReleased, "released"}, {Semantics::kCorrected, "corrected"}, {Semantics::kPaper, "paper"}, {Semantics::kNested, "nested"}};

const char* name_of(Semantics semantics) {
  for (const auto& [value, name] : kSemantics) {
    if (value == semantics) return name;
  }
  return "";
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
  const auto type_name = [](DType dtype) { return dtype == DType::kF32 ? "f32" : dtype == DType::kQ8_0 ? "q8" : "f16"; };
  object.Set("kvType", text(env, type_name(info.kv_dtype)));
  object.Set("poolType", text(env, type_name(info.pool_dtype)));
  object.Set("method", info.method ? text(env, kMethodNames[static_cast<int>(*info.method)]) : env.Null());
  object.Set("focus", env.Null());
  if (info.focus.is_present) {
    auto focus = Napi::Object::New(env);
    const auto& f = info.focus;
    focus.Set("projections", text(env, std::string(f.has_q ? "q" : "") + (f.has_k ? "k" : "") + (f.has_v ? "v" : "") + (f.has_o ? "o" : "")));
    focus.Set("chunkSize", number(env, f.chunk_size));
    focus.Set("queryCap", number(env, f.query_cap));
    object.Set("focus", focus);
  }
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
  tree.Set("positions", text(env, info.tree.positions == Positions::kBanded ? "banded" : "sum"));
  tree.Set("slotBudget", number(env, static_cast<double>(info.tree.slot_budget)));
  tree.Set("budgetUnit", text(env, info.tree.budget_unit == BudgetUnit::kGroup ? "group" : "chunk"));
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
  object.Set("chunksEncoded", number(env, info.n_chunks_encoded));
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

Napi::Value score_result(Napi::Env env, const ScoreResult& result) {
  auto object = Napi::Object::New(env);
  object.Set("logprobs", array_of(env, result.log_probabilities));
  object.Set("cachedTokens", number(env, result.n_cached));
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
  object.Set("candidateKeys", array_of(env, trace.candidate_keys));
  object.Set("candidateValues", array_of(env, trace.candidate_values));
  object.Set("chunkRows", array_of(env, trace.chunk_rows));
  object.Set("chunkKeys", array_of(env, trace.chunk_keys));
  object.Set("chunkValues", array_of(env, trace.chunk_values));
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
