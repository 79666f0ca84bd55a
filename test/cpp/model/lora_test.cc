// LoRA pairs of a lower model: merged values, rows of interleaved bases, and what is refused.
#include <cstring>

#include "base/half.h"
#include "check.h"
#include "make_files.h"
#include "model/lora.h"
#include "model/weights.h"

namespace banyan::test {
namespace {

// Element [row, column] of a matrix of floats of any width.
float element(const WeightView& w, int64_t row, int64_t column) {
  const char* at = static_cast<const char*>(w.data) + static_cast<size_t>(row * w.cols + column) * static_cast<size_t>(traits(w.dtype).block_bytes);
  if (w.dtype == DType::kF32) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return w.dtype == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

float rounded(DType dtype, double value) {
  const auto single = static_cast<float>(value);
  return dtype == DType::kF32 ? single : dtype == DType::kF16 ? f16_to_f32(f32_to_f16(single)) : bf16_to_f32(f32_to_bf16(single));
}

// Values of the test's tensors are 64ths and the scale is a power of two, so that every sum is exact in float32, whatever its order.
double pair_product(const std::string& name, int64_t row, int64_t column, int64_t rank, int64_t n_cols) {
  double sum = 0;
  for (int64_t r = 0; r < rank; ++r)
    sum += static_cast<double>(tensor_value(name + ".lora_b.weight", row * rank + r)) * tensor_value(name + ".lora_a.weight", r * n_cols + column);
  return sum;
}

std::vector<MadeTensor> lora_pair(const std::string& name, int64_t n_rows, int64_t n_cols, int64_t rank, DType dtype = DType::kF32) {
  return {make_tensor(name + ".lora_a.weight", dtype, {rank, n_cols}), make_tensor(name + ".lora_b.weight", dtype, {n_rows, rank})};
}

Members lora_config(const Tiny& m, int n_injected, const char* rank = "3", const char* alpha = "6") {
  Members config = adapter_config(m, n_injected);
  config["lower"] = "\"lora\"", config["lora_rank"] = rank, config["lora_alpha"] = alpha;
  return config;
}

std::vector<MadeTensor> together(std::vector<MadeTensor> a, const std::vector<MadeTensor>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(lora_merges) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const TempDirectory temp;
    Tiny m = tiny("llama");
    m.dtype = dtype;
    const std::string base = write_huggingface(temp, "base", tiny_config(m), huggingface_tensors(m));
    const std::string down = "encoder.layers.1.mlp.down_proj", k = "encoder.layers.0.self_attn.k_proj";
    const auto tensors = together(cross_tensors(m, 2), together(lora_pair(down, 32, 64, 3, dtype), lora_pair(k, 16, 32, 3)));
    const auto model = ModelFiles::open({base, write_adapter(temp, "a", lora_config(m, 2), tensors)});
    CHECK(!model->is_lower_shared && model->lower.layers.size() == 2 && model->upper.layers.size() == 2);
    const auto is_merged = [&](const WeightView& merged, const WeightView& plain, const std::string& name) {
      bool is_right = merged.dtype == dtype && merged.rows == plain.rows && merged.cols == plain.cols;
      for (int64_t row = 0; row < plain.rows && is_right; ++row) {
        for (int64_t column = 0; column < plain.cols; ++column) {
          const double exact = element(plain, row, column) + 2 * pair_product(name, row, column, 3, plain.cols);
          is_right = is_right && element(merged, row, column) == rounded(dtype, exact);
        }
      }
      return is_right;
    };
    CHECK(is_merged(model->lower.layers[1].down, model->upper.layers[1].down, down));
    CHECK(is_merged(model->lower.layers[0].k, model->upper.layers[0].k, k));
    // all else is the base's
    CHECK(model->lower.layers[0].down.data == model->upper.layers[0].down.data && model->lower.layers[1].k.data == model->upper.layers[1].k.data);
    CHECK(model->lower.embedding.data == model->upper.embedding.data && model->lower.final_norm == model->upper.final_norm);
    const auto other = ModelFiles::open({base, write_adapter(temp, "a", lora_config(m, 2, "3", "3"), tensors)});
    CHECK(other->fingerprint != model->fingerprint);
  }
}

// Matrices that the adapter brings, as a block format; the base's own stay.
TEST(adapter_in_8_bits) {
  const TempDirectory temp;
  Tiny m = tiny("llama");
  const std::string base = write_huggingface(temp, "base", tiny_config(m), huggingface_tensors(m));
  const std::string down = "encoder.layers.1.mlp.down_proj";
  const LoadPaths paths{base, write_adapter(temp, "a", lora_config(m, 2), together(cross_tensors(m, 2), lora_pair(down, 32, 64, 3)))};
  const auto plain = ModelFiles::open(paths), packed = ModelFiles::open(paths, true);
  const auto is_packed = [](const WeightView& w, const WeightView& of) {
    bool is_right = w.dtype == DType::kQ8_0 && w.rows == of.rows && w.cols == of.cols;
    for (int64_t row = 0; row < of.rows && is_right; ++row) {
      for (int64_t block = 0; block < of.cols; block += 32) {
        double highest = 0;
        for (int64_t i = 0; i < 32; ++i) highest = std::max(highest, std::fabs(static_cast<double>(element(of, row, block + i))));
        const uint8_t* stored = static_cast<const uint8_t*>(w.data) + row * static_cast<int64_t>(row_bytes(w.dtype, w.cols)) + block / 32 * 34;
        uint16_t bits;
        std::memcpy(&bits, stored, sizeof bits);
        const double d = static_cast<double>(f16_to_f32(bits));
        is_right = is_right && std::fabs(d - highest / 127) <= highest / 127 * 0x1p-11;
        for (int64_t i = 0; i < 32; ++i) {
          const double value = d * static_cast<int8_t>(stored[2 + i]);
          is_right = is_right && std::fabs(value - static_cast<double>(element(of, row, block + i))) <= 0.5001 * d;
        }
      }
    }
    return is_right;
  };
  for (size_t i = 0; i < 2; ++i) {
    CHECK(is_packed(packed->cross[i].q, plain->cross[i].q));
    CHECK(is_packed(packed->cross[i].o, plain->cross[i].o));
  }
  CHECK(is_packed(packed->lower.layers[1].down, plain->lower.layers[1].down));
  CHECK(packed->lower.layers[0].down.dtype == plain->upper.layers[0].down.dtype &&
        packed->lower.layers[0].down.data == packed->upper.layers[0].down.data);
  CHECK(packed->lower.embedding.data == packed->upper.embedding.data);
  CHECK(packed->fingerprint == plain->fingerprint);
}

// A block format becomes F16.
TEST(lora_of_a_block_format) {
  constexpr int64_t kRows = 300, kCols = 64, kRank = 5;
  std::string blocks;
  std::vector<double> plain;
  for (int64_t block = 0; block < kRows * kCols / 32; ++block) {
    blocks += bytes_of(f32_to_f16(0.125f));
    for (int64_t i = 0; i < 32; ++i) {
      const auto q = static_cast<int8_t>((block * 37 + i * 11) % 255 - 127);
      blocks += bytes_of(q);
      plain.push_back(0.125 * q);
    }
  }
  const MadeTensor a = make_tensor("x.lora_a.weight", DType::kBF16, {kRank, kCols}), b = make_tensor("x.lora_b.weight", DType::kF16, {kRows, kRank});
  const auto device = make_cpu_device(2, "");
  const AlignedBytes merged = add_lora(*device, {blocks.data(), DType::kQ8_0, kRows, kCols}, {a.bytes.data(), DType::kBF16, kRank, kCols},
      {b.bytes.data(), DType::kF16, kRows, kRank}, 0.5f);
  CHECK_EQUAL(merged.size(), static_cast<size_t>(kRows * kCols * 2));
  const WeightView view{merged.data(), lora_dtype(DType::kQ8_0), kRows, kCols};
  CHECK(view.dtype == DType::kF16);
  bool is_right = true;
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t column = 0; column < kCols; ++column) {
      double sum = 0;  // values of 7 bits are exact in BF16 as well
      for (int64_t r = 0; r < kRank; ++r)
        sum += static_cast<double>(tensor_value(b.name, row * kRank + r)) * tensor_value(a.name, r * kCols + column);
      is_right = is_right && element(view, row, column) == rounded(DType::kF16, plain[static_cast<size_t>(row * kCols + column)] + 0.5 * sum);
    }
  }
  CHECK(is_right);
}

