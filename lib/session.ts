/** session: a conversation about documents. */
import './dispose.js';

import type { NativeSession } from '../types/native.js';
import type {
  GenerateOptions,
  Message,
  MethodName,
  ProgressEvent,
  Prompt,
  RetrievalEvent,
  RunResult,
  ScoreOptions,
  ScoreResult,
  SessionOptions,
  TokenEvent,
} from '../types/public.js';
import { Check } from './arguments.js';
import { assertLive, tokenizerOf, type ModelContext } from './context.js';
import { BanyanDocument, contextOfDocument } from './document.js';
import { emitError, emitterOf } from './emitter.js';
import { BanyanError, callNative, disposed, invalidType, outOfRange, type Caller } from './errors.js';
import { checkOptions, generate } from './generation.js';
import { checkBudget, checkMethod } from './method.js';
import { renderPrompt, type LocalTokens } from './prompt.js';
import { Queue } from './queue.js';
import { startRun, type Run } from './run.js';
import { checkScoreOptions, continuationOf, score } from './scoring.js';

/** The events of all runs of a session. */
export type SessionEvents = {
  progress: (event: ProgressEvent, run: Run) => void;
  retrieval: (event: RetrievalEvent, run: Run) => void;
  token: (event: TokenEvent, run: Run) => void;
  done: (result: RunResult, run: Run) => void;
  error: (error: unknown, run: Run) => void;
};

const kRoles: readonly string[] = ['system', 'user', 'assistant'];

/** For model.ts, which alone makes sessions. */
export let makeSession: (context: ModelContext, options: SessionOptions | undefined, caller: Caller) => Session;

/**
 * A conversation: system prompt, documents, turns. Its runs are carried out one after another; runs of different sessions share the engine.
 * A run that ends well adds its prompt and answer to `messages`; one that fails or is aborted leaves them as they were, except that with
 * onAbort 'return' the partial answer counts.
 */
export class Session extends emitterOf<SessionEvents>() {
  /** How it reads its documents; null: the model has no adapter and none was named, so it reads none. */
  readonly method: MethodName | null;

  readonly #context: ModelContext;
  readonly #native: NativeSession;
  readonly #template: string | undefined;
  readonly #system: readonly Message[];
  readonly #queue = new Queue();
  readonly #runs = new Set<Run>();
  readonly #end = new AbortController();
  #documents: readonly BanyanDocument[] = [];
  #turns: Message[] = [];
  #isDisposed = false;

  static {
    makeSession = (context, options, caller) => new Session(context, options, caller);
  }

  private constructor(context: ModelContext, options: SessionOptions | undefined, caller: Caller) {
    super();
    this.#context = context;
    const check = new Check(caller);
    const given = check.options(options, ['documents', 'method', 'slotBudget', 'budgetUnit', 'system', 'template']);
    this.#system = given.system === undefined ? [] : [Object.freeze<Message>({ role: 'system', content: check.string(given.system, 'system') })];
    if (given.template !== undefined && given.template !== null) check.string(given.template, 'template');
    this.#template = given.template === undefined ? (context.tokenizer?.chatTemplate ?? undefined) : (given.template ?? undefined);
    if (given.system !== undefined) tokenizerOf(context);
    const method = checkMethod(given.method, caller);
    this.method = method.method ?? context.info.method;
    const budget = checkBudget(given, this.method, caller);
    this.#documents = this.#checkDocuments(given.documents ?? [], caller);
    this.#native = callNative(() => context.native.createSession({ ...method, ...budget }));
  }

  get disposed(): boolean {
    return this.#isDisposed || this.#context.isDisposed();
  }

  /** In reading order; frozen. */
  get documents(): readonly BanyanDocument[] {
    return this.#documents;
  }

