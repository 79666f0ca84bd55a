// convert: between the engine's structs and the objects of types/native.d.ts.
#pragma once

#include <string>
#include <vector>

#include "addon/args.h"
#include "addon/js.h"
#include "addon/outbox.h"

namespace banyan::addon {

LoadOptions to_load_options(const Napi::Value& value);
DocumentOptions to_document_options(const Napi::Value& value);
MethodOptions to_method_options(const Napi::Value& value);
GenerateRequest to_generate_request(const Napi::Value& value);
ScoreRequest to_score_request(const Napi::Value& value);
TraceRequest to_trace_request(const Napi::Value& value);
std::vector<std::pair<std::string, std::string>> to_attributes(const Napi::Value& value);

Napi::Value int32_array(Napi::Env env, const std::vector<int32_t>& values);
Napi::Value model_info(Napi::Env env, const ModelInfo& info);
Napi::Value tokenizer_data(Napi::Env env, const TokenizerData* data);
Napi::Value document_info(Napi::Env env, const DocumentInfo& info);
Napi::Value generate_result(Napi::Env env, const GenerateResult& result);
Napi::Value score_result(Napi::Env env, const ScoreResult& result);
Napi::Value trace_result(Napi::Env env, const Trace& trace);

Napi::Value progress_event(Napi::Env env, const Progress& progress);
Napi::Value retrieval_event(Napi::Env env, const Retrieval& retrieval);
Napi::Value tokens_event(Napi::Env env, const std::vector<int32_t>& ids);

}  // namespace banyan::addon
