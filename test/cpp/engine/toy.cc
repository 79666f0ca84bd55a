#include "toy.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <sstream>

namespace banyan::test {

namespace {

class Source {
 public:
  explicit Source(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  float uniform() {  // [-1, 1)
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<double>(state_ >> 40) / static_cast<double>(1 << 23) - 1.0);
  }
  std::vector<float> vector(int n, float center, float spread) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values) value = center + spread * uniform();
    return values;
  }
  // Rows of variance about 1 for inputs of variance 1.
  Matrix matrix(int rows, int cols, float scale = 1) {
    return {rows, cols, vector(rows * cols, 0, scale * std::sqrt(3.0f / static_cast<float>(cols)))};
  }

 private:
  uint64_t state_;
};

Block random_block(Source& source, const Shape& s) {
  const int q_dim = s.n_heads * s.head_dim, kv_dim = s.n_kv_heads * s.head_dim;
  Block block;
  block.attn_norm = source.vector(s.dim, 1, 0.3f);
  block.mlp_norm = source.vector(s.dim, 1, 0.3f);
  if (s.has_qkv_bias()) {
    block.q_bias = source.vector(q_dim, 0, 0.5f);
    block.k_bias = source.vector(kv_dim, 0, 0.5f);
    block.v_bias = source.vector(kv_dim, 0, 0.5f);
  }
  if (s.has_qk_norm()) {
    block.q_norm = source.vector(s.head_dim, 1, 0.3f);
    block.k_norm = source.vector(s.head_dim, 1, 0.3f);
  }
  block.q = source.matrix(q_dim, s.dim);
  block.k = source.matrix(kv_dim, s.dim);
  block.v = source.matrix(kv_dim, s.dim);
  block.o = source.matrix(s.dim, q_dim);
  block.gate = source.matrix(s.ffn_dim, s.dim);
  block.up = source.matrix(s.ffn_dim, s.dim);
  block.down = source.matrix(s.dim, s.ffn_dim);
  return block;
}

Net random_net(Source& source, const Shape& shape, int vocab) {
  Net net;
  net.shape = shape;
  net.embedding = {vocab, shape.dim, source.vector(vocab * shape.dim, 0, 1.5f)};
  for (int i = 0; i < shape.n_layers; ++i) net.layers.push_back(random_block(source, shape));
  net.final_norm = source.vector(shape.dim, 1, 0.3f);
  net.head = source.matrix(vocab, shape.dim);
  return net;
}

struct Tensor {
  std::vector<int> shape;
  const std::vector<float>* data;
};
using Tensors = std::map<std::string, Tensor>;

void add(Tensors& tensors, const std::string& name, const Matrix& m) { tensors[name] = {{m.rows, m.cols}, &m.data}; }
void add(Tensors& tensors, const std::string& name, const std::vector<float>& v) {
  if (!v.empty()) tensors[name] = {{static_cast<int>(v.size())}, &v};
}

void add_block(Tensors& tensors, const std::string& prefix, const Block& b) {
  add(tensors, prefix + "input_layernorm.weight", b.attn_norm);
  add(tensors, prefix + "post_attention_layernorm.weight", b.mlp_norm);
  const std::pair<const char*, const Matrix*> matrices[] = {{"self_attn.q_proj", &b.q}, {"self_attn.k_proj", &b.k}, {"self_attn.v_proj", &b.v},
      {"self_attn.o_proj", &b.o}, {"mlp.gate_proj", &b.gate}, {"mlp.up_proj", &b.up}, {"mlp.down_proj", &b.down}};
  for (const auto& [name, m] : matrices) add(tensors, prefix + name + ".weight", *m);
  const std::pair<const char*, const std::vector<float>*> vectors[] = {{"self_attn.q_proj.bias", &b.q_bias}, {"self_attn.k_proj.bias", &b.k_bias},
      {"self_attn.v_proj.bias", &b.v_bias}, {"self_attn.q_norm.weight", &b.q_norm}, {"self_attn.k_norm.weight", &b.k_norm}};
  for (const auto& [name, v] : vectors) add(tensors, prefix + name, *v);
}

void write_safetensors(const std::string& path, const Tensors& tensors) {
  std::ostringstream header, data;
  size_t at = 0;
  header << '{';
  for (const auto& [name, tensor] : tensors) {
    const size_t n_bytes = tensor.data->size() * sizeof(float);
    header << (at == 0 ? "" : ",") << '"' << name << R"(":{"dtype":"F32","shape":[)" << tensor.shape[0];
    if (tensor.shape.size() == 2) header << ',' << tensor.shape[1];
    header << R"(],"data_offsets":[)" << at << ',' << at + n_bytes << "]}";
    data.write(reinterpret_cast<const char*>(tensor.data->data()), static_cast<std::streamsize>(n_bytes));
    at += n_bytes;
  }
  header << '}';
  const std::string text = header.str();
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i));
  write_bytes(path, length + text + data.str());
}

