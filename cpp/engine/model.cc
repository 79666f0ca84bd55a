// model: loading, and the objects that hang from a model.
#include <algorithm>

#include "engine/place_weights.h"
#include "engine/session.h"

namespace banyan {

namespace {

TreeConfig with_overrides(TreeConfig tree, const LoadOptions& options) {
  if (options.semantics) tree.semantics = *options.semantics;
  if (options.depth) tree.depth = *options.depth;
  if (options.last_p) tree.keep = parse_keep(*options.last_p);
  // 2^16 leaves are more than any chunk has tokens worth keeping apart
  if (tree.depth < 1 || tree.depth > 16) throw Error(Code::kInvalidArgument, "depth must be between 1 and 16, got " + std::to_string(tree.depth));
  if (const std::string conflict = find_conflict(tree); !conflict.empty()) throw Error(Code::kInvalidArgument, conflict);
  return tree;
}

std::unique_ptr<Device> make_device(const LoadOptions& options, std::string* reason) {
  if (options.device != "auto" && options.device != "cpu" && options.device != "cuda") {
    throw Error(Code::kInvalidArgument, "device must be auto, cpu or cuda, got " + options.device);
  }
  if (options.device != "cpu") {
    if (auto device = make_cuda_device(0)) return device;
    *reason = cuda_obstacle(0);
    if (options.device == "cuda") throw Error(Code::kNoDevice, "device cuda was asked for, but " + *reason);
  }
  return make_cpu_device(options.n_threads, options.cpu_variant);
}

class OpenJob : public Job {
 public:
  OpenJob(std::shared_ptr<Engine> engine, std::string path, JobHooks hooks, std::function<void(std::shared_ptr<Document>)> on_document)
      : Job(hooks.cancel), engine_(std::move(engine)), path_(std::move(path)), hooks_(std::move(hooks)), on_document_(std::move(on_document)) {}

  void finish(const Error* error) override {
    reader_.reset();  // a refused file is closed before anybody hears of it
    if (hooks_.on_done) hooks_.on_done(error);
  }

  bool step() override {
    if (!reader_) {
      reader_ = std::make_unique<DocumentReader>(*engine_->device, path_, engine_->document_shape(engine_->tree));
      return false;
    }
    if (!reader_->step()) {
      if (hooks_.on_progress) hooks_.on_progress(reader_->n_done(), reader_->n_total());
      return false;
    }
    DocumentContent content = reader_->take();
    for (const auto& chunk : content.chunks) engine_->check_ids(chunk->tokens, Code::kBadDocument);
    on_document_(std::make_shared<DocumentState>(engine_, reader_->tree, std::move(content)));
    return true;
  }

