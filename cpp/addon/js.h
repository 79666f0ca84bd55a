// js: Node-API as this folder sees it, and the one place where C++ failures become JavaScript errors.
//
// Threads: everything here runs on the JavaScript thread of one environment (main thread or worker). No statics: state is per environment.
#pragma once

// While a worker is being terminated an exception can be neither thrown nor wrapped; that must not be a fatal error.
#ifndef NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
#define NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
#endif
#include <napi.h>

#include <exception>
#include <stdexcept>
#include <string>

#include "banyan.h"

namespace banyan::addon {

// A wrong argument: a TypeError (ERR_INVALID_ARG_TYPE) or RangeError (ERR_OUT_OF_RANGE).
class ArgumentError : public std::runtime_error {
 public:
  explicit ArgumentError(const std::string& text, bool is_range = false) : std::runtime_error(text), is_range(is_range) {}
  bool is_range;
};

// The JavaScript error of a C++ exception; the only conversion. May throw Napi::Error where the environment is going away.
Napi::Value to_js_error(Napi::Env env, const std::exception_ptr& failure);

// Throws a Node-API failure as Napi::Error.
inline void check(Napi::Env env, napi_status status) {
  if (status != napi_ok) throw Napi::Error::New(env);
}

// Runs a function called by JavaScript; whatever it throws is thrown there.
template <class F> napi_value guarded(napi_env env, F&& body) noexcept {
  std::exception_ptr failure;
  try {
    return body();
  } catch (...) { failure = std::current_exception(); }
  try {
    napi_throw(env, to_js_error(env, failure));
  } catch (...) {  // the environment is going away: nobody is left to hear it
  }
  return nullptr;
}

}  // namespace banyan::addon