std::string shape_json(const Shape& s, int vocab) {
  std::ostringstream json;
  json << R"("model_type":")" << s.family << R"(","hidden_size":)" << s.dim << R"(,"intermediate_size":)" << s.ffn_dim << R"(,"num_hidden_layers":)"
       << s.n_layers << R"(,"num_attention_heads":)" << s.n_heads << R"(,"num_key_value_heads":)" << s.n_kv_heads << R"(,"head_dim":)" << s.head_dim
       << R"(,"vocab_size":)" << vocab << R"(,"rms_norm_eps":1e-5,"rope_theta":)" << s.theta
       << R"(,"max_position_embeddings":8192,"tie_word_embeddings":false)";
  if (s.family == "mistral") {
    if (s.sliding_window > 0) json << R"(,"sliding_window":)" << s.sliding_window;
    else json << R"(,"sliding_window":null)";
  }
  return json.str();
}

std::string tree_json(const ToySpec& spec) {
  static constexpr const char* kSemantics[] = {"released", "corrected", "paper"};
  std::ostringstream json;
  json << R"("num_cross_attn_layers":)" << -spec.n_injected << R"(,"segment_tree_depth":)" << spec.depth << R"(,"last_p":")" << spec.last_p
       << R"(","chunk_size":)" << spec.chunk_size << R"(,"do_retrieval":)" << (spec.do_retrieval ? "true" : "false") << R"(,"semantics":")"
       << kSemantics[static_cast<int>(spec.semantics)] << R"(","slot_kind":")" << (spec.slot_kind == SlotKind::kMean ? "mean" : "strided") << '"';
  if (spec.selection == SelectionRule::kTokenKeys) json << R"(,"selection":"token_keys","selection_layer":)" << spec.selection_layer;
  for (size_t i = 0; i < spec.selection_heads.size(); ++i) json << (i == 0 ? R"(,"selection_heads":[)" : ",") << spec.selection_heads[i];
  if (!spec.selection_heads.empty()) json << ']';
  if (spec.lower) json << R"(,"encoder_config":{)" << shape_json(*spec.lower, spec.vocab) << '}';
  return json.str();
}

// The toy's arrays as the views that the readers would give.
class ToyFiles : public ModelFiles {
 public:
  explicit ToyFiles(const Toy& toy) {
    const ToySpec& spec = toy.spec;
    upper_config = config_of(toy.upper, spec.vocab);
    lower_config = config_of(toy.lower, spec.vocab);
    lower_config.n_layers = spec.n_injected;
    upper = views_of(toy.upper);
    lower = views_of(toy.lower);
    is_lower_shared = !spec.lower;
    for (const Cross& c : toy.cross) cross.push_back({c.norm.data(), view(c.q), view(c.o)});
    tree.semantics = spec.semantics;
    tree.slot_kind = spec.slot_kind;
    tree.n_injected_layers = spec.n_injected;
    tree.depth = spec.depth;
    tree.keep = spec.keep();
    tree.chunk_size = spec.chunk_size;
    tree.do_retrieval = spec.do_retrieval;
    tree.selection = spec.selection;
    tree.selection_layer = spec.selection_layer;
    tree.selection_heads = spec.selection_heads;
    fingerprint = std::string(31, '0') + static_cast<char>('0' + spec.seed % 10);
  }

 private:
  static WeightView view(const Matrix& m) { return {m.data.data(), DType::kF32, m.rows, m.cols}; }
  static const float* or_null(const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); }
  static ModelConfig config_of(const Net& net, int vocab) {
    const Shape& s = net.shape;
    ModelConfig c;
    c.architecture = s.family;
    c.n_layers = s.n_layers;
    c.dim = s.dim;
    c.ffn_dim = s.ffn_dim;
    c.n_heads = s.n_heads;
    c.n_kv_heads = s.n_kv_heads;
    c.head_dim = s.head_dim;
    c.vocab_size = vocab;
    c.window = 8192;
    c.rope.theta = s.theta;
    c.rope.is_interleaved = s.is_interleaved;
    c.has_qkv_bias = s.has_qkv_bias();
    c.has_qk_norm = s.has_qk_norm();
    c.sliding_window = s.sliding_window;
    return c;
  }
  static DecoderWeights views_of(const Net& net) {
    DecoderWeights w;
    w.embedding = view(net.embedding);
    for (const Block& b : net.layers) {
      LayerWeights l;
      l.attn_norm = b.attn_norm.data();
      l.q = view(b.q);
      l.k = view(b.k);
      l.v = view(b.v);
      l.o = view(b.o);
      l.q_bias = or_null(b.q_bias);
      l.k_bias = or_null(b.k_bias);
      l.v_bias = or_null(b.v_bias);
      l.q_norm = or_null(b.q_norm);
      l.k_norm = or_null(b.k_norm);
      l.mlp_norm = b.mlp_norm.data();
      l.gate = view(b.gate);
      l.up = view(b.up);
      l.down = view(b.down);
      w.layers.push_back(l);
    }
    w.final_norm = net.final_norm.data();
    w.head = view(net.head);
    return w;
  }
};

}  // namespace

