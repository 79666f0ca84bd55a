#include "toy.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>

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

// w += scale * b a, in float64.
void add_product(Matrix& w, const Matrix& b, const Matrix& a, double scale) {
  const auto rows = static_cast<size_t>(w.rows), cols = static_cast<size_t>(w.cols), rank = static_cast<size_t>(a.rows);
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < cols; ++j) {
      double sum = 0;
      for (size_t r = 0; r < rank; ++r) sum += static_cast<double>(b.data[i * rank + r]) * static_cast<double>(a.data[r * cols + j]);
      w.data[i * cols + j] = static_cast<float>(static_cast<double>(w.data[i * cols + j]) + scale * sum);
    }
  }
}

// The rows of every head from the order (m, m + C/2) to (2m, 2m + 1).
void interleave(Matrix& m, int head_dim) {
  const std::vector<float> old = m.data;
  const auto cols = static_cast<size_t>(m.cols), d = static_cast<size_t>(head_dim), half = d / 2;
  for (size_t row = 0; row < static_cast<size_t>(m.rows); ++row) {
    const size_t head = row / d * d, i = row % d, to = head + (i < half ? 2 * i : 2 * (i - half) + 1);
    std::copy_n(old.begin() + static_cast<std::ptrdiff_t>(row * cols), cols, m.data.begin() + static_cast<std::ptrdiff_t>(to * cols));
  }
}

// The toy's arrays as the views that the readers would give.
class ToyFiles : public ModelFiles {
 public:
  explicit ToyFiles(const Toy& toy) {
    const ToySpec& spec = toy.spec;
    upper_config = config_of(toy.upper, spec);
    lower_config = config_of(toy.lower, spec);
    lower_config.n_layers = spec.n_injected;
    upper = views_of(toy.upper);
    lower = views_of(toy.lower);
    is_lower_shared = !spec.lower && spec.lora_rank == 0;
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
    tree.positions = spec.positions;
    tree.slot_budget = spec.slot_budget;
    tree.budget_unit = spec.budget_unit;
    if (spec.focus) {
      focus = {true, spec.focus->has_q, spec.focus->has_k, spec.focus->has_v, spec.focus->has_o, spec.focus->chunk_size, spec.focus->query_cap};
      for (const Candidate& c : toy.candidates) candidates.push_back({view(c.q), view(c.k), view(c.v), view(c.o)});
    }
    fingerprint = std::string(31, '0') + static_cast<char>('0' + spec.seed % 10);
  }

 private:
  static WeightView view(const Matrix& m) { return {m.data.data(), DType::kF32, m.rows, m.cols}; }
  static const float* or_null(const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); }
  static ModelConfig config_of(const Net& net, const ToySpec& spec) {
    const Shape& s = net.shape;
    ModelConfig c;
    c.architecture = s.family;
    c.n_layers = s.n_layers;
    c.dim = s.dim;
    c.ffn_dim = s.ffn_dim;
    c.n_heads = s.n_heads;
    c.n_kv_heads = s.n_kv_heads;
    c.head_dim = s.head_dim;
    c.vocab_size = spec.vocab;
    c.window = spec.window;
    c.bos_id = spec.bos_id;
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
  for (int i = 0; i < spec.n_injected && spec.lora_rank > 0; ++i) {
    Block& b = lower.layers[static_cast<size_t>(i)];
    const std::pair<const char*, Matrix*> roles[] = {{"self_attn.q_proj", &b.q}, {"self_attn.k_proj", &b.k}, {"self_attn.v_proj", &b.v},
        {"self_attn.o_proj", &b.o}, {"mlp.gate_proj", &b.gate}, {"mlp.up_proj", &b.up}, {"mlp.down_proj", &b.down}};
    for (const auto& [role, w] : roles) {
      if (source.uniform() < -0.5f) continue;  // any subset of them
      const Matrix down = source.matrix(spec.lora_rank, w->cols), up = source.matrix(w->rows, spec.lora_rank, 0.3f);
      add_product(*w, up, down, spec.lora_alpha / spec.lora_rank);
      const std::string name = "encoder.layers." + std::to_string(i) + '.' + role;
      lora.emplace_back(name + ".lora_a.weight", down);
      lora.emplace_back(name + ".lora_b.weight", up);
    }
  }
  for (int i = 0; i < spec.n_injected; ++i) {
    Cross c;
    c.norm = source.vector(spec.upper.dim, 1, 0.3f);
    c.q = source.matrix(spec.upper.n_heads * spec.upper.head_dim, spec.upper.dim, 1.5f);
    c.o = source.matrix(spec.upper.dim, spec.upper.n_heads * spec.upper.head_dim);
    cross.push_back(std::move(c));
  }
  if (!spec.focus) return;
  const Shape& s = spec.upper;
  for (const Block& b : upper.layers) {
    Candidate c{b.q, b.k, b.v, b.o};
    if (spec.focus->has_q) c.q = source.matrix(s.n_heads * s.head_dim, s.dim);
    if (spec.focus->has_k) c.k = source.matrix(s.n_kv_heads * s.head_dim, s.dim);
    if (spec.focus->has_v) c.v = source.matrix(s.n_kv_heads * s.head_dim, s.dim);
    if (spec.focus->has_o) c.o = source.matrix(s.dim, s.n_heads * s.head_dim);
    candidates.push_back(std::move(c));
  }
}

Toy interleaved(const Toy& toy) {
  ToySpec spec = toy.spec;
  spec.upper.is_interleaved = true;
  Toy other(spec);
  for (Net* net : {&other.upper, &other.lower}) {
    net->shape.is_interleaved = true;
    for (Block& b : net->layers) {
      interleave(b.q, net->shape.head_dim);
      interleave(b.k, net->shape.head_dim);
    }
  }
  for (Cross& c : other.cross) interleave(c.q, spec.upper.head_dim);
  for (Candidate& c : other.candidates) {
    interleave(c.q, spec.upper.head_dim);
    interleave(c.k, spec.upper.head_dim);
  }
  return other;
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

std::string test_device() {
  const char* name = std::getenv("BANYAN_TEST_DEVICE");
  return name != nullptr && *name != '\0' ? name : "cpu";
}

std::unique_ptr<Device> make_test_device() {
  if (test_device() == "cpu") return make_cpu_device(2, "");
  auto device = make_cuda_device(0);
  if (device == nullptr) throw Error(Code::kNoDevice, cuda_obstacle(0));
  return device;
}

bool is_test_device_host() { return make_test_device()->is_host(); }

LoadOptions toy_options(const LoadPaths& paths, DType kv_dtype) {
  LoadOptions options;
  options.paths = paths;
  options.device = test_device();
  options.n_threads = 2;
  options.kv_dtype = kv_dtype;
  return options;
}

std::shared_ptr<Model> load_toy(const Toy& toy, Layout layout, DType kv_dtype) {
  const TempDir directory;  // the mapping outlives the name
  return Model::load(toy_options(write_toy(toy, directory.path(), layout), kv_dtype));
}

std::shared_ptr<Engine> make_engine(const Toy& toy, DType kv_dtype, std::unique_ptr<Device> device) {
  return std::make_shared<Engine>(std::make_unique<ToyFiles>(toy), std::move(device), toy_options({}, kv_dtype));
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