 private:
  const std::shared_ptr<Engine> engine_;
  const std::string path_;
  const JobHooks hooks_;
  const std::function<void(std::shared_ptr<Document>)> on_document_;
  std::unique_ptr<DocumentReader> reader_;
};

class ModelState : public Model {
 public:
  explicit ModelState(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {}
  ~ModelState() override { close(); }

  const ModelInfo& info() const override { return engine_->info; }
  const TokenizerData* tokenizer() const override { return engine_->files->tokenizer ? &*engine_->files->tokenizer : nullptr; }

  std::shared_ptr<Document> create_document(const DocumentOptions& options) override {
    const std::optional<Method> method = options.method ? options.method : engine_->default_method();
    if (method && !engine_->has(*method)) {
      const std::string name = kMethodNames[static_cast<int>(*method)];
      throw Error(Code::kAdapterMismatch, "method " + name + " needs a " + name + " adapter; the model was loaded without one");
    }
    TreeConfig tree = engine_->tree;
    if (method == Method::kFocus) tree.chunk_size = engine_->files->focus.chunk_size;
    if (options.chunk_size != 0) tree.chunk_size = options.chunk_size;
    if (engine_->has_adapter()) check_chunk_size(tree.chunk_size, tree);
    if (tree.chunk_size < 1) throw Error(Code::kInvalidArgument, "a chunk must have at least one token");
    return std::make_shared<DocumentState>(engine_, tree, method, options.mask);
  }

  void begin_open(std::string path, JobHooks hooks, std::function<void(std::shared_ptr<Document>)> on_document) override {
    engine_->scheduler.post(std::make_unique<OpenJob>(engine_, std::move(path), std::move(hooks), std::move(on_document)));
  }

  std::shared_ptr<Session> create_session(const MethodOptions& options) override { return std::make_shared<SessionState>(engine_, options); }
  uint64_t multiply_adds() const override { return engine_->multiply_adds; }
  void close() override { engine_->scheduler.close(); }

 private:
  const std::shared_ptr<Engine> engine_;
};

void check_kv_dtype(DType dtype, int head_dim) {
  if (dtype != DType::kF16 && dtype != DType::kF32 && dtype != DType::kQ8_0)
    throw Error(Code::kInvalidArgument, "the type of keys and values must be F16, F32 or Q8_0");
  if (dtype == DType::kQ8_0 && head_dim % traits(dtype).block_size != 0)
    throw Error(
        Code::kInvalidArgument, "8-bit keys and values need a head size that is a multiple of 32; this model's is " + std::to_string(head_dim));
}

}  // namespace

Engine::Engine(std::unique_ptr<ModelFiles> files_in, std::unique_ptr<Device> device_in, const LoadOptions& options)
    : files(std::move(files_in)),
      device(std::move(device_in)),
      weights(place_weights(*files, *device, options)),
      tree(with_overrides(files->tree, options)),
      kv_dtype(options.kv_dtype),
      batch_rows(device->batch_rows()),
      upper(*device, files->upper_config, files->upper),
      lower(*device, files->lower_config, files->lower),
      kv_shape{upper.config.n_layers, upper.kv_dim(), upper.config.head_dim, kv_dtype},
      pool_shape{upper.config.n_layers, upper.kv_dim(), upper.config.head_dim, options.pool_dtype.value_or(kv_dtype)},
      kv_place{options.kv_directory},
      activations(*device, upper, lower),
      compressor(*device, lower, tree, kv_dtype, activations) {
  check_kv_dtype(kv_dtype, upper.config.head_dim);
  if (has_adapter()) check_kv_dtype(kv_dtype, lower.config.head_dim);
  check_kv_dtype(pool_shape.dtype, pool_shape.head_dim);
  if (!device->is_host() && !kv_place.directory.empty())
    throw Error(Code::kInvalidArgument, device->name() + " cannot read keys and values from scratch files: leave kvDirectory out or take device cpu");
  if (has_adapter()) check_chunk_size(tree.chunk_size, tree);
  info.upper = files->upper_config;
  info.tree = tree;
  info.focus = files->focus;
  info.method = default_method();
  info.is_lower_shared = files->is_lower_shared;
  info.device = device->name();
  info.fingerprint = files->fingerprint;
  info.n_parameters = files->n_parameters;
  info.n_bytes = files->n_bytes;
  info.kv_dtype = kv_dtype;
  info.pool_dtype = pool_shape.dtype;
}

void Engine::check_ids(const std::vector<int32_t>& ids, Code code) const {
  const int vocabulary = std::min(upper.config.vocab_size, has_adapter() ? lower.config.vocab_size : upper.config.vocab_size);
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocabulary) throw Error(code, "token " + std::to_string(id) + " is outside the vocabulary of " + std::to_string(vocabulary));
  }
}

DocumentShape Engine::document_shape(const TreeConfig& document_tree) const {
  return {info.fingerprint, document_tree, lower.config.dim, lower.kv_dim(), kv_dtype, pool_shape};
}

std::shared_ptr<Model> Model::load(LoadOptions options) {
  std::string reason;
  std::unique_ptr<Device> device = make_device(options, &reason);
  ReadFiles read;
  if (device->is_host()) read = [&](const auto& files) { read_files(files, options); };
  std::unique_ptr<ModelFiles> files = ModelFiles::open(options.paths, options.has_8_bit_adapter, read);
  if (options.cancel && *options.cancel) throw Error(Code::kAborted, "aborted");
  auto engine = std::make_shared<Engine>(std::move(files), std::move(device), options);
  engine->info.device_reason = reason;
  return std::make_shared<ModelState>(std::move(engine));
}

DevicesHere devices_here() {
  DevicesHere here{make_cpu_device(0, "")->name(), "", ""};
  if (const auto cuda = make_cuda_device(0)) here.cuda = cuda->name();
  else here.cuda_obstacle = cuda_obstacle(0);
  return here;
}

const char* version() { return BANYAN_VERSION; }

}  // namespace banyan
