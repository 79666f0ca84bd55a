// Saved documents: whole round trips, and no damaged, foreign or half-written file is ever accepted.
#include <filesystem>

#include "base/hash.h"
#include "drive.h"
#include "run.h"
#include "toy.h"

#ifndef _WIN32
#include <csignal>
#include <sys/resource.h>
#include <unistd.h>
#endif

namespace banyan::test {

namespace {

constexpr int kVocab = 61;

ToySpec spec_of(uint64_t seed, Semantics semantics = Semantics::kPaper) {
  ToySpec spec;
  spec.vocab = kVocab;
  spec.semantics = semantics;
  spec.seed = seed;
  return spec;
}

std::shared_ptr<Document> document_of(Model& model, int n_tokens, uint32_t seed = 1) {
  const auto document = model.create_document({});
  append(*document, text_of(n_tokens, kVocab, seed));
  return document;
}

Ids ask(Model& model, const std::shared_ptr<Document>& document, uint32_t question, int* n_encoded = nullptr) {
  const auto session = model.create_session();
  session->set_documents({document});
  const Generated got = answer(*session, text_of(10, kVocab, 70 + question), 6);
  if (n_encoded != nullptr) *n_encoded = got.retrievals.at(0).n_nodes_encoded;
  return got.ids;
}

std::string code_text(const Ending& ending) { return ending.is_ok() ? "accepted" : std::string(code_name(*ending.code)) + ": " + ending.text; }

bool is_refused(const Ending& ending, const std::shared_ptr<Document>& document) {
  return document == nullptr && (ending.code == Code::kBadDocument || ending.code == Code::kModelMismatch);
}

// The checksum made to fit, as a forger would.
void forge_checksum(std::string& bytes) {
  Hash hash;
  hash.update(bytes.data(), bytes.size() - 16);
  const auto digest = hash.digest();
  for (size_t i = 0; i < 16; ++i) bytes[bytes.size() - 16 + i] = static_cast<char>(digest[i / 8] >> (8 * (i % 8)));
}

size_t header_end(const std::string& bytes) {
  size_t n = 0;
  for (size_t i = 0; i < 8; ++i) n |= static_cast<size_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  return 8 + n;
}

#ifndef _WIN32
// Writes beyond `n_bytes` fail, as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(size_t n_bytes) {
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old_);
    rlimit limit = old_;
    limit.rlim_cur = n_bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  void (*old_handler_)(int) = nullptr;
};
#endif

}  // namespace

TEST(saved_round_trip) {
  Run run;
  const TempDir directory;
  const std::string path = directory.path("document.banyan");
  for (const DType kv_dtype : {DType::kF32, DType::kF16, DType::kQ8_0}) {
    std::vector<ToySpec> specs = {
        spec_of(31, Semantics::kReleased), spec_of(31, Semantics::kCorrected), spec_of(31, Semantics::kPaper), spec_of(31, Semantics::kPaper)};
    specs.back().selection = SelectionRule::kTokenKeys;
    specs.back().selection_layer = 1;
    specs.back().slot_kind = SlotKind::kMean;
    for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
      specs.push_back(spec_of(31, Semantics::kNested));
      specs.back().slot_kind = slot_kind;
      specs.back().positions = slot_kind == SlotKind::kMean ? Positions::kBanded : Positions::kSum;
    }
    specs.back().selection = SelectionRule::kTokenKeys;
    for (ToySpec spec : specs) {
      if (kv_dtype == DType::kQ8_0) spec.upper.head_dim = 32;
      for (const int n_tokens : {0, 1, 15, 16, 77, 160}) {
        for (const int state : {0, 1, 2}) {  // nothing encoded, one question's nodes, everything
          const Toy toy(spec);
          const auto model = load_toy(toy, Layout::kAdapter, kv_dtype), other = load_toy(toy, Layout::kAdapter, kv_dtype);
          const std::string what = std::to_string(n_tokens) + " tokens, state " + std::to_string(state) +
                                   (kv_dtype == DType::kF16       ? ", f16"
                                       : kv_dtype == DType::kQ8_0 ? ", q8"
                                                                  : ", f32");
          const auto document = document_of(*model, n_tokens);
          if (state == 1 && n_tokens > 0) ask(*model, document, 0);
          if (state == 2) complete(*document, true);
          save(*document, path, {{"title", "A \"title\" with \\ and \n"}, {"tokenizer", "abc"}});
          run.equal(directory.names().size(), size_t{1}, what + ": one file");
          const auto opened = open(*other, path);
          const DocumentInfo a = document->info(), b = opened->info();
          run.check(a.n_tokens == b.n_tokens && a.n_chunks == b.n_chunks && a.n_nodes == b.n_nodes && a.n_nodes_encoded == b.n_nodes_encoded &&
                        a.n_slots == b.n_slots && a.chunk_size == b.chunk_size && a.depth == b.depth && a.n_bytes == b.n_bytes,
              what + ": shape");
          run.check(opened->tokens(0, 1000) == document->tokens(0, 1000), what + ": tokens");
          run.check(opened->attribute("title") == "A \"title\" with \\ and \n" && opened->attribute("tokenizer") == "abc" &&
                        opened->attribute("none").empty(),
              what + ": attributes");
          if (n_tokens == 0) continue;
          int n_encoded = -1;
          run.check(ask(*other, opened, 0, &n_encoded) == ask(*model, document, 0), what + ": the same answer");
          if (state > 0) run.equal(n_encoded, 0, what + ": nothing encoded again");
          run.check(ask(*other, opened, 1) == ask(*model, document, 1), what + ": another question");
          // grown, then saved over the file it is mapped from
          append(*opened, text_of(21, kVocab, 9));
          append(*document, text_of(21, kVocab, 9));
          save(*opened, path);
          run.check(ask(*other, opened, 2) == ask(*model, document, 2), what + ": grown");
          const auto again = open(*other, path);
          run.check(ask(*other, again, 2) == ask(*model, document, 2), what + ": grown, saved and opened");
          run.check(again->attribute("tokenizer") == "abc", what + ": attributes are kept");
        }
      }
    }
  }
}