Toy::Toy(const ToySpec& spec_in) : spec(spec_in) {
  Source source(spec.seed);
  upper = random_net(source, spec.upper, spec.vocab);
  lower = spec.lower ? random_net(source, *spec.lower, spec.vocab) : upper;
  for (int i = 0; i < spec.n_injected; ++i) {
    Cross c;
    c.norm = source.vector(spec.upper.dim, 1, 0.3f);
    c.q = source.matrix(spec.upper.n_heads * spec.upper.head_dim, spec.upper.dim, 1.5f);
    c.o = source.matrix(spec.upper.dim, spec.upper.n_heads * spec.upper.head_dim);
    cross.push_back(std::move(c));
  }
}

TempDir::TempDir() {
  std::random_device random;
  const auto base = std::filesystem::temp_directory_path();
  do path_ = (base / ("banyan-engine-test-" + std::to_string(random()))).string();
  while (!std::filesystem::create_directory(path_));
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> TempDir::names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

LoadPaths write_toy(const Toy& toy, const std::string& directory, Layout layout) {
  const ToySpec& spec = toy.spec;
  Tensors model, extra;
  add(model, "model.embed_tokens.weight", toy.upper.embedding);
  add(model, "model.norm.weight", toy.upper.final_norm);
  add(model, "lm_head.weight", toy.upper.head);
  for (size_t i = 0; i < toy.upper.layers.size(); ++i) add_block(model, "model.layers." + std::to_string(i) + ".", toy.upper.layers[i]);
  for (size_t i = 0; i < toy.cross.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".cross_attn.";
    add(extra, prefix + "layernorm.weight", toy.cross[i].norm);
    add(extra, prefix + "q_proj.weight", toy.cross[i].q);
    add(extra, prefix + "o_proj.weight", toy.cross[i].o);
  }
  if (spec.lower) {
    add(extra, "encoder.embed_tokens.weight", toy.lower.embedding);
    add(extra, "encoder.norm.weight", toy.lower.final_norm);
    for (size_t i = 0; i < toy.lower.layers.size(); ++i) add_block(extra, "encoder.layers." + std::to_string(i) + ".", toy.lower.layers[i]);
  }
  const std::string base = directory + "/base", adapter = directory + "/adapter", shape = shape_json(spec.upper, spec.vocab);
  std::filesystem::create_directories(base);
  if (layout == Layout::kCheckpoint) model.merge(extra);
  write_safetensors(base + "/model.safetensors", model);
  write_bytes(base + "/config.json", '{' + shape + (layout == Layout::kCheckpoint ? ',' + tree_json(spec) : "") + '}');
  if (layout != Layout::kAdapter) return {base, ""};
  std::filesystem::create_directories(adapter);
  write_safetensors(adapter + "/adapter.safetensors", extra);
  write_bytes(adapter + "/adapter_config.json", R"({"format":"banyan-adapter","version":1,"method":"sharedllm","lower":")" +
                                                    std::string(spec.lower ? "own" : "shared") + R"(",)" + tree_json(spec) + '}');
  return {base, adapter};
}

LoadOptions toy_options(const LoadPaths& paths, DType kv_dtype) {
  LoadOptions options;
  options.paths = paths;
  options.device = "cpu";
  options.n_threads = 2;
  options.kv_dtype = kv_dtype;
  return options;
}

std::shared_ptr<Model> load_toy(const Toy& toy, Layout layout, DType kv_dtype) {
  const TempDir directory;  // the mapping outlives the name
  return Model::load(toy_options(write_toy(toy, directory.path(), layout), kv_dtype));
}

std::shared_ptr<Engine> make_engine(const Toy& toy, DType kv_dtype) {
  return std::make_shared<Engine>(std::make_unique<ToyFiles>(toy), make_cpu_device(2, ""), toy_options({}, kv_dtype));
}

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace banyan::test
