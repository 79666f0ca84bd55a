#include "addon/js.h"

#include <new>

namespace banyan::addon {
namespace {

Napi::Value make(Napi::Env env, const char* code, const char* text, decltype(&napi_create_error) create) {
  napi_value error = nullptr;
  check(env, create(env, Napi::String::New(env, code), Napi::String::New(env, text), &error));
  return {env, error};
}

}  // namespace

Napi::Value to_js_error(Napi::Env env, const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Napi::Error& e) { return e.Value(); } catch (const ArgumentError& e) {
    return e.is_range ? make(env, "ERR_OUT_OF_RANGE", e.what(), napi_create_range_error)
                      : make(env, "ERR_INVALID_ARG_TYPE", e.what(), napi_create_type_error);
  } catch (const Error& e) { return make(env, code_name(e.code), e.what(), napi_create_error); } catch (const std::bad_alloc&) {
    return make(env, code_name(Code::kOutOfMemory), "Out of memory", napi_create_error);
  } catch (const std::exception& e) { return make(env, code_name(Code::kInternal), e.what(), napi_create_error); } catch (...) {
    return make(env, code_name(Code::kInternal), "Unknown failure", napi_create_error);
  }
}

}  // namespace banyan::addon