  /** The conversation so far, the system prompt included; frozen. */
  get messages(): readonly Message[] {
    return Object.freeze([...this.#system, ...this.#turns]);
  }

  /** Adds a document, by default at the end. As every change of the documents, it counts for runs that are started from now on. */
  addDocument(document: BanyanDocument, index: number = this.#documents.length): void {
    const caller = Session.prototype.addDocument;
    this.#assertLive();
    const at = new Check(caller).integer(index, 'index', 0, this.#documents.length);
    const checked = this.#checkDocuments([document], caller);
    this.#documents = this.#checkDocuments([...this.#documents.slice(0, at), ...checked, ...this.#documents.slice(at)], caller);
  }

  /** Removes a document; false if it was not there. */
  removeDocument(document: BanyanDocument): boolean {
    this.#assertLive();
    const kept = this.#documents.filter((each) => each !== document);
    const isRemoved = kept.length < this.#documents.length;
    this.#documents = Object.freeze(kept);
    return isRemoved;
  }

  /** Replaces the documents, or their order. */
  setDocuments(documents: readonly BanyanDocument[]): void {
    this.#assertLive();
    this.#documents = this.#checkDocuments(documents, Session.prototype.setDocuments);
  }

  /** Forgets the turns; the system prompt and the documents stay. */
  reset(): void {
    this.#assertLive();
    this.#turns = [];
  }

  /**
   * Starts a run, after those started before. Throws TypeError, RangeError and BANYAN_DISPOSED at once; everything else rejects the run:
   * BANYAN_CONTEXT_OVERFLOW, BANYAN_BAD_TEMPLATE, BANYAN_UNSUPPORTED_TOKENIZER, BANYAN_OUT_OF_MEMORY.
   */
  generate(prompt: Prompt, options?: GenerateOptions): Run {
    const caller = Session.prototype.generate;
    this.#assertLive();
    const { given, plan } = checkOptions(this.#context, options, caller);
    const documents = this.#documents;
    const { turn, local } = this.#checkPrompt(prompt, given, caller);

    const run = startRun(async (signal, report) => {
      const carryOut = (): Promise<RunResult> =>
        generate({ context: this.#context, session: this.#native, documents, plan, local: () => local(signal) }, signal, report);
      let isItsTurn = false;
      try {
        return await this.#queue.run(signal, async () => {
          isItsTurn = true;
          this.#assertLive();
          const result = await carryOut();
          if (turn.length > 0) this.#turns.push(...turn, message('assistant', result.text));
          return result;
        });
      } catch (error) {
        if (isItsTurn || !signal.aborted) throw error;
        return await carryOut(); // aborted while waiting: does nothing but end as onAbort says
      } finally {
        this.#runs.delete(run);
      }
    }, given.signal);
    this.#runs.add(run);
    this.#forward(run);
    return run;
  }

  /**
   * How likely `continuation` is behind the prompt: the log-probability of each of its tokens, as if the session had generated them. In turn with
   * the runs; the conversation stays as it is. A text is tokenized on its own, so begin it with the space that separates it from the prompt.
   * Rejects with the signal's reason, TypeError, RangeError, BANYAN_DISPOSED, BANYAN_CONTEXT_OVERFLOW, BANYAN_BAD_TEMPLATE,
   * BANYAN_UNSUPPORTED_TOKENIZER, BANYAN_OUT_OF_MEMORY.
   */
  async score(prompt: Prompt, continuation: string | Int32Array, options?: ScoreOptions): Promise<ScoreResult> {
    const caller = Session.prototype.score;
    this.#assertLive();
    const check = new Check(caller);
    const given = checkScoreOptions(options, check, caller);
    const documents = this.#documents;
    const { local } = this.#checkPrompt(prompt, given, caller);
    const targets = continuationOf(this.#context, continuation, check, caller);
    const signal = AbortSignal.any([this.#end.signal, ...(given.signal === undefined ? [] : [given.signal])]);
    return this.#queue.run(signal, async () => {
      this.#assertLive();
      const scoring = { context: this.#context, session: this.#native, documents, prompt: await local(signal), targets: await targets(signal) };
      return score(scoring, signal);
    });
  }

  /** Ends its runs with BANYAN_DISPOSED and frees its cache. Idempotent. */
  async dispose(): Promise<void> {
    if (!this.#isDisposed) {
      this.#isDisposed = true;
      for (const run of this.#runs) run.cancel(disposed('session'));
      this.#end.abort(disposed('session'));
      this.#native.dispose();
    }
    await this.#queue.idle();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #assertLive(): void {
    assertLive(this.#context);
    if (this.#isDisposed) throw disposed('session');
  }

  #checkDocuments(documents: readonly BanyanDocument[], caller: Caller): readonly BanyanDocument[] {
    const check = new Check(caller);
    const list = check.array(documents, 'documents', 'array of BanyanDocument').map((each) => {
      if (!(each instanceof BanyanDocument)) throw invalidType('BanyanDocument', 'a document of the session', each, caller);
      return each;
    });
    if (list.length > 0 && this.method === null) {
      throw new BanyanError(
        'BANYAN_INVALID_ARGUMENT',
        'The model has no adapter: name a method that needs none (parallel, streaming, full) to read documents',
      );
    }
    for (const document of list) {
      if (contextOfDocument(document) !== this.#context) throw new BanyanError('BANYAN_INVALID_ARGUMENT', 'The document belongs to another model');
      if (document.disposed) throw disposed('document');
    }
    if (new Set(list).size !== list.length) throw new BanyanError('BANYAN_INVALID_ARGUMENT', 'The session has the document already');
    return Object.freeze(list);
  }

  // What the prompt adds to the conversation, and how it becomes local tokens once its turn has come.
  #checkPrompt(
    prompt: Prompt,
    given: Pick<GenerateOptions, 'queryText' | 'queryIndex'>,
    caller: Caller,
  ): { turn: Message[]; local: (signal: AbortSignal) => Promise<LocalTokens> } {
    const check = new Check(caller);
    if (prompt instanceof Int32Array) {
      if (given.queryText !== undefined) throw invalidType('a text prompt', 'queryText', prompt, caller);
      if (prompt.length === 0) throw outOfRange('at least one token', 'prompt', prompt, caller);
      const ids = check.ids(prompt, 'prompt', this.#context.info.vocabSize);
      const queryIndex = given.queryIndex === undefined ? undefined : check.integer(given.queryIndex, 'queryIndex', 0, ids.length - 1);
      return { turn: [], local: () => Promise.resolve({ ids, queryIndex, isContinued: true }) };
    }
    if (given.queryIndex !== undefined) throw invalidType('a prompt of ids', 'queryIndex', prompt, caller);
    tokenizerOf(this.#context);
    const turn = typeof prompt === 'string' ? [message('user', prompt)] : checkMessages(prompt, check, caller);
    const local = (signal: AbortSignal): Promise<LocalTokens> =>
      renderPrompt(this.#context, this.#template, [...this.#system, ...this.#turns, ...turn], given.queryText, signal);
    return { turn, local };
  }

  #forward(run: Run): void {
    run.on('progress', (event) => void this.emit('progress', event, run));
    run.on('retrieval', (event) => void this.emit('retrieval', event, run));
    run.on('token', (event) => void this.emit('token', event, run));
    run.on('done', (result) => {
      this.emit('done', result, run);
      this.#context.onRunDone(result, run);
    });
    run.on('error', (error) => {
      emitError(this, error, run);
      this.#context.onRunError(error, run);
    });
  }
}

const message = (role: Message['role'], content: string): Message => Object.freeze({ role, content });

function checkMessages(prompt: unknown, check: Check, caller: Caller): Message[] {
  const list = check.array(prompt, 'prompt', 'string, array of messages or Int32Array');
  if (list.length === 0) throw outOfRange('at least one message', 'prompt', prompt, caller);
  return list.map((each) => {
    if (typeof each !== 'object' || each === null) throw invalidType('message', 'a message of the prompt', each, caller);
    const { role, content } = each as Partial<Message>;
    if (typeof role !== 'string' || !kRoles.includes(role)) throw outOfRange(`one of ${kRoles.join(', ')}`, 'role', role, caller);
    return message(role, check.string(content, 'content'));
  });
}
