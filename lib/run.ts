/** run: one generation of a session: an async iterable of events, a promise of the result, the text so far. */
import './dispose.js';

import type { FinishReason, ProgressEvent, RetrievalEvent, RunEvent, RunResult, TokenEvent } from '../types/public.js';
import { BanyanError } from './errors.js';
import { emitError, emitterOf } from './emitter.js';

/** Events of a run, for `run.on()`; the payloads are those of the iterator. */
export type RunEvents = {
  progress: (event: ProgressEvent) => void;
  retrieval: (event: RetrievalEvent) => void;
  token: (event: TokenEvent) => void;
  done: (result: RunResult) => void;
  /** Also when aborted. Not thrown where nobody listens. */
  error: (error: unknown) => void;
};

/** What carries a run out: reports its events and ends with its result. `signal` aborts when the run is to end. */
export type Work = (signal: AbortSignal, report: (event: Exclude<RunEvent, { type: 'done' }>) => void) => Promise<RunResult>;

/** For session.ts, which alone makes runs. */
export let startRun: (work: Work, signal: AbortSignal | undefined) => Run;

/**
 * One generation. Iterate it (`for await`), or await `result`, or both; it goes on in either case. It can be iterated once: events are kept until
 * they are read. Leaving the loop early (`break`) cancels the run.
 */
export class Run extends emitterOf<RunEvents>() implements AsyncIterable<RunEvent> {
  /** Settles when the run ends. Rejects with the abort's reason (see GenerateOptions.onAbort), a BanyanError or a TypeError. */
  readonly result: Promise<RunResult>;

  readonly #controller = new AbortController();
  #events: RunEvent[] = [];
  #text = '';
  #finishReason: FinishReason | null = null;
  #isEnded = false;
  #isIterated = false;
  #error: { value: unknown } | null = null;
  #wake: (() => void) | null = null;

  static {
    startRun = (work, signal) => new Run(work, signal);
  }

  private constructor(work: Work, signal: AbortSignal | undefined) {
    super();
    const onAbort = (): void => this.#controller.abort(signal?.reason);
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort);
    this.result = this.#execute(work).finally(() => signal?.removeEventListener('abort', onAbort));
    this.result.catch(() => {}); // whoever iterates hears of it there
  }

  /** The answer so far, also after an abort or error. */
  get text(): string {
    return this.#text;
  }

  /** null while the run goes on. */
  get finishReason(): FinishReason | null {
    return this.#finishReason;
  }

  /** Ends the run like an abort of its signal; does nothing once it has ended. */
  cancel(reason?: unknown): void {
    if (!this.#isEnded) this.#controller.abort(reason);
  }

  /** The events until the run ends; throws what `result` rejects with. Throws ERR_INVALID_STATE when iterated a second time. */
  [Symbol.asyncIterator](): AsyncIterator<RunEvent, undefined> {
    if (this.#isIterated) {
      throw Object.assign(new TypeError('A run can be iterated once; read run.text and run.result instead'), { code: 'ERR_INVALID_STATE' });
    }
    this.#isIterated = true;
    const iterate = async function* (run: Run): AsyncGenerator<RunEvent, undefined> {
      try {
        for (;;) {
          const event = run.#events.shift();
          if (event !== undefined) yield event;
          else if (run.#error !== null) throw run.#error.value;
          else if (run.#isEnded) return;
          else await new Promise<void>((resolve) => (run.#wake = resolve));
        }
      } finally {
        run.cancel();
        run.#events = [];
        await run.result.catch(() => {}); // has ended when the loop is left
      }
    };
    return iterate(this);
  }

  /** The texts of the token events as a web stream; cancelling it cancels the run. Takes the place of iterating. */
  readable(): ReadableStream<string> {
    const iterator = this[Symbol.asyncIterator]();
    return new ReadableStream<string>({
      async pull(controller) {
        for (;;) {
          const { done, value } = await iterator.next();
          if (done === true) return controller.close();
          if (value.type === 'token' && value.text !== '') return controller.enqueue(value.text);
        }
      },
      async cancel(reason) {
        await iterator.return?.(reason as undefined);
      },
    });
  }

  async #execute(work: Work): Promise<RunResult> {
    await null; // listeners that are added right after generate() hear everything
    try {
      const result = await work(this.#controller.signal, (event) => this.#report(event));
      this.#finishReason = result.finishReason;
      this.#report({ type: 'done', result });
      this.#end();
      return result;
    } catch (error) {
      this.#finishReason = this.#controller.signal.aborted && !(error instanceof BanyanError) ? 'abort' : 'error';
      this.#error = { value: error };
      this.#end();
      emitError(this, error);
      throw error;
    }
  }

  #report(event: RunEvent): void {
    if (event.type === 'token') this.#text += event.text;
    const last = this.#events.at(-1);
    if (event.type === 'progress' && last?.type === 'progress' && last.phase === event.phase) this.#events.pop();
    this.#events.push(event);
    this.#wakeUp();
    switch (event.type) {
      case 'progress':
        this.emit('progress', event);
        break;
      case 'retrieval':
        this.emit('retrieval', event);
        break;
      case 'token':
        this.emit('token', event);
        break;
      case 'done':
        this.emit('done', event.result);
        break;
    }
  }

  #end(): void {
    this.#isEnded = true;
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = null;
  }
}
