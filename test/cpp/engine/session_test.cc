// Sessions: caches and shared documents never change an answer.
#include "drive.h"
#include "run.h"
#include "toy.h"

namespace banyan::test {

namespace {

constexpr int kVocab = 61;

ToySpec spec_of(Semantics semantics, uint64_t seed = 21, SlotKind slot_kind = SlotKind::kStrided) {
  ToySpec spec;
  spec.semantics = semantics;
  spec.slot_kind = slot_kind;
  spec.vocab = kVocab;
  spec.seed = seed;
  return spec;
}

std::shared_ptr<Document> document_of(Model& model, const Ids& ids) {
  const auto document = model.create_document({});
  append(*document, ids);
  return document;
}

Ids fresh_answer(Model& model, const std::vector<std::shared_ptr<Document>>& documents, const Ids& ids, int n) {
  const auto session = model.create_session();
  session->set_documents(documents);
  return answer(*session, ids, n).ids;
}

Ids joined(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

constexpr Semantics kCached[] = {Semantics::kCorrected, Semantics::kPaper, Semantics::kNested};

}  // namespace

TEST(session_prefix_cache) {
  Run run;
  for (const DType kv_dtype : {DType::kF32, DType::kF16}) {
    for (const Semantics semantics : kCached) {
      const auto model = load_toy(Toy(spec_of(semantics)), Layout::kAdapter, kv_dtype);
      const auto document = document_of(*model, text_of(75, kVocab, 1));
      for (const bool has_document : {false, true}) {
        std::vector<std::shared_ptr<Document>> documents;
        if (has_document) documents.push_back(document);
        const auto session = model->create_session();
        session->set_documents(documents);
        Ids history = text_of(20, kVocab, 2);
        for (uint32_t turn = 0; turn < 6; ++turn) {
          const Generated got = answer(*session, history, 5);
          run.check(got.ids == fresh_answer(*model, documents, history, 5), "turn " + std::to_string(turn) + ": the cache changes nothing");
          run.equal(got.result.n_prompt, static_cast<int>(history.size()), "prompt tokens");
          if (!has_document && turn > 0)
            run.equal(got.result.n_cached, static_cast<int>(history.size()) - 7, "all but the last answer token and the new turn were cached");
          // the very same prompt: everything but its last token
          const Generated again = answer(*session, history, 5);
          run.check(again.ids == got.ids, "asked again");
          run.equal(again.result.n_cached, static_cast<int>(history.size()) - 1, "a repeated prompt is cached");
          history = joined(joined(history, got.ids), text_of(6, kVocab, 50 + turn));
        }
        // a shorter prompt, and one that parts early
        const Ids part(history.begin(), history.begin() + 9);
        run.check(answer(*session, part, 5).ids == fresh_answer(*model, documents, part, 5), "a shorter prompt");
        Ids parting = history;
        parting[4] = (parting[4] + 1) % kVocab;
        run.check(answer(*session, parting, 5).ids == fresh_answer(*model, documents, parting, 5), "a prompt that parts early");
      }
    }
  }
}

TEST(session_long_prompt) {
  Run run;
  const auto model = load_toy(Toy(spec_of(Semantics::kPaper)));
  const auto document = document_of(*model, text_of(75, kVocab, 1));
  const Ids prompt = text_of(700, kVocab, 3);  // several pieces of prefill
  for (const bool has_document : {false, true}) {
    const auto session = model->create_session(), other = model->create_session();
    if (has_document) session->set_documents({document}), other->set_documents({document});
    TraceRequest request;
    request.ids = prompt;
    request.max_new_tokens = 6;
    const Trace whole = trace(*other, request);
    run.check(answer(*session, prompt, 6).ids == whole.greedy, "prefill in pieces and at once");
  }
}

TEST(session_documents) {
  Run run;
  for (const Semantics semantics : {Semantics::kReleased, Semantics::kCorrected, Semantics::kPaper, Semantics::kNested}) {
    for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
      ToySpec spec = spec_of(semantics, 22, slot_kind);
      if (semantics == Semantics::kCorrected) spec.selection = SelectionRule::kTokenKeys;
      const Toy toy(spec);
      const auto model = load_toy(toy), pristine = load_toy(toy);
      const Ids texts[] = {text_of(45, kVocab, 1), text_of(16, kVocab, 2), text_of(5, kVocab, 3)};
      const std::shared_ptr<Document> a = document_of(*model, texts[0]), b = document_of(*model, texts[1]), c = document_of(*model, texts[2]);
      const auto index = [&](const std::shared_ptr<Document>& d) { return d == a ? 0 : d == b ? 1 : 2; };
      const auto session = model->create_session();
      const std::vector<std::vector<std::shared_ptr<Document>>> stages = {{a}, {a, b}, {a, b, c}, {c, b, a}, {b, a}, {b}, {}, {a, a}, {c}, {a, b, c}};
      const Ids prompt = text_of(12, kVocab, 4);
      for (size_t stage = 0; stage < stages.size(); ++stage) {
        session->set_documents(stages[stage]);
        const Ids got = answer(*session, prompt, 6).ids;
        std::vector<std::shared_ptr<Document>> fresh;  // never encoded, on another model
        for (const auto& d : stages[stage]) fresh.push_back(document_of(*pristine, texts[index(d)]));
        run.check(got == fresh_answer(*model, stages[stage], prompt, 6), "stage " + std::to_string(stage) + ": as a fresh session");
        run.check(got == fresh_answer(*pristine, fresh, prompt, 6), "stage " + std::to_string(stage) + ": as fresh documents");
      }
      // a document that grows under a session
      Ids text = texts[2];
      session->set_documents({c});
      for (uint32_t i = 0; i < 5; ++i) {
        const Ids more = text_of(9, kVocab, 60 + i);
        append(*c, more);
        text = joined(text, more);
        run.check(answer(*session, prompt, 6).ids == fresh_answer(*pristine, {document_of(*pristine, text)}, prompt, 6), "a document that grew");
        run.check(c->tokens(0, 1000) == text, "its tokens");
      }
    }
  }
}

// A run that was aborted at any point leaves nothing behind that a later run could take for its own.
TEST(session_after_abort) {
  Run run;
  for (const Semantics semantics : {Semantics::kPaper, Semantics::kNested}) {
    const Toy toy(spec_of(semantics, 27, SlotKind::kMean));
    const auto model = load_toy(toy), pristine = load_toy(toy);
    const Ids texts[] = {text_of(600, kVocab, 1), text_of(700, kVocab, 2)}, prompt = text_of(12, kVocab, 4);
    for (int k = 0; k < 12; ++k) {
      const std::shared_ptr<Document> a = document_of(*model, texts[0]), b = document_of(*model, texts[1]);
      const auto session = model->create_session();
      session->set_documents({a});
      answer(*session, prompt, 4);
      session->set_documents({a, b});
      GenerateRequest request;
      request.ids = prompt;
      request.max_tokens = 4;
      BegunGenerate begun;
      GenerateHooks hooks = begun.generate_hooks([&, n = 0](int32_t) mutable {
        if (k == 8 + n++) *begun.cancel = true;
      });
      hooks.on_progress = [&, n = 0](const char*, uint64_t, uint64_t) mutable {
        if (n++ == k) *begun.cancel = true;
      };
      session->begin_generate(std::move(request), std::move(hooks));
      begun.finish();
      const std::string when = "aborted at " + std::to_string(k);
      session->set_documents({});
      run.check(answer(*session, prompt, 6).ids == fresh_answer(*pristine, {}, prompt, 6), when + ", then without documents");
      session->set_documents({a, b});
      const std::vector<std::shared_ptr<Document>> fresh{document_of(*pristine, texts[0]), document_of(*pristine, texts[1])};
      run.check(answer(*session, prompt, 6).ids == fresh_answer(*pristine, fresh, prompt, 6), when + ", then with them");
    }
  }
}

TEST(session_append_in_pieces) {
  Run run;
  for (const Semantics semantics : {Semantics::kReleased, Semantics::kPaper, Semantics::kNested}) {
    const auto model = load_toy(Toy(spec_of(semantics, 23)));
    const Ids text = text_of(1500, kVocab, 1), prompt = text_of(12, kVocab, 4);
    const auto whole = document_of(*model, text);
    const Ids expected = fresh_answer(*model, {whole}, prompt, 6);
    for (const int piece : {1, 7, 16, 1000}) {
      const auto document = model->create_document({});
      for (size_t at = 0; at < text.size(); at += static_cast<size_t>(piece)) {
        append(*document, Ids(text.begin() + static_cast<std::ptrdiff_t>(at),
                              text.begin() + static_cast<std::ptrdiff_t>(std::min(text.size(), at + static_cast<size_t>(piece)))));
      }
      append(*document, {});
      const DocumentInfo info = document->info(), same = whole->info();
      run.check(
          info.n_tokens == 1500 && info.n_chunks == same.n_chunks && info.n_nodes == same.n_nodes, "pieces of " + std::to_string(piece) + ": shape");
      run.check(document->tokens(0, 1500) == text, "pieces of " + std::to_string(piece) + ": tokens");
      run.check(fresh_answer(*model, {document}, prompt, 6) == expected, "pieces of " + std::to_string(piece) + ": answer");
    }
    run.check(whole->tokens(-5, 3) == Ids(text.begin(), text.begin() + 3) && whole->tokens(1498, 9999) == Ids(text.end() - 2, text.end()) &&
                  whole->tokens(9, 4).empty(),
        "tokens() clamps");
  }
}

TEST(session_interleaved) {
  Run run;
  for (const Semantics semantics : {Semantics::kReleased, Semantics::kPaper, Semantics::kNested}) {
    const auto model = load_toy(Toy(spec_of(semantics, 24)));
    const auto a = document_of(*model, text_of(50, kVocab, 1)), b = document_of(*model, text_of(70, kVocab, 2));
    constexpr int kSessions = 5;
    std::vector<Ids> prompts, expected;
    std::vector<std::vector<std::shared_ptr<Document>>> sets = {{a}, {b}, {a, b}, {}, {b, a}};
    for (uint32_t i = 0; i < kSessions; ++i) {
      prompts.push_back(text_of(300 + static_cast<int>(i), kVocab, 10 + i));
      const auto alone = load_toy(Toy(spec_of(semantics, 24)));
      std::vector<std::shared_ptr<Document>> copies;
      for (const auto& d : sets[i]) copies.push_back(document_of(*alone, d->tokens(0, 1000)));
      expected.push_back(fresh_answer(*alone, copies, prompts[i], 12));
    }
    std::vector<std::shared_ptr<Session>> sessions;
    std::vector<BegunGenerate> begun(kSessions);
    for (size_t i = 0; i < kSessions; ++i) {
      sessions.push_back(model->create_session());
      sessions[i]->set_documents(sets[i]);
      GenerateRequest request;
      request.ids = prompts[i];
      request.max_tokens = 12;
      sessions[i]->begin_generate(request, begun[i].generate_hooks());
    }
    for (size_t i = 0; i < kSessions; ++i)
      run.check(begun[i].finish().ids == expected[i], "session " + std::to_string(i) + " among others, as alone");
  }
}

TEST(session_eager_equals_lazy) {
  Run run;
  for (const Semantics semantics : {Semantics::kReleased, Semantics::kCorrected, Semantics::kPaper, Semantics::kNested}) {
    for (const SlotKind slot_kind : {SlotKind::kStrided, SlotKind::kMean}) {
      for (int m = 1; m <= 4; ++m) {
        ToySpec spec = spec_of(semantics, 25, slot_kind);
        spec.n_injected = m;
        const auto model = load_toy(Toy(spec));
        const Ids text = text_of(59, kVocab, 1);
        const auto lazy = document_of(*model, text), eager = document_of(*model, text);
        complete(*eager, true);
        const DocumentInfo info = eager->info();
        run.equal(info.n_nodes_encoded, info.n_nodes, "all nodes are encoded");
        complete(*eager, true);  // nothing is left
        TraceRequest request;
        request.max_new_tokens = 5;
        for (uint32_t q = 0; q < 3; ++q) {
          request.ids = text_of(10, kVocab, 30 + q);
          const auto one = model->create_session(), two = model->create_session();
          one->set_documents({lazy});
          two->set_documents({eager});
          const Trace a = trace(*one, request), b = trace(*two, request);
          run.check(a.greedy == b.greedy && a.slot_positions == b.slot_positions, "eager and lazy: the same answer");
          run.near(b.keys, {a.keys.begin(), a.keys.end()}, {a.keys.begin(), a.keys.end()}, 1e-5, "eager and lazy: keys");
        }
      }
    }
  }
}

TEST(session_requests) {
  Run run;
  const auto model = load_toy(Toy(spec_of(Semantics::kPaper, 26)));
  const auto stranger = load_toy(Toy(spec_of(Semantics::kPaper, 27)));
  const auto session = model->create_session();
  const auto document = document_of(*model, text_of(40, kVocab, 1));
  run.throws(
      Code::kInvalidArgument,
      [&] {
        session->set_documents({document_of(*stranger, {1, 2})});
      },
      "a document of another model");
  run.throws(
      Code::kInvalidArgument, [&] { session->set_documents({nullptr}); }, "no document");
  const auto refused = [&](GenerateRequest request, const char* what) {
    run.throws(
        Code::kInvalidArgument, [&] { session->begin_generate(std::move(request), {}); }, what);
  };
  GenerateRequest request;
  refused(request, "no tokens");
  request.ids = {1, kVocab};
  refused(request, "an id beyond the vocabulary");
  request.ids = {1, -1};
  refused(request, "a negative id");
  request.ids = {1, 2};
  request.query_index = 2;
  refused(request, "a query index beyond the tokens");
  request.query_index = -2;
  refused(request, "a negative query index");
  request.query_index = -1;
  request.max_tokens = -1;
  refused(request, "negative max_tokens");
  request.max_tokens = 1;
  request.sampler.logit_bias = {{kVocab, 1.0f}};
  refused(request, "a bias beyond the vocabulary");
  run.throws(
      Code::kInvalidArgument,
      [&] {
        document->begin_append({0, kVocab}, {});
      },
      "a token beyond the vocabulary");
  run.throws(
      Code::kInvalidArgument,
      [&] {
        model->create_document({-1, {}});
      },
      "a negative chunk size");

  request = {};
  request.ids = text_of(10, kVocab, 2);
  Generated none = generate(*session, request);
  run.check(none.ending.is_ok() && none.ids.empty() && none.result.finish == FinishReason::kLength && none.retrievals.empty(),
      "max_tokens 0; no documents, no retrieval");
  session->set_documents({document});
  request.max_tokens = 8;
  const Generated eight = generate(*session, request);
  run.check(eight.ids.size() == 8 && eight.result.n_generated == 8 && eight.result.finish == FinishReason::kLength, "length");
  run.equal(eight.retrievals.size(), size_t{1}, "one retrieval");
  run.check(eight.phases.size() >= 2 && eight.phases.back() == "prefill", "phases");
  request.stop_ids = {eight.ids[3]};
  const size_t first = static_cast<size_t>(std::find(eight.ids.begin(), eight.ids.end(), eight.ids[3]) - eight.ids.begin());
  const Generated stopped = generate(*session, request);
  run.check(stopped.result.finish == FinishReason::kStop && stopped.result.stop_id == eight.ids[3] &&
                stopped.ids == Ids(eight.ids.begin(), eight.ids.begin() + static_cast<std::ptrdiff_t>(first)),
      "stop id");
  request.stop_ids = {};

  // one run at a time
  BegunGenerate long_run, second;
  request.max_tokens = 200;
  session->begin_generate(request, long_run.generate_hooks([&, n = 0](int32_t) mutable {  // while the first certainly still runs
    if (++n == 1) session->begin_generate(request, second.generate_hooks());
  }));
  run.equal(long_run.finish().ids.size(), size_t{200}, "the first run goes on");
  run.check(second.finish().ending.code == Code::kInvalidArgument, "a second run of the same session is refused");

  // aborted in its middle, then as if nothing had been
  const Ids expected = fresh_answer(*model, {document}, request.ids, 20);
  for (const int after : {0, 1, 5}) {
    BegunGenerate aborted;
    int n = 0;
    if (after == 0) *aborted.cancel = true;
    session->begin_generate(request, aborted.generate_hooks([&n, after, cancel = aborted.cancel](int32_t) {
      if (++n == after) *cancel = true;
    }));
    const Generated cut = aborted.finish();
    run.check(cut.ending.code == Code::kAborted, "aborted");
    run.equal(cut.ids.size(), static_cast<size_t>(after), "no token after the abort");
    run.check(answer(*session, request.ids, 20).ids == expected, "after an abort");
  }

  // sampled: the same seed, the same text, whatever was cached
  request.max_tokens = 30;
  request.sampler.temperature = 1;
  request.sampler.seed = 5;
  const Ids sampled = generate(*session, request).ids;
  run.check(sampled == generate(*session, request).ids, "the same seed");
  const auto fresh = model->create_session();
  fresh->set_documents({document});
  run.check(sampled == generate(*fresh, request).ids, "the same seed in a fresh session");
  request.sampler.seed = 6;
  run.check(sampled != generate(*session, request).ids, "another seed");

  // a model without an adapter
  const auto plain = load_toy(Toy(spec_of(Semantics::kPaper, 26)), Layout::kPlain);
  const auto with = model->create_session(), without = plain->create_session();
  run.throws(
      Code::kInvalidArgument, [&] { without->set_documents({plain->create_document({})}); }, "documents need a method, hence an adapter or a name");
  run.check(answer(*with, request.ids, 8).ids == answer(*without, request.ids, 8).ids, "without documents the adapter changes nothing");
}

// Of two appends to one document at once the second is refused, and the first is whole.
TEST(session_two_appends) {
  Run run;
  const auto model = load_toy(Toy(spec_of(Semantics::kPaper, 28)));
  const auto document = model->create_document({});
  Begun first, second, third;
  // begun from the first one's hook, so that it certainly still runs
  document->begin_append(text_of(5000, kVocab, 1), first.hooks([&, has_begun = false](uint64_t, uint64_t) mutable {
    if (!std::exchange(has_begun, true)) document->begin_append(text_of(5000, kVocab, 2), second.hooks());
  }));
  run.check(first.wait().is_ok(), "the first append");  // by then the second has been posted
  run.check(second.wait().code == Code::kInvalidArgument, "the second append is refused");
  run.equal(document->info().n_tokens, int64_t{5000}, "tokens");
  *third.cancel = true;
  document->begin_append(text_of(5000, kVocab, 3), third.hooks());
  run.check(third.wait().code == Code::kAborted && document->info().n_tokens == 5000, "an aborted append adds nothing");
  append(*document, {1});
  run.equal(document->info().n_tokens, int64_t{5001}, "and the next goes through");
}

}  // namespace banyan::test
