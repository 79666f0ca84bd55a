// reader: how a session of one method gets from its documents and local tokens to logits. One class a method; all on the engine thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "engine/cache.h"
#include "engine/document.h"
#include "engine/stopwatch.h"
#include "engine/upper.h"

namespace banyan {

using OnPhase = std::function<void(const char* phase, uint64_t done, uint64_t total)>;  // may be empty

// What one run asks.
struct Question {
  std::vector<std::shared_ptr<DocumentState>> documents;
  std::vector<int32_t> prompt;  // the local tokens it begins with
  int64_t query_index = -1;     // the one that asks; -1: the last
  int max_tokens = 0;           // of the answer: what room is made for
  bool is_traced = false;       // keep what trace() compares
  OnPhase on_phase;
};

class Reader {
 public:
  explicit Reader(Engine& engine) : e_(engine), upper_(engine) {}
  virtual ~Reader() = default;
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Most local tokens, this prompt and its answer, that fit beside these documents; may be negative. Throws kEmptyDocument where the method needs
  // chunks and the documents have none. Any thread.
  virtual int64_t room(const std::vector<std::shared_ptr<DocumentState>>& documents, size_t n_prompt) const = 0;

  // A new run; what earlier ones left is used again where it fits.
  virtual void begin(Question question);
  // One slice of what comes before the first local token; true when all of it is done. Throws as the parts do.
  virtual bool prepare(Stream& s) = 0;
  // One slice of reading the local tokens `ids` (the prompt and what was generated since); true when the wanted rows can become logits. `is_step`: these
  // tokens come one at a time. kAll reads everything in one slice.
  virtual bool read(Stream& s, std::span<const int32_t> ids, Pass::Read wanted, bool is_step) = 0;
  // The next step of a generation as a pass that can be one with other sessions', or nothing: then read() takes it. After that pass: joined().
  virtual std::optional<Pass> join(Stream&, std::span<const int32_t> /*ids*/) { return std::nullopt; }
  virtual void joined() {}
  // What a token sees depends on local tokens behind it too (FocusLLM's query holds all of them): generated ones must be read one by one.
  virtual bool reads_ahead() const { return false; }
  // The wanted logits [n, V]; n is 1 for kLast, else all rows the last slice read.
  std::vector<float> logits(Stream& s) {
    return wait([&] { return upper_.logits(s, n_logits_); });
  }
  // The token behind the one wanted row (kLast), or -1.
  int32_t sample(Stream& s, const SampleRequest& request) {
    return wait([&] { return upper_.sample(s, {&request, 1})[0]; });
  }
  // Forgets what was computed of local tokens.
  virtual void forget() = 0;
  // What a conformance run compares beyond logits, after `n_steps` reads of one run.
  virtual void trace(Stream&, Trace&, int /*n_steps*/) {}

  Upper& upper() { return upper_; }
  Retrieval retrieval;  // after prepare
  double select_ms = 0, encode_ms = 0;
  int n_cached = 0;  // of the prompt's tokens, how many needed no reading

 protected:
  void report(const char* phase, uint64_t done, uint64_t total) const {
    if (question_.on_phase && total > 0) question_.on_phase(phase, done, total);
  }
  // What waits for a pass. A device tells there that it failed in it: then what read() counted as computed is not.
  template <class Body> std::invoke_result_t<Body> wait(Body&& body) {
    try {
      return body();
    } catch (const Error& error) {
      if (error.code != Code::kAborted) forget();
      throw;
    }
  }
  // Every chunk as one opened node, in order (methods that read all of them).
  void open_all(int slots_per_chunk);

  Engine& e_;
  Upper upper_;
  Question question_;
  int n_logits_ = 1;
};

// A reader whose local tokens lie in one key/value cache, in the order in which they are read.
class CachedReader : public Reader {
 public:
  explicit CachedReader(Engine& engine) : Reader(engine), cache_(*engine.device, engine.upper, engine.kv_dtype) {}
  int64_t room(const std::vector<std::shared_ptr<DocumentState>>& documents, size_t n_prompt) const override;
  void begin(Question question) override;
  bool prepare(Stream&) override { return true; }
  bool read(Stream& s, std::span<const int32_t> ids, Pass::Read wanted, bool is_step) override;
  std::optional<Pass> join(Stream& s, std::span<const int32_t> ids) override;
  void joined() override;
  void forget() override { cached_.clear(); }

 protected:
  // What is read for this prompt; generated tokens come behind. Default: the prompt itself.
  virtual std::vector<int32_t> lead(const Question& question) const { return question.prompt; }
  // sequence_ = what was read for the prompt, then what was generated.
  void follow(std::span<const int32_t> ids) {
    sequence_.resize(n_lead_);
    for (const int32_t id : ids.subspan(n_prompt_)) sequence_.push_back(id);
  }
  // Tokens [n_past, n_past + n) of the sequence, whose predecessors are in the cache.
  virtual Pass make_pass(int n_past, int n, Pass::Read wanted, bool is_step);
  // A pass over these tokens as plain causal attention in the cache; readers add what is theirs.
  Pass local_pass(int n_past, int n, Pass::Read wanted) const;
  // What local tokens see besides each other is that of so many generated tokens.
  virtual bool is_current(size_t /*n_generated*/) const { return true; }
  // Makes it so; false: a slice was spent and more are needed. May forget().
  virtual bool advance(Stream&, size_t /*n_generated*/) { return true; }
  int make_room(Stream& s);
  // At the first slice that reads: n_past tokens of the sequence were there.
  void count_cached(int n_past);

  Cache cache_;
  std::vector<int32_t> sequence_;  // all tokens of the run that are or will be read
  std::vector<int32_t> cached_;    // whose keys and values the cache holds
  size_t n_lead_ = 0, n_prompt_ = 0;
  size_t n_found_ = 0;  // of the sequence, when the run began

 private:
  bool has_counted_ = false;
};

// The model's begin-of-text token, then the prompt; only the prompt if it begins with that token or the model has none.
std::vector<int32_t> with_bos(const ModelConfig& model, std::span<const int32_t> prompt);

// The reader of a method. Throws kInvalidArgument for options out of range, kAdapterMismatch where its adapter is missing.
std::unique_ptr<Reader> make_reader(Engine& engine, const MethodOptions& options);

// Throws kEmptyDocument if there are documents but none has a token.
void need_chunks(const std::vector<std::shared_ptr<DocumentState>>& documents, const char* method);

}  // namespace banyan