TEST(saved_other_model) {
  Run run;
  const TempDir directory;
  const std::string path = directory.path("document.banyan");
  const auto model = load_toy(Toy(spec_of(32)));
  const auto document = document_of(*model, 60);
  complete(*document, true);
  save(*document, path);
  const auto refused = [&](const std::shared_ptr<Model>& other, const char* what) {
    std::shared_ptr<Document> opened;
    const Ending ending = try_open(*other, path, &opened);
    run.check(ending.code == Code::kModelMismatch && opened == nullptr, std::string(what) + ": " + code_text(ending));
  };
  refused(load_toy(Toy(spec_of(33))), "other weights");
  refused(load_toy(Toy(spec_of(32)), Layout::kAdapter, DType::kF16), "other type of slots");
  ToySpec spec = spec_of(32);
  spec.depth = 2;
  refused(load_toy(Toy(spec)), "another depth");
  spec = spec_of(32);
  spec.last_p = "3";
  refused(load_toy(Toy(spec)), "another last_p");
  spec = spec_of(32);
  spec.slot_kind = SlotKind::kMean;
  refused(load_toy(Toy(spec)), "another kind of slots");
  refused(load_toy(Toy(spec_of(32, Semantics::kCorrected))), "other semantics");
  spec = spec_of(32);
  spec.n_injected = 3;
  refused(load_toy(Toy(spec)), "another number of layers");
  spec = spec_of(32);
  spec.selection = SelectionRule::kTokenKeys;
  refused(load_toy(Toy(spec)), "another rule of selection");
  refused(load_toy(Toy(spec_of(32, Semantics::kNested))), "nested semantics");
  spec = spec_of(32);
  spec.lora_rank = 2;
  refused(load_toy(Toy(spec)), "another lower model");

  spec = spec_of(32, Semantics::kNested);
  spec.slot_budget = 9;  // no matter of the document
  const auto nested = load_toy(Toy(spec));
  const auto whole = document_of(*nested, 60);
  save(*whole, path);
  spec.slot_budget = 0;
  run.equal(open(*load_toy(Toy(spec)), path)->info().n_tokens, int64_t{60}, "another budget");
  spec.positions = Positions::kBanded;
  refused(load_toy(Toy(spec)), "other positions");

  // another chunk size is the document's own affair
  const auto wide = model->create_document({32, {}});
  append(*wide, text_of(60, kVocab, 1));
  save(*wide, path);
  const auto opened = open(*load_toy(Toy(spec_of(32))), path);
  run.equal(opened->info().chunk_size, 32, "chunk size");

  std::shared_ptr<Document> none;
  run.check(try_open(*model, directory.path("nothing"), &none).code == Code::kFileNotFound, "no such file");
  write_bytes(path, "");
  run.check(is_refused(try_open(*model, path, &none), none), "an empty file");
  const LoadPaths paths = write_toy(Toy(spec_of(32)), directory.path("m"), Layout::kAdapter);
  run.check(is_refused(try_open(*model, paths.adapters[0] + "/adapter.safetensors", &none), none), "a file of another kind");
  const Ending ending = try_open(*model, directory.path(), &none);
  run.check(!ending.is_ok() && none == nullptr, "a directory: " + code_text(ending));
}