TEST(lora_rows_follow_the_base) {
  const TempDirectory temp;
  const Tiny m = tiny("llama");
  const std::string base = temp.write("m.gguf", make_gguf_model(m)), q = "encoder.layers.0.self_attn.q_proj", v = "encoder.layers.0.self_attn.v_proj";
  const auto tensors = together(cross_tensors(m, 1), together(lora_pair(q, 32, 32, 2), lora_pair(v, 16, 32, 2)));
  const auto model = ModelFiles::open({base, write_adapter(temp, "a", lora_config(m, 1, "2", "2"), tensors)});
  CHECK(model->lower_config.rope.is_interleaved);
  for (int64_t head = 0; head < 4; ++head) {
    for (int64_t i = 0; i < 8; ++i) {  // row i of a head turns with row i + 4; in the file they lie side by side
      const int64_t row = head * 8 + (i < 4 ? 2 * i : 2 * (i - 4) + 1);
      CHECK_EQUAL(element(model->lower.layers[0].q, row, 5),
          static_cast<float>(element(model->upper.layers[0].q, row, 5) + pair_product(q, head * 8 + i, 5, 2, 32)));
    }
  }
  CHECK_EQUAL(element(model->lower.layers[0].v, 3, 5), static_cast<float>(element(model->upper.layers[0].v, 3, 5) + pair_product(v, 3, 5, 2, 32)));
}

