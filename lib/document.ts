/** document: a text compressed once into a tree of keys and values, which any number of sessions can read. */
import './dispose.js';

import type { NativeDocument } from '../types/native.js';
import type { CompleteOptions, CompressOptions, DocumentInfo, DocumentInput, JobOptions } from '../types/public.js';
import { withCancel } from './abort.js';
import { Check } from './arguments.js';
import { assertLive, tokenizerOf, type ModelContext } from './context.js';
import { disposed } from './errors.js';
import { segmentsOf, type Segments } from './input.js';
import { nativeProgress, progressOf, toAll } from './progress.js';
import { Queue } from './queue.js';

/** Names of the attributes in a saved file. */
export const kTokenizerAttribute = 'tokenizer';
export const kTitleAttribute = 'title';

/** For model.ts, which alone makes documents. */
export let makeDocument: (context: ModelContext, native: NativeDocument, title: string) => BanyanDocument;
/** For session.ts. */
export let nativeDocument: (document: BanyanDocument) => NativeDocument;
export let contextOfDocument: (document: BanyanDocument) => ModelContext;
/** Appends and finishes what compress() was given. */
export let compressInto: (document: BanyanDocument, input: DocumentInput, options: Partial<CompressOptions>, check: Check) => Promise<void>;

/**
 * A document tree. Made by `model.compress()` or `model.openDocument()`; lives until it or its model is disposed. Its jobs (append, complete,
 * save) run one after another in the order they were called.
 */
export class BanyanDocument {
  readonly #context: ModelContext;
  readonly #native: NativeDocument;
  readonly #queue = new Queue();
  readonly #closing = new AbortController();
  #isDisposed = false;

  /** As given to compress() or found in the file; '' if there is none. */
  readonly title: string;