TEST(saved_damage) {
  Run run;
  const TempDir directory;
  const std::string path = directory.path("good"), bad = directory.path("bad");
  for (const auto& [semantics, kv_dtype] :
      {std::pair{Semantics::kPaper, DType::kF16}, {Semantics::kReleased, DType::kF32}, {Semantics::kNested, DType::kF32}}) {
    const auto model = load_toy(Toy(spec_of(34, semantics)), Layout::kAdapter, kv_dtype);
    const auto document = document_of(*model, 60);
    complete(*document, true);
    save(*document, path, {{"title", "t"}});
    const std::string bytes = read_bytes(path);
    const size_t n_header = header_end(bytes);
    std::shared_ptr<Document> opened;
    const auto refuse = [&](const std::string& changed, const std::string& what) {
      write_bytes(bad, changed);
      const Ending ending = try_open(*model, bad, &opened);
      run.check(is_refused(ending, opened), what + ": " + code_text(ending));
    };
    // every length of the header, then samples
    for (size_t n = 0; n < bytes.size(); n += n < n_header + 64 || n + 64 > bytes.size() ? 1 : 97)
      refuse(bytes.substr(0, n), "cut to " + std::to_string(n) + " bytes");
    refuse(bytes + '\0', "a byte too long");
    refuse(bytes + bytes, "twice itself");
    // every bit of the header, then samples; sanitizers look at fewer
    const size_t stride = kIsSanitized ? 37 : 1;
    for (size_t bit = 0; bit < 8 * bytes.size(); bit += bit < 8 * n_header ? stride : 211 * stride) {
      std::string changed = bytes;
      changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
      refuse(changed, "bit " + std::to_string(bit % 8) + " of byte " + std::to_string(bit / 8) + " flipped");
    }
    for (size_t at = n_header; at + 16 < bytes.size(); at += 1009) {
      std::string changed = bytes;
      changed.erase(at, 1);
      refuse(changed, "byte " + std::to_string(at) + " missing");
      changed.insert(bytes.size() / 2, 1, 'x');
      refuse(changed, "bytes moved");
    }
    write_bytes(bad, bytes);
    run.check(try_open(*model, bad, &opened).is_ok() && opened != nullptr, "the undamaged file is accepted");
  }
}

// Lies with a fitting checksum: refused as damaged or foreign, or sound enough to be asked.
namespace {

void check_lies(Run& run, Semantics semantics) {
  const TempDir directory;
  const std::string path = directory.path("good"), bad = directory.path("bad");
  const auto model = load_toy(Toy(spec_of(35, semantics)), Layout::kAdapter, DType::kF16);
  const auto document = document_of(*model, 60);
  complete(*document, true);
  save(*document, path);
  const std::string bytes = read_bytes(path);
  const size_t n_header = header_end(bytes);
  std::shared_ptr<Document> opened;
  int n_accepted = 0, n_refused = 0;
  const auto judge = [&](std::string changed, const std::string& what) {
    forge_checksum(changed);
    write_bytes(bad, changed);
    const Ending ending = try_open(*model, bad, &opened);
    if (ending.is_ok() && opened != nullptr) {
      ++n_accepted;
      try {
        if (opened->info().n_tokens > 0) ask(*model, opened, 3);
      } catch (const Error& error) {
        run.check(error.code == Code::kInternal, what + ": accepted, then " + error.what());  // e.g. not-a-number in its slots
      }
    } else {
      ++n_refused;
      run.check(is_refused(ending, opened), what + ": " + code_text(ending));
    }
  };
  uint64_t state = 99;
  const auto random = [&](size_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>(state >> 33) % n;
  };
  const int n_lies = kIsSanitized ? 600 : 3000;
  for (int i = 0; i < n_lies; ++i) {
    std::string changed = bytes;
    // a third in the header's text, a third in the tail with tokens and nodes, a third anywhere
    const size_t at = i % 3 == 0 ? 8 + random(n_header - 8) : i % 3 == 1 ? bytes.size() - 17 - random(1200) : 8 + random(bytes.size() - 24);
    if (i % 3 == 0) changed[at] = "0123456789"[random(10)];
    else changed[at] = static_cast<char>(random(256));
    judge(changed, "byte " + std::to_string(at) + " became " + std::to_string(static_cast<unsigned char>(changed[at])));
  }
  for (const char* size : {"\"0\"", "\"-4\"", "\"17\"", "\"2147483647\"", "\"2147483648\"", "\"99999999999999999999\"", "\"1 6\"", "\"\""}) {
    std::string changed = bytes;
    const std::string from = "\"chunk_size\":\"16\"", to = std::string("\"chunk_size\":") + size;
    const size_t at = changed.find(from);
    if (!run.check(at != std::string::npos, "the header holds chunk_size")) break;
    changed.replace(at, from.size(), to);
    if (to.size() > from.size()) changed.erase(n_header, to.size() - from.size());
    else changed.insert(n_header - (from.size() - to.size()), from.size() - to.size(), ' ');
    if (changed.size() != bytes.size()) continue;
    judge(changed, std::string("chunk size ") + size);
  }
  judge(bytes, "unchanged");
  // all tensors one byte off: readers of the mapping may not count on alignment, or the file is refused
  std::string shifted = bytes;
  shifted.insert(n_header, 1, ' ');
  const size_t length = n_header - 8 + 1;
  for (size_t i = 0; i < 8; ++i) shifted[i] = static_cast<char>(length >> (8 * i));
  judge(shifted, "every tensor one byte off");
  run.check(n_refused > n_lies / 4, "most lies are found: " + std::to_string(n_refused) + " of " + std::to_string(n_refused + n_accepted));
}

}  // namespace