TEST(lora_refuses) {
  const TempDirectory temp;
  const Tiny m = tiny("llama");
  const std::string base = write_huggingface(temp, "base", tiny_config(m), huggingface_tensors(m)), q = "encoder.layers.0.self_attn.q_proj";
  const auto cross = cross_tensors(m, 1), pair = lora_pair(q, 32, 32, 3);
  const auto open = [&](const Members& config, const std::vector<MadeTensor>& tensors) {
    return ModelFiles::open({base, write_adapter(temp, "a", config, tensors)});
  };
  open(lora_config(m, 1), cross);  // no pair at all is a sound adapter
  Members config = lora_config(m, 1);
  config.erase("lora_rank");
  CHECK_THROWS(kBadAdapter, "\"lora_rank\" is missing", open(config, cross));
  config = lora_config(m, 1);
  config.erase("lora_alpha");
  CHECK_THROWS(kBadAdapter, "\"lora_alpha\" is missing", open(config, cross));
  CHECK_THROWS(kBadAdapter, "lora_rank", open(lora_config(m, 1, "0"), cross));
  CHECK_THROWS(kBadAdapter, "lora_alpha", open(lora_config(m, 1, "3", "1e300"), cross));
  CHECK_THROWS(kBadAdapter, "lora_alpha", open(lora_config(m, 1, "3", "\"6\""), cross));
  CHECK_THROWS(kMissingTensor, "lora_b.weight is missing", open(lora_config(m, 1), together(cross, {pair[0]})));
  CHECK_THROWS(kMissingTensor, "lora_a.weight is missing", open(lora_config(m, 1), together(cross, {pair[1]})));
  CHECK_THROWS(kBadTensor, "has shape [3, 32] but must have [4, 32]", open(lora_config(m, 1, "4"), together(cross, pair)));
  CHECK_THROWS(kBadTensor, "has shape [3, 32] but must have [2147483647, 32]", open(lora_config(m, 1, "2147483647"), together(cross, pair)));
  for (const char* name : {"encoder.layers.1.self_attn.q_proj.lora_a.weight", "encoder.layers.0.self_attn.q_proj.weight",
           "encoder.layers.0.self_attn.x_proj.lora_a.weight", "encoder.layers.0.lora_a.weight", "encoder.embed_tokens.weight",
           "encoder.lora_a.weight"}) {
    CHECK_THROWS(
        kBadAdapter, std::string("tensor ") + name + " is none", open(lora_config(m, 1), together(cross, {make_tensor(name, DType::kF32, {3, 32})})));
  }
  config = adapter_config(m, 1);
  CHECK_THROWS(kBadAdapter, "is none of this adapter", open(config, together(cross, pair)));
}

}  // namespace
}  // namespace banyan::test