  static {
    makeDocument = (context, native, title) => new BanyanDocument(context, native, title);
    contextOfDocument = (document) => document.#context;
    nativeDocument = (document) => {
      document.#assertLive();
      return document.#native;
    };
    compressInto = (document, input, options, check) =>
      document.#run(options.signal, async (signal) => {
        await document.#append(input, signal, options, check);
        await document.#complete(options.eager ?? false, signal, options);
      });
  }

  private constructor(context: ModelContext, native: NativeDocument, title: string) {
    this.#context = context;
    this.#native = native;
    this.title = title;
  }

  get disposed(): boolean {
    return this.#isDisposed || this.#context.isDisposed();
  }

  /** Whether text() can be asked for: the model has a tokenizer. */
  get hasText(): boolean {
    return this.#context.tokenizer !== null;
  }

  /** Sizes as they are now; frozen. Throws BANYAN_DISPOSED. */
  get info(): DocumentInfo {
    this.#assertLive();
    return Object.freeze({ title: this.title, ...this.#native.info() });
  }

  /**
   * Adds text or ids at the end. What an aborted call has added stays (see `info.tokens`).
   * Rejects with the signal's reason, BANYAN_DISPOSED, BANYAN_UNSUPPORTED_TOKENIZER, BANYAN_OUT_OF_MEMORY.
   */
  async append(input: DocumentInput, options?: JobOptions): Promise<void> {
    const check = new Check(BanyanDocument.prototype.append);
    const given = jobOptions(check, options);
    this.#assertLive();
    await this.#run(given.signal, (signal) => this.#append(input, signal, given, check));
  }

  /** Finishes the last chunk, and with `eager` (default true) encodes every node that is not yet encoded. Rejects like append(). */
  async complete(options?: CompleteOptions): Promise<void> {
    const check = new Check(BanyanDocument.prototype.complete);
    const given = check.options(options, ['eager', 'signal', 'onProgress']);
    const isEager = check.boolean(given.eager, 'eager', true);
    check.signal(given.signal);
    check.function(given.onProgress, 'onProgress');
    this.#assertLive();
    await this.#run(given.signal, (signal) => this.#complete(isEager, signal, given));
  }

  /**
   * Writes the document to one file, whole or not at all. `model.openDocument()` reads it with the same model, adapter and tokenizer.
   * Rejects with the signal's reason, BANYAN_DISPOSED, BANYAN_FILE_NOT_FOUND (no such folder), BANYAN_IO.
   */
  async save(path: string, options?: JobOptions): Promise<void> {
    const check = new Check(BanyanDocument.prototype.save);
    const given = jobOptions(check, options);
    check.path(path, 'path');
    this.#assertLive();
    const attributes: Record<string, string> = {};
    if (this.title !== '') attributes[kTitleAttribute] = this.title;
    if (this.#context.tokenizer !== null) attributes[kTokenizerAttribute] = this.#context.tokenizer.fingerprint;
    const report = toAll(given.onProgress, this.#context.onProgress);
    await this.#run(given.signal, (signal) =>
      withCancel(signal, (cancel) => this.#native.save(path, attributes, cancel, nativeProgress('save', report, signal))),
    );
  }

  /** Token ids of [begin, end), by default all. Throws BANYAN_DISPOSED. */
  tokens(begin = 0, end = Infinity): Int32Array {
    const check = new Check(BanyanDocument.prototype.tokens);
    this.#assertLive();
    const count = this.#native.info().tokens;
    const last = end === Infinity ? count : check.integer(end, 'end', 0, Number.MAX_SAFE_INTEGER);
    return this.#native.tokens(check.integer(begin, 'begin', 0, Number.MAX_SAFE_INTEGER), Math.min(last, count));
  }

  /** The text of tokens [begin, end), by default all. Rejects with BANYAN_DISPOSED, BANYAN_UNSUPPORTED_TOKENIZER. */
  async text(begin = 0, end = Infinity): Promise<string> {
    const ids = this.tokens(begin, end);
    return tokenizerOf(this.#context).decode(ids, { skipSpecial: false });
  }

  /** Ends its jobs and frees its memory once no run reads it any more. Sessions that still list it cannot generate. Idempotent. */
  async dispose(): Promise<void> {
    if (!this.#isDisposed) {
      this.#isDisposed = true;
      this.#closing.abort(disposed('document'));
      this.#native.dispose();
    }
    await this.#queue.idle();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #assertLive(): void {
    assertLive(this.#context);
    if (this.#isDisposed) throw disposed('document');
  }

  // One job: after the earlier ones, under a signal that dispose() aborts too.
  async #run<T>(signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const both = AbortSignal.any(signal === undefined ? [this.#closing.signal] : [signal, this.#closing.signal]);
    return this.#queue.run(both, () => {
      this.#assertLive();
      return work(both);
    });
  }

  async #append(input: DocumentInput, signal: AbortSignal, options: Partial<JobOptions>, check: Check): Promise<void> {
    const report = toAll(options.onProgress, this.#context.onProgress);
    const segments: Segments = segmentsOf(this.#context, input, signal, check);
    await withCancel(signal, async (cancel) => {
      let appended = 0;
      let pending: Promise<void> = Promise.resolve();
      try {
        // The next segment is tokenized while the engine appends this one.
        for (let ids = await segments.next(); ids !== null; ids = await segments.next()) {
          await pending;
          const before = appended;
          appended += ids.length;
          pending = this.#native.append(ids, cancel, (done) => {
            if (!signal.aborted) report(progressOf('compress', before + done, segments.total(appended)));
          });
          pending.catch(() => {});
        }
        await pending;
        report(progressOf('compress', appended, appended));
      } catch (error) {
        cancel.cancel();
        segments.stop();
        await pending.catch(() => {});
        throw error;
      }
    });
  }

  async #complete(isEager: boolean, signal: AbortSignal, options: Partial<JobOptions>): Promise<void> {
    const progress = nativeProgress('complete', toAll(options.onProgress, this.#context.onProgress), signal);
    await withCancel(signal, (cancel) => this.#native.complete(isEager, cancel, progress));
  }
}

function jobOptions(check: Check, options: JobOptions | undefined): Partial<JobOptions> {
  const given = check.options(options, ['signal', 'onProgress']);
  check.signal(given.signal);
  check.function(given.onProgress, 'onProgress');
  return given;
}