TEST(saved_lies) {
  Run run;
  for (const Semantics semantics : {Semantics::kReleased, Semantics::kNested}) check_lies(run, semantics);
}

TEST(saved_failures) {
  Run run;
  const TempDir directory;
  const std::string path = directory.path("document.banyan");
  const auto model = load_toy(Toy(spec_of(36)));
  const auto document = document_of(*model, 2000);
  complete(*document, true);
  save(*document, path, {{"title", "old"}});
  const std::string bytes = read_bytes(path);
  const auto is_intact = [&](const std::string& what) {
    run.equal(directory.names(), std::vector<std::string>{"document.banyan"}, what + ": no other file is left");
    run.check(read_bytes(path) == bytes, what + ": the old file is as it was");
  };
  const auto unchanged = try_save(*document, directory.path("no/such/directory/document"));
  run.check(unchanged.code == Code::kFileNotFound, "a directory that is not there: " + code_text(unchanged));
  const Ending beneath = try_save(*document, path + "/document");
  run.check(beneath.code == Code::kIo || beneath.code == Code::kFileNotFound, "beneath a file: " + code_text(beneath));
  is_intact("refused paths");

  std::filesystem::create_directories(directory.path("taken/full"));
  const Ending taken = try_save(*document, directory.path("taken"));
  run.check(taken.code == Code::kIo, "a directory in its place: " + code_text(taken));
  std::filesystem::remove_all(directory.path("taken"));
  is_intact("a directory in its place");

#ifndef _WIN32
  for (const size_t n_bytes : {size_t{0}, size_t{100}, size_t{4096}, bytes.size() / 2, bytes.size() - 1}) {
    Ending full;
    {
      const FileSizeLimit limit(n_bytes);
      full = try_save(*document, path, {{"title", "new"}});
    }
    run.check(full.code == Code::kIo, "no room beyond " + std::to_string(n_bytes) + " bytes: " + code_text(full));
    is_intact("no room");
  }
  if (geteuid() == 0) {
    std::printf("  saved_failures: a read-only directory was not tried: this user may write everywhere\n");
  } else {
    std::filesystem::permissions(directory.path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
    const Ending locked = try_save(*document, path);
    std::filesystem::permissions(directory.path(), std::filesystem::perms::owner_all);
    run.check(locked.code == Code::kIo, "a read-only directory: " + code_text(locked));
    is_intact("a read-only directory");
  }
  if (std::filesystem::exists("/dev/full")) {
    // the file appears by renaming, so the device itself is never written
    const Ending device = try_save(*document, "/dev/full/document");
    run.check(!device.is_ok(), "beneath a device");
  }
#endif

  // aborted before and in the middle
  for (const bool is_late : {false, true}) {
    Begun begun;
    if (!is_late) *begun.cancel = true;
    document->begin_save(path, {{"title", "new"}}, begun.hooks([cancel = begun.cancel](uint64_t, uint64_t) { *cancel = true; }));
    const Ending aborted = begun.wait();
    if (aborted.is_ok()) run.check(is_late, "an early abort is never missed");  // the last slice may have been the first one reported
    else run.check(aborted.code == Code::kAborted, "aborted: " + code_text(aborted));
    try_append(*document, {});  // after the job's own clean-up
    if (!aborted.is_ok()) is_intact("aborted");
  }
  // an aborted opening delivers nothing
  save(*document, path);
  Begun begun;
  *begun.cancel = true;
  std::atomic<int> n_delivered = 0;
  model->begin_open(path, begun.hooks(), [&](std::shared_ptr<Document>) { ++n_delivered; });
  run.check(begun.wait().code == Code::kAborted && n_delivered == 0, "an aborted opening");
}

}  // namespace banyan::test
