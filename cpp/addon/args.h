// args: arguments and option objects of a native call, checked. The SDK has already validated what users give; these checks keep a wrong
// call of the addon from being more than a TypeError.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "addon/js.h"

namespace banyan::addon {

// Checked conversions; `name` is for the message.
std::string to_text(const Napi::Value& value, const char* name);
bool to_bool(const Napi::Value& value, const char* name);
double to_number(const Napi::Value& value, const char* name);
int64_t to_integer(const Napi::Value& value, const char* name, int64_t min, int64_t max);
std::vector<int32_t> to_ids(const Napi::Value& value, const char* name);
std::vector<float> to_floats(const Napi::Value& value, const char* name);
std::vector<uint8_t> to_bytes(const Napi::Value& value, const char* name);
Napi::Object to_object(const Napi::Value& value, const char* name);

constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

// The arguments of one call.
class Args {
 public:
  Args(napi_env env, napi_callback_info info) : info_(env, info) {}

  Napi::Env env() const { return info_.Env(); }
  Napi::Value receiver() const { return info_.This(); }
  Napi::Value operator[](size_t index) const { return info_[index]; }  // undefined past the end
  // A function, or empty for null.
  Napi::Function callback(size_t index, const char* name) const;

 private:
  Napi::CallbackInfo info_;
};

// The properties of an options object; each getter gives nothing where the property is absent or undefined.
class Options {
 public:
  Options(const Napi::Value& value, const char* name) : object_(to_object(value, name)) {}

  // undefined where absent
  Napi::Value get(const char* name) const { return object_.Get(name); }
  std::optional<std::string> text(const char* name) const;
  std::optional<double> number(const char* name) const;
  std::optional<int64_t> integer(const char* name, int64_t min, int64_t max) const;

 private:
  Napi::Object object_;
};

}  // namespace banyan::addon
