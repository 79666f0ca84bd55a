// requests: the options objects of types/native.d.ts as the engine's structs.
#include <limits>
#include <utility>

#include "addon/convert.h"

namespace banyan::addon {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int>::max();

// The value with this name; anything else is an argument error that lists the names.
template <class T, size_t kCount> T choose(const std::string& text, const char* what, const std::pair<const char*, T> (&choices)[kCount]) {
  std::string known;
  for (const auto& [name, value] : choices) {
    if (text == name) return value;
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  throw ArgumentError("Expected one of " + known + " for " + what, true);
}

Semantics to_semantics(const std::string& text) {
  return choose<Semantics>(text, "semantics",
      {{"released", Semantics::kReleased}, {"corrected", Semantics::kCorrected}, {"paper", Semantics::kPaper}, {"nested", Semantics::kNested}});
}

DType to_kv_dtype(const std::string& text, const char* what) {
  return choose<DType>(text, what, {{"f16", DType::kF16}, {"f32", DType::kF32}, {"q8", DType::kQ8_0}});
}

bool to_8_bits(const std::string& text) { return choose<bool>(text, "adapterType", {{"stored", false}, {"q8", true}}); }

std::optional<Method> to_method(const Options& options) {
  const auto text = options.text("method");
  if (!text) return std::nullopt;
  for (size_t i = 0; i < std::size(kMethodNames); ++i) {
    if (*text == kMethodNames[i]) return static_cast<Method>(i);
  }
  throw ArgumentError("Expected the name of a method for method", true);
}

std::vector<std::string> to_texts(const Napi::Value& value, const char* name) {
  if (!value.IsArray()) throw ArgumentError(std::string("Expected array for ") + name);
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> texts;
  for (uint32_t i = 0; i < array.Length(); ++i) texts.push_back(to_text(array.Get(i), name));
  return texts;
}

}  // namespace

LoadOptions to_load_options(const Napi::Value& value) {
  const Options options(value, "options");
  LoadOptions out;
  out.paths.model = to_text(options.get("model"), "model");
  if (const Napi::Value adapters = options.get("adapters"); !adapters.IsUndefined()) out.paths.adapters = to_texts(adapters, "adapters");
  out.device = options.text("device").value_or("auto");
  out.cpu_variant = options.text("cpuVariant").value_or("");
  out.n_threads = static_cast<int>(options.integer("threads", 0, 4096).value_or(0));
  if (const auto kv = options.text("kvType")) out.kv_dtype = to_kv_dtype(*kv, "kvType");
  if (const auto pool = options.text("poolType")) out.pool_dtype = to_kv_dtype(*pool, "poolType");
  if (const auto adapter = options.text("adapterType")) out.has_8_bit_adapter = to_8_bits(*adapter);
  out.kv_directory = options.text("kvDirectory").value_or("");
  if (const auto semantics = options.text("semantics")) out.semantics = to_semantics(*semantics);
  if (const auto depth = options.integer("depth", 1, 16)) out.depth = static_cast<int>(*depth);
  out.last_p = options.text("lastP");
  return out;
}

DocumentOptions to_document_options(const Napi::Value& value) {
  const Options options(value, "options");
  DocumentOptions out;
  out.chunk_size = static_cast<int>(options.integer("chunkSize", 0, kMaxInt).value_or(0));
  out.method = to_method(options);
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

ScoreRequest to_score_request(const Napi::Value& value) {
  const Options options(value, "request");
  ScoreRequest out;
  out.ids = to_ids(options.get("ids"), "ids");
  out.targets = to_ids(options.get("targets"), "targets");
  out.query_index = options.integer("queryIndex", -1, kMaxInt).value_or(-1);
  return out;
}

TraceRequest to_trace_request(const Napi::Value& value) {
  const Options options(value, "request");
  TraceRequest out;
  out.ids = to_ids(options.get("ids"), "ids");
  out.query_index = options.integer("queryIndex", -1, kMaxInt).value_or(-1);
  out.max_new_tokens = static_cast<int>(to_integer(options.get("maxNewTokens"), "maxNewTokens", 0, kMaxInt));
  out.recompute = to_bool(options.get("recompute"), "recompute");
  if (const Napi::Value forced = options.get("forced"); !forced.IsUndefined()) out.forced = to_ids(forced, "forced");
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

MethodOptions to_method_options(const Napi::Value& value) {
  const Options options(value, "options");
  MethodOptions out;
  out.method = to_method(options);
  out.slot_budget = options.integer("slotBudget", 0, kMaxSafeInteger);
  if (const auto unit = options.text("budgetUnit")) {
    out.budget_unit = choose<BudgetUnit>(*unit, "budgetUnit", {{"chunk", BudgetUnit::kChunk}, {"group", BudgetUnit::kGroup}});
  }
  out.query_cap = static_cast<int>(options.integer("queryCap", 0, kMaxInt).value_or(out.query_cap));
  out.refresh_every = static_cast<int>(options.integer("refreshEvery", 1, kMaxInt).value_or(out.refresh_every));
  out.refresh_chunks = static_cast<int>(options.integer("refreshChunks", 0, kMaxInt).value_or(out.refresh_chunks));
  if (const auto scaling = options.text("ropeScaling")) {
    out.rope_scaling = choose<RopeScaling>(*scaling, "ropeScaling",
        {{"none", RopeScaling::kNone}, {"linear", RopeScaling::kLinear}, {"ntk", RopeScaling::kNtk}, {"dynamic", RopeScaling::kDynamicNtk},
            {"yarn", RopeScaling::kYarn}});
  }
  out.rope_factor = options.number("ropeFactor").value_or(out.rope_factor);
  out.n_sinks = static_cast<int>(options.integer("sinks", 0, kMaxInt).value_or(out.n_sinks));
  out.window = options.integer("window", 0, kMaxInt).value_or(out.window);
  out.context_temperature = static_cast<float>(options.number("contextTemperature").value_or(out.context_temperature));
  out.context_scale = static_cast<float>(options.number("contextScale").value_or(out.context_scale));
  return out;
}

}  // namespace banyan::addon
