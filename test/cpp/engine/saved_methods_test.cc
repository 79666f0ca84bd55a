// Saved documents of the methods that keep whole chunks: nothing is computed again, and what does not fit is refused.
#include "base/hash.h"
#include "methods.h"

namespace banyan::test {

namespace {

ToySpec spec_of(uint64_t seed) {
  ToySpec spec;
  spec.upper.n_layers = 3;
  spec.upper.head_dim = 32;
  spec.bos_id = 1;
  spec.focus = FocusSpec{};
  spec.focus->chunk_size = 10;
  spec.seed = seed;
  return spec;
}

constexpr Method kMethods[] = {Method::kFocus, Method::kParallel, Method::kStreaming, Method::kFull, Method::kShared};

std::shared_ptr<Model> load(const Toy& toy, Layout layout, std::optional<DType> pool = {}, const std::string& kv_directory = "") {
  const TempDir directory;
  LoadOptions options = toy_options(write_toy(toy, directory.path(), layout));
  options.pool_dtype = pool;
  if (is_test_device_host()) options.kv_directory = kv_directory;
  return Model::load(options);
}

Generated ask(Model& model, Method method, const std::shared_ptr<Document>& document, uint32_t question = 1) {
  const auto session = model.create_session(options_of(method));
  session->set_documents({document});
  return answer(*session, text_of(9, 61, question), 8);
}

int n_encoded(const Generated& got) { return got.retrievals.empty() ? 0 : got.retrievals[0].n_nodes_encoded; }

// Cuts the last n bytes off a tensor and calls them padding; the checksum is made to fit.
std::string cut(std::string bytes, const std::string& name, uint64_t n) {
  const std::string begin = '"' + name + R"(":{"dtype":"U8","shape":[)";
  uint64_t n_header = 0;
  for (size_t i = 0; i < 8; ++i) n_header |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  std::string header = bytes.substr(8, n_header);
  const size_t at = header.find(begin);
  if (at == std::string::npos) return "";
  const size_t end = header.find('}', at);
  const std::string entry = header.substr(at, end + 1 - at);
  const size_t offsets = entry.find("\"data_offsets\":[") + 16;
  const uint64_t from = std::stoull(entry.substr(offsets)), to = std::stoull(entry.substr(entry.find(',', offsets) + 1));
  const auto tensor = [](const std::string& what, uint64_t first, uint64_t last) {
    return '"' + what + R"(":{"dtype":"U8","shape":[)" + std::to_string(last - first) + R"(],"data_offsets":[)" + std::to_string(first) + ',' +
           std::to_string(last) + "]}";
  };
  n = std::min(n, to - from);
  header.replace(at, entry.size(), n == 0 ? tensor(name, from, to) : tensor(name, from, to - n) + ',' + tensor("pad99", to - n, to));
  header.resize((header.size() + 63) / 64 * 64 + 56, ' ');
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i));
  std::string forged = length + header + bytes.substr(8 + n_header);
  Hash hash;
  hash.update(forged.data(), forged.size() - 16);
  const auto digest = hash.digest();
  for (size_t i = 0; i < 16; ++i) forged[forged.size() - 16 + i] = static_cast<char>(digest[i / 8] >> (8 * (i % 8)));
  return forged;
}

std::string code_text(const Ending& ending) { return ending.is_ok() ? "accepted" : std::string(code_name(*ending.code)) + ": " + ending.text; }

}  // namespace

TEST(saved_methods_round_trip) {
  Run run;
  const TempDir directory, scratch;
  const std::string path = directory.path("document.banyan");
  const Toy toy(spec_of(5000));
  for (const Method method : kMethods) {
    for (const DType pool : {DType::kF32, DType::kF16, DType::kQ8_0}) {
      for (const bool is_filed : {false, true}) {
        const std::string name = std::string(kMethodNames[static_cast<int>(method)]) + ", pool " + std::to_string(static_cast<int>(pool)) +
                                 (is_filed ? ", in a file" : "");
        const std::string place = is_filed ? scratch.path() : "";
        const auto model = load(toy, Layout::kBoth, pool, place), other = load(toy, Layout::kBoth, pool, is_filed ? "" : scratch.path());
        const auto document = model->create_document({10, method, {}});
        append(*document, text_of(47, 61, 1));
        complete(*document, true);
        const bool is_whole = method == Method::kFocus || method == Method::kParallel;
        run.equal(document->info().n_chunks_encoded, is_whole ? 5 : 0, name + ": whole chunks before saving");
        save(*document, path);
        const auto opened = open(*other, path);
        const DocumentInfo a = document->info(), b = opened->info();
        run.check(a.n_tokens == b.n_tokens && a.n_chunks == b.n_chunks && a.chunk_size == b.chunk_size && a.n_chunks_encoded == b.n_chunks_encoded &&
                      a.n_bytes == b.n_bytes,
            name + ": shape");
        const uint64_t n_before = other->multiply_adds();
        const Generated before = ask(*model, method, document), after = ask(*other, method, opened);
        run.equal(n_encoded(after), 0, name + ": nothing is computed again");
        run.check(before.ids == after.ids, name + ": the same answer");
        run.check(other->multiply_adds() > n_before, name + ": work is counted");

        // appended where it was opened: full chunks are as they were, the last is computed anew
        append(*opened, text_of(9, 61, 2));
        append(*document, text_of(9, 61, 2));
        run.check(ask(*other, method, opened, 2).ids == ask(*model, method, document, 2).ids, name + ": grown");
        save(*opened, path);
        const auto again = open(*load(toy, Layout::kBoth, pool), path);
        run.equal(again->info().n_tokens, int64_t{56}, name + ": saved again");
        save(*document, path);  // over the file that is mapped
        run.check(ask(*other, method, opened, 3).ids == ask(*model, method, document, 3).ids, name + ": after its file was replaced");
      }
    }
  }
}

// A document that two methods have read keeps both kinds of chunks.
TEST(saved_methods_both) {
  Run run;
  const TempDir directory;
  const std::string path = directory.path("document.banyan");
  const Toy toy(spec_of(5100));
  const auto model = load(toy, Layout::kBoth), other = load(toy, Layout::kBoth);
  const auto document = model->create_document({10, Method::kFull, {}});
  append(*document, text_of(47, 61, 1));
  std::vector<Ids> answers;
  for (const Method method : kMethods) answers.push_back(ask(*model, method, document).ids);
  save(*document, path);
  const auto opened = open(*other, path);
  run.check(opened->info().n_chunks_encoded == document->info().n_chunks_encoded && opened->info().n_bytes == document->info().n_bytes, "both kinds");
  for (size_t i = 0; i < answers.size(); ++i) {
    const Generated got = ask(*other, kMethods[i], opened);
    const std::string name = kMethodNames[static_cast<int>(kMethods[i])];
    run.check(got.ids == answers[i], name + ": the same answer");
    run.equal(n_encoded(got), 0, name + ": nothing is computed again");
  }
}

// Saved before its last chunk was computed, and before any was.
TEST(saved_methods_incomplete) {
  Run run;
  const TempDir directory;
  const std::string path = directory.path("document.banyan");
  const Toy toy(spec_of(5300));
  const auto model = load(toy, Layout::kBoth), other = load(toy, Layout::kBoth);
  for (const Method method : {Method::kFocus, Method::kParallel}) {
    for (const Method made : {method, Method::kFull}) {
      for (const int n_tokens : {0, 1, 10, 47}) {
        const std::string name = std::string(kMethodNames[static_cast<int>(method)]) + " of " + kMethodNames[static_cast<int>(made)] + ", " +
                                 std::to_string(n_tokens) + " tokens";
        const auto document = model->create_document({10, made, {}});
        append(*document, text_of(n_tokens, 61, 1));
        save(*document, path);
        const auto opened = open(*other, path);
        run.equal(opened->info().n_tokens, int64_t{n_tokens}, name + ": tokens");
        append(*opened, text_of(13, 61, 2));
        append(*document, text_of(13, 61, 2));
        run.check(ask(*other, method, opened).ids == ask(*model, method, document).ids, name + ": the same answer");
      }
    }
  }
}

// Of a model without adapters.
TEST(saved_methods_plain) {
  Run run;
  const TempDir directory;
  const std::string path = directory.path("document.banyan");
  const Toy toy(spec_of(5400));
  const auto model = load(toy, Layout::kPlain), other = load(toy, Layout::kPlain);
  for (const std::optional<Method> made : {std::optional<Method>(), std::optional(Method::kParallel), std::optional(Method::kFull)}) {
    const auto document = model->create_document({10, made, {}});
    append(*document, text_of(47, 61, 1));
    complete(*document, true);
    const bool is_whole = made == Method::kParallel;
    run.equal(document->info().n_chunks_encoded, is_whole ? 5 : 0, "chunks before saving");
    save(*document, path);
    const auto opened = open(*other, path);
    for (const Method method : {Method::kFull, Method::kStreaming, Method::kParallel}) {
      const Generated got = ask(*other, method, opened);
      run.check(got.ids == ask(*model, method, document).ids, "the same answer");
      run.equal(n_encoded(got), method == Method::kParallel && !is_whole ? 5 : 0, "chunks computed");
    }
  }
}

TEST(saved_methods_refused) {
  Run run;
  const TempDir directory;
  const std::string path = directory.path("document.banyan"), forged = directory.path("forged.banyan");
  const Toy toy(spec_of(5200));
  for (const Method method : {Method::kFocus, Method::kParallel}) {
    const std::string name = kMethodNames[static_cast<int>(method)];
    const auto model = load(toy, Layout::kBoth, DType::kF16);
    const auto document = model->create_document({10, method, {}});
    append(*document, text_of(47, 61, 1));
    complete(*document, true);
    save(*document, path);
    std::shared_ptr<Document> opened;
    for (const DType pool : {DType::kF32, DType::kQ8_0}) {
      const Ending ending = try_open(*load(toy, Layout::kBoth, pool), path, &opened);
      run.check(ending.code == Code::kModelMismatch && opened == nullptr, name + ": another type of pool: " + code_text(ending));
    }
    for (const Layout layout : {Layout::kFocus, Layout::kAdapter, Layout::kPlain}) {
      const Ending ending = try_open(*load(toy, layout, DType::kF16), path, &opened);
      run.check(ending.code == Code::kModelMismatch && opened == nullptr, name + ": other adapters: " + code_text(ending));
    }
    const std::string bytes = read_bytes(path), tensor = method == Method::kFocus ? "bare_kv" : "prefixed_kv";
    run.check(cut(bytes, method == Method::kFocus ? "prefixed_kv" : "bare_kv", 1).empty(), name + ": only its own kind is saved");
    for (const uint64_t n : {uint64_t{1}, uint64_t{64}, uint64_t{3 * 2 * 64 * 2}, uint64_t{1000}, uint64_t{1} << 40}) {
      const std::string changed = cut(bytes, tensor, n);
      if (!run.check(!changed.empty(), name + ": the file has " + tensor)) break;
      write_bytes(forged, changed);
      const Ending ending = try_open(*model, forged, &opened);
      run.check(ending.code == Code::kBadDocument && opened == nullptr, name + ": " + std::to_string(n) + " bytes less: " + code_text(ending));
    }
    write_bytes(forged, cut(bytes, tensor, 0));
    const Ending ending = try_open(*model, forged, &opened);
    if (run.check(ending.is_ok() && opened != nullptr, name + ": moved, but sound: " + code_text(ending)))
      run.check(ask(*model, method, opened).ids == ask(*model, method, document).ids, name + ": and read");
  }
}

}  // namespace banyan::test
