/** model: loads a model, makes its documents and sessions, and ends them with it. */
import './dispose.js';

import type { NativeModel } from '../types/native.js';
import type {
  CompressOptions,
  DocumentInput,
  JobOptions,
  LoadModelOptions,
  MethodName,
  ModelInfo,
  Progress,
  RunResult,
  SessionOptions,
  TokenizerInfo,
} from '../types/public.js';
import { raceAbort, withCancel } from './abort.js';
import { Check } from './arguments.js';
import { native } from './binding.js';
import { assertLive, tokenizerOf, type ModelContext } from './context.js';
import { compressInto, kTitleAttribute, kTokenizerAttribute, makeDocument, type BanyanDocument } from './document.js';
import { emitError, emitterOf } from './emitter.js';
import { BanyanError } from './errors.js';
import { kMethods } from './method.js';
import { nativeProgress, toAll } from './progress.js';
import type { Run } from './run.js';
import { makeSession, type Session } from './session.js';
import { findTokenizer, type FoundTokenizer } from './tokenizer_files.js';
import type { Tokenizer } from './text/tokenizer.js';

/** The events of everything a model does. */
export type ModelEvents = {
  /** Of compress, open, save and complete jobs. */
  progress: (progress: Progress) => void;
  done: (result: RunResult, run: Run) => void;
  error: (error: unknown, run: Run) => void;
};

export interface TokenizeOptions {
  /** Add the tokens the tokenizer puts around a text, e.g. begin-of-text. Default false. */
  addSpecial?: boolean | undefined;
  /** Read the spelling of special tokens as these tokens. Default false. */
  parseSpecial?: boolean | undefined;
}

export interface DetokenizeOptions {
  /** Leave special tokens out. Default false. */
  skipSpecial?: boolean | undefined;
}

let makeModel: (native: NativeModel, found: FoundTokenizer) => Model;

const kKvTypes = ['f16', 'f32', 'q8'] as const;
const kSemantics = ['released', 'corrected', 'paper', 'nested'] as const;

/**
 * Loads a model, and its adapters if there are any.
 * Rejects with the signal's reason, TypeError, RangeError, or BanyanError: BANYAN_FILE_NOT_FOUND, BANYAN_IO, BANYAN_BAD_MODEL_FILE,
 * BANYAN_UNSUPPORTED_MODEL, BANYAN_MISSING_TENSOR, BANYAN_BAD_TENSOR, BANYAN_BAD_ADAPTER, BANYAN_ADAPTER_MISMATCH, BANYAN_OUT_OF_MEMORY,
 * BANYAN_NO_DEVICE, BANYAN_BAD_TOKENIZER, BANYAN_NATIVE_LOAD_FAILED.
 */
export async function loadModel(options: LoadModelOptions): Promise<Model> {
  const check = new Check(loadModel);
  const given = check.options(options, [
    'model',
    'adapter',
    'device',
    'threads',
    'kvType',
    'poolType',
    'adapterType',
    'kvDirectory',
    'semantics',
    'depth',
    'lastP',
    'tokenizer',
    'signal',
    'onProgress',
  ]);
  const model = check.path(given.model, 'model');
  const adapters = given.adapter === undefined ? {} : { adapters: adapterPaths(given.adapter, check) };
  const device = check.oneOf(given.device, 'device', ['auto', 'cpu', 'cuda']) ?? 'auto';
  const threads = given.threads === undefined ? 0 : check.integer(given.threads, 'threads', 0, 1024);
  const kvType = check.oneOf(given.kvType, 'kvType', kKvTypes) ?? 'f16';
  const poolType = check.oneOf(given.poolType, 'poolType', kKvTypes) ?? kvType;
  const adapterType = check.oneOf(given.adapterType, 'adapterType', ['stored', 'q8']) ?? 'stored';
  const kvDirectory = given.kvDirectory === undefined ? {} : { kvDirectory: check.path(given.kvDirectory, 'kvDirectory') };
  const semantics = check.oneOf(given.semantics, 'semantics', kSemantics);
  const depth = given.depth === undefined ? {} : { depth: check.integer(given.depth, 'depth', 1, 16) };
  const lastP = given.lastP === undefined ? {} : { lastP: check.string(given.lastP, 'lastP') };
  const tokenizer = given.tokenizer === undefined ? undefined : check.path(given.tokenizer, 'tokenizer');
  const signal = check.signal(given.signal);
  const onProgress = check.function(given.onProgress, 'onProgress');

  const nativeOptions = {
    ...{ model, ...adapters, device, threads, kvType, poolType, adapterType, ...kvDirectory },
    ...(semantics === undefined ? {} : { semantics }),
    ...depth,
    ...lastP,
  };
  const loaded = await withCancel(
    signal,
    (cancel) => native().load(nativeOptions, cancel, nativeProgress('load', onProgress, signal)),
    (late) => late.dispose(),
  );
  try {
    return makeModel(loaded, await raceAbort(findTokenizer(model, tokenizer, loaded), signal));
  } catch (error) {
    await loaded.dispose();
    throw error;
  }
}

