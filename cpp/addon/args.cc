#include "addon/args.h"

#include <cmath>

namespace banyan::addon {
namespace {

[[noreturn]] void expected(const char* what, const char* name) { throw ArgumentError(std::string("Expected ") + what + " for " + name); }

// A copy of a typed array's elements; T must be its element type.
template <class T> std::vector<T> to_vector(const Napi::Value& value, napi_typedarray_type type, const char* what, const char* name) {
  if (!value.IsTypedArray()) expected(what, name);
  napi_typedarray_type actual;
  size_t length = 0;
  void* data = nullptr;
  check(value.Env(), napi_get_typedarray_info(value.Env(), value, &actual, &length, &data, nullptr, nullptr));
  if (actual != type) expected(what, name);
  const T* elements = static_cast<const T*>(data);
  return elements == nullptr ? std::vector<T>() : std::vector<T>(elements, elements + length);
}

}  // namespace

std::string to_text(const Napi::Value& value, const char* name) {
  if (!value.IsString()) expected("string", name);
  return value.As<Napi::String>().Utf8Value();
}

bool to_bool(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) expected("boolean", name);
  return value.As<Napi::Boolean>().Value();
}

double to_number(const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) expected("number", name);
  return value.As<Napi::Number>().DoubleValue();
}

int64_t to_integer(const Napi::Value& value, const char* name, int64_t min, int64_t max) {
  const double number = to_number(value, name);
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) || std::trunc(number) != number) {
    throw ArgumentError("Expected integer between " + std::to_string(min) + " and " + std::to_string(max) + " for " + name, true);
  }
  return static_cast<int64_t>(number);
}

std::vector<int32_t> to_ids(const Napi::Value& value, const char* name) { return to_vector<int32_t>(value, napi_int32_array, "Int32Array", name); }

std::vector<float> to_floats(const Napi::Value& value, const char* name) { return to_vector<float>(value, napi_float32_array, "Float32Array", name); }

std::vector<uint8_t> to_bytes(const Napi::Value& value, const char* name) { return to_vector<uint8_t>(value, napi_uint8_array, "Uint8Array", name); }

Napi::Object to_object(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) expected("object", name);
  return value.As<Napi::Object>();
}

Napi::Function Args::callback(size_t index, const char* name) const {
  const Napi::Value value = info_[index];
  if (value.IsNull()) return {};
  if (!value.IsFunction()) expected("function or null", name);
  return value.As<Napi::Function>();
}

std::optional<std::string> Options::text(const char* name) const {
  const Napi::Value value = get(name);
  return value.IsUndefined() ? std::nullopt : std::optional(to_text(value, name));
}

std::optional<double> Options::number(const char* name) const {
  const Napi::Value value = get(name);
  return value.IsUndefined() ? std::nullopt : std::optional(to_number(value, name));
}

std::optional<int64_t> Options::integer(const char* name, int64_t min, int64_t max) const {
  const Napi::Value value = get(name);
  return value.IsUndefined() ? std::nullopt : std::optional(to_integer(value, name, min, max));
}

}  // namespace banyan::addon