function adapterPaths(adapter: unknown, check: Check): string[] {
  if (typeof adapter === 'string') return [check.path(adapter, 'adapter')];
  return check.array(adapter, 'adapter', 'path or array of paths').map((each) => check.path(each, 'a path of adapter'));
}

/**
 * A loaded model. Compresses and opens documents, creates sessions; disposing it ends them all.
 */
export class Model extends emitterOf<ModelEvents>() {
  readonly #native: NativeModel;
  readonly #context: ModelContext;
  #disposal: Promise<void> | null = null;

  static {
    makeModel = (native, found) => new Model(native, found);
  }

  private constructor(native: NativeModel, found: FoundTokenizer) {
    super();
    this.#native = native;
    this.#context = {
      native,
      info: infoOf(native, found.tokenizer),
      tokenizer: found.tokenizer,
      tokenizerError: found.error,
      isDisposed: () => this.#disposal !== null,
      onProgress: (progress) => void this.emit('progress', progress),
      onRunDone: (result, run) => void this.emit('done', result, run),
      onRunError: (error, run) => emitError(this, error, run),
    };
  }

  /** Frozen; readable after dispose, too. */
  get info(): ModelInfo {
    return this.#context.info;
  }

  get disposed(): boolean {
    return this.#disposal !== null;
  }

  /** Multiplications with additions of all jobs so far, matrix products and attention: what things cost, whatever the machine. Throws BANYAN_DISPOSED. */
  get multiplyAdds(): number {
    assertLive(this.#context);
    return this.#native.multiplyAdds();
  }

  /**
   * Reads a text into a document tree. Text is tokenized while the engine works, so that an iterable (a file stream with an encoding, say)
   * is never in memory as a whole.
   * Rejects with the signal's reason, TypeError, RangeError, BANYAN_DISPOSED, BANYAN_ADAPTER_MISMATCH (a method whose adapter is not loaded),
   * BANYAN_INVALID_ARGUMENT, BANYAN_UNSUPPORTED_TOKENIZER, BANYAN_OUT_OF_MEMORY, BANYAN_IO (kvDirectory is full).
   */
  async compress(input: DocumentInput, options?: CompressOptions): Promise<BanyanDocument> {
    const check = new Check(Model.prototype.compress);
    const given = check.options(options, ['chunkSize', 'method', 'eager', 'title', 'signal', 'onProgress']);
    check.boolean(given.eager, 'eager', false);
    check.signal(given.signal);
    check.function(given.onProgress, 'onProgress');
    const chunkSize = given.chunkSize === undefined ? {} : { chunkSize: check.integer(given.chunkSize, 'chunkSize', 1, 2 ** 31 - 1) };
    const method = check.oneOf(given.method, 'method', kMethods);
    const documentOptions = { ...chunkSize, ...(method === undefined ? {} : { method }) };
    const title = given.title === undefined ? '' : check.string(given.title, 'title');
    assertLive(this.#context);
    return this.#made(
      given.signal,
      async () => this.#native.createDocument(documentOptions),
      title,
      (document) => compressInto(document, input, given, check),
    );
  }

  /**
   * Opens a document that was saved with the same model, adapter and tokenizer; every checksum is verified.
   * Rejects with the signal's reason, TypeError, BANYAN_DISPOSED, BANYAN_FILE_NOT_FOUND, BANYAN_IO, BANYAN_BAD_DOCUMENT, BANYAN_MODEL_MISMATCH.
   */
  async openDocument(path: string, options?: JobOptions): Promise<BanyanDocument> {
    const check = new Check(Model.prototype.openDocument);
    const given = check.options(options, ['signal', 'onProgress']);
    check.path(path, 'path');
    check.signal(given.signal);
    const progress = nativeProgress('open', toAll(check.function(given.onProgress, 'onProgress'), this.#context.onProgress), given.signal);
    assertLive(this.#context);
    const opened = await withCancel(
      given.signal,
      (cancel) => this.#native.openDocument(path, cancel, progress),
      (late) => late.dispose(),
    );
    const theirs = opened.attribute(kTokenizerAttribute);
    const ours = this.#context.tokenizer?.fingerprint ?? '';
    if (theirs !== '' && ours !== '' && theirs !== ours) {
      opened.dispose();
      throw new BanyanError('BANYAN_MODEL_MISMATCH', `${path} was saved with another tokenizer`, { details: { expected: ours, found: theirs } });
    }
    return makeDocument(this.#context, opened, opened.attribute(kTitleAttribute));
  }

  /**
   * A new conversation. Throws TypeError, RangeError, BANYAN_DISPOSED, BANYAN_ADAPTER_MISMATCH (a method whose adapter is not loaded),
   * BANYAN_INVALID_ARGUMENT (documents of another model; a window larger than the model's; scaled positions scaled again; a budget that the adapter's
   * selection cannot rank).
   */
  createSession(options?: SessionOptions): Session {
    assertLive(this.#context);
    return makeSession(this.#context, options, Model.prototype.createSession);
  }

  /** Rejects with TypeError, BANYAN_DISPOSED, BANYAN_UNSUPPORTED_TOKENIZER. */
  async tokenize(text: string, options?: TokenizeOptions): Promise<Int32Array> {
    const check = new Check(Model.prototype.tokenize);
    const given = check.options(options, ['addSpecial', 'parseSpecial']);
    assertLive(this.#context);
    return tokenizerOf(this.#context).encode(check.string(text, 'text'), {
      addSpecial: check.boolean(given.addSpecial, 'addSpecial', false),
      parseSpecial: check.boolean(given.parseSpecial, 'parseSpecial', false),
    });
  }

  /** Rejects with TypeError, RangeError, BANYAN_DISPOSED, BANYAN_UNSUPPORTED_TOKENIZER. */
  async detokenize(ids: Int32Array | readonly number[], options?: DetokenizeOptions): Promise<string> {
    const check = new Check(Model.prototype.detokenize);
    const given = check.options(options, ['skipSpecial']);
    assertLive(this.#context);
    const list = ids instanceof Int32Array ? ids : (check.array(ids, 'ids', 'Int32Array or array of token ids') as readonly number[]);
    return tokenizerOf(this.#context).decode(check.ids(list, 'ids', this.info.vocabSize), {
      skipSpecial: check.boolean(given.skipSpecial, 'skipSpecial', false),
    });
  }

  /** Ends every job, run, session and document of the model (they reject with BANYAN_DISPOSED) and frees its memory. Idempotent. */
  dispose(): Promise<void> {
    return (this.#disposal ??= this.#native.dispose());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  async #made(
    signal: AbortSignal | undefined,
    make: () => Promise<ReturnType<NativeModel['createDocument']>>,
    title: string,
    fill: (document: BanyanDocument) => Promise<void>,
  ): Promise<BanyanDocument> {
    const document = makeDocument(this.#context, await withCancel(signal, make), title);
    try {
      await fill(document);
      return document;
    } catch (error) {
      await document.dispose();
      throw error;
    }
  }
}

function infoOf(native: NativeModel, tokenizer: Tokenizer | null): ModelInfo {
  const { bosId, eosIds, tree, focus, ...info } = native.info;
  const hasAdapter = { sharedllm: tree !== null, focusllm: focus !== null } as Partial<Record<MethodName, boolean>>;
  return Object.freeze<ModelInfo>({
    ...info,
    bosId: bosId < 0 ? null : bosId,
    eosIds: Object.freeze([...eosIds]),
    methods: Object.freeze(kMethods.filter((name) => hasAdapter[name] ?? true)),
    tree: tree === null ? null : Object.freeze(tree),
    focus: focus === null ? null : Object.freeze(focus),
    tokenizer: tokenizer === null ? null : Object.freeze(tokenizerInfo(tokenizer)),
  });
}

// The fingerprint of a large vocabulary takes a while; it is taken when it is first asked for.
const tokenizerInfo = (tokenizer: Tokenizer): TokenizerInfo => ({
  hasChatTemplate: tokenizer.chatTemplate !== undefined,
  get fingerprint() {
    return tokenizer.fingerprint;
  },
});
