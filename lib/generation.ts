/** generation: carries one run out: options to a native request, native events to run events, ids to text, stop texts. */
import type { NativeEvent, NativeGenerateRequest, NativeGenerateResult, NativeRetrieval, NativeSession } from '../types/native.js';
import type { FinishReason, GenerateOptions, RunEvent, RunResult } from '../types/public.js';
import { withCancel } from './abort.js';
import { Check } from './arguments.js';
import type { ModelContext } from './context.js';
import { nativeDocument, type BanyanDocument } from './document.js';
import { BanyanError, callNative, invalidType, outOfRange, type Caller } from './errors.js';
import type { LocalTokens } from './prompt.js';
import { retrievalOf } from './retrieval.js';
import { DecodeStream } from './text/decode_stream.js';
import { StopMatcher } from './text/stop.js';

const kDefaultMaxTokens = 256;
const kMaxInt = 2 ** 31 - 1;

/** Validated options, without what only the session or the prompt needs. */
export interface Plan {
  maxTokens: number | undefined;
  stopTexts: readonly string[];
  stopIds: Int32Array;
  sampler: Omit<NativeGenerateRequest, 'ids' | 'queryIndex' | 'maxTokens' | 'stopIds'>;
  onAbort: 'throw' | 'return';
}

const kNames = [
  'maxTokens',
  'temperature',
  'topK',
  'topP',
  'minP',
  'repetitionPenalty',
  'frequencyPenalty',
  'presencePenalty',
  'seed',
  'logitBias',
  'stop',
  'stopTokens',
  'ignoreEos',
  'queryText',
  'queryIndex',
  'signal',
  'onAbort',
] as const satisfies readonly (keyof GenerateOptions)[];

/** Throws TypeError and RangeError. */
export function checkOptions(
  context: ModelContext,
  options: GenerateOptions | undefined,
  caller: Caller,
): { given: Partial<GenerateOptions>; plan: Plan } {
  const check = new Check(caller);
  const given = check.options(options, kNames);
  const lastId = context.info.vocabSize - 1;
  check.signal(given.signal);
  if (given.queryText !== undefined && check.string(given.queryText, 'queryText') === '') {
    throw outOfRange('non-empty string', 'queryText', given.queryText, caller);
  }
  if (given.queryIndex !== undefined) check.integer(given.queryIndex, 'queryIndex', 0, kMaxInt);
  const bias = biasOf(given.logitBias, lastId, check, caller);
  const stopIds = new Set<number>();
  if (!check.boolean(given.ignoreEos, 'ignoreEos', false)) {
    for (const id of [...context.info.eosIds, ...(context.tokenizer?.eosIds ?? [])]) stopIds.add(id);
  }
  if (given.stopTokens !== undefined) {
    check.array(given.stopTokens, 'stopTokens', 'array of token ids');
    check.ids(given.stopTokens, 'stopTokens', context.info.vocabSize).forEach((id) => stopIds.add(id));
  }
  const plan: Plan = {
    maxTokens: given.maxTokens === undefined ? undefined : check.integer(given.maxTokens, 'maxTokens', 1, kMaxInt),
    stopTexts: stopsOf(given.stop, caller),
    stopIds: Int32Array.from(stopIds),
    onAbort: check.oneOf(given.onAbort, 'onAbort', ['throw', 'return']) ?? 'throw',
    sampler: {
      temperature: check.number(given.temperature, 'temperature', 0, 2, 0.7),
      topK: given.topK === undefined ? 0 : check.integer(given.topK, 'topK', 0, kMaxInt),
      topP: check.number(given.topP, 'topP', 0, 1, 1),
      minP: check.number(given.minP, 'minP', 0, 1, 0),
      repetitionPenalty: check.number(given.repetitionPenalty, 'repetitionPenalty', 0.01, 100, 1),
      frequencyPenalty: check.number(given.frequencyPenalty, 'frequencyPenalty', -2, 2, 0),
      presencePenalty: check.number(given.presencePenalty, 'presencePenalty', -2, 2, 0),
      penaltyWindow: 64,
      seed: given.seed === undefined ? randomSeed() : check.integer(given.seed, 'seed', 0, Number.MAX_SAFE_INTEGER),
      ...bias,
    },
  };
  return { given, plan };
}

function randomSeed(): number {
  const [high = 0, low = 0] = crypto.getRandomValues(new Uint32Array(2));
  return (high >>> 11) * 2 ** 32 + low;
}

function stopsOf(stop: unknown, caller: Caller): string[] {
  const list: unknown[] = stop === undefined ? [] : Array.isArray(stop) ? stop : [stop];
  return list.map((text) => {
    if (typeof text !== 'string') throw invalidType('string or array of strings', 'stop', text, caller);
    if (text === '') throw outOfRange('non-empty string', 'stop', text, caller);
    return text;
  });
}

function biasOf(bias: GenerateOptions['logitBias'], lastId: number, check: Check, caller: Caller): { biasIds: Int32Array; biasValues: Float32Array } {
  if (bias !== undefined && (typeof bias !== 'object' || bias === null)) throw invalidType('Map or object', 'logitBias', bias, caller);
  const entries: [unknown, unknown][] =
    bias === undefined ? [] : bias instanceof Map ? [...bias.entries()] : Object.entries(bias).map(([id, value]) => [Number(id), value]);
  for (const [id, value] of entries) {
    check.integer(id, 'an id of logitBias', 0, lastId);
    check.number(value, `logitBias[${String(id)}]`, -Infinity, Number.MAX_VALUE, NaN);
  }
  return { biasIds: Int32Array.from(entries, ([id]) => id as number), biasValues: Float32Array.from(entries, ([, value]) => value as number) };
}

export interface Generation {
  context: ModelContext;
  session: NativeSession;
  documents: readonly BanyanDocument[];
  plan: Plan;
  local: () => Promise<LocalTokens>;
}

type Report = (event: Exclude<RunEvent, { type: 'done' }>) => void;

/** Rejects with the signal's reason (or returns, by plan.onAbort), a BanyanError or a RangeError. */
export async function generate(generation: Generation, signal: AbortSignal, report: Report): Promise<RunResult> {
  const { context, documents, plan } = generation;
  const begin = performance.now();
  const answer = new Answer(context, documents, plan.stopTexts, report);
  let prompt: LocalTokens = { ids: new Int32Array(0), queryIndex: undefined, isContinued: false };
  let tokenizeMs = 0;
  let documentTokens = 0;

  const finish = (finishReason: FinishReason, native: Partial<NativeGenerateResult>): RunResult => {
    const opened = answer.retrieval;
    const stopId = native.stopId ?? -1;
    return Object.freeze<RunResult>({
      text: answer.text,
      ids: Int32Array.from(answer.ids),
      finishReason,
      stoppedBy: finishReason !== 'stop' ? null : (answer.stoppedBy ?? (stopId < 0 ? null : stopId)),
      seed: plan.sampler.seed,
      usage: Object.freeze({
        promptTokens: native.promptTokens ?? prompt.ids.length,
        cachedTokens: native.cachedTokens ?? 0,
        completionTokens: answer.ids.length,
        documentTokens,
        slots: opened?.slots ?? 0,
        nodesOpened: opened?.document.length ?? 0,
        nodesEncoded: opened?.nodesEncoded ?? 0,
      }),
      timings: Object.freeze({
        tokenize: tokenizeMs,
        select: native.selectMs ?? 0,
        encode: native.encodeMs ?? 0,
        prefill: native.prefillMs ?? 0,
        decode: native.decodeMs ?? 0,
        total: performance.now() - begin,
      }),
      retrieval: Object.freeze(answer.perDocument),
    });
  };

  let partial: Partial<NativeGenerateResult> = {};
  try {
    signal.throwIfAborted();
    prompt = await generation.local();
    tokenizeMs = performance.now() - begin;
    signal.throwIfAborted();
    if (prompt.isContinued) answer.continues(prompt.ids.at(-1));
    documentTokens = documents.reduce((sum, document) => sum + document.info.tokens, 0);
    generation.session.setDocuments(documents.map(nativeDocument));
    const maxTokens = checkWindow(
      prompt.ids.length,
      plan.maxTokens,
      callNative(() => generation.session.room(prompt.ids.length)),
      context.info.window,
    );
    const request: NativeGenerateRequest = { ids: prompt.ids, maxTokens, stopIds: plan.stopIds, ...plan.sampler };
    if (prompt.queryIndex !== undefined) request.queryIndex = prompt.queryIndex;
    const native = await withCancel(signal, async (cancel) => {
      try {
        return await generation.session.generate(request, cancel, (event) => {
          if (answer.take(event)) cancel.cancel();
        });
      } catch (error) {
        partial = (error as { result?: NativeGenerateResult } | null)?.result ?? {};
        if (answer.stoppedBy !== null && (error as { code?: unknown } | null)?.code === 'BANYAN_ABORTED') return null;
        throw error;
      }
    });
    answer.close();
    if (native === null) return finish('stop', partial);
    return finish(answer.stoppedBy === null ? native.finish : 'stop', native);
  } catch (error) {
    const isAbort = signal.aborted && error === signal.reason && !(error instanceof BanyanError && error.code === 'BANYAN_DISPOSED');
    answer.close(isAbort);
    if (isAbort && plan.onAbort === 'return') return finish('abort', partial);
    throw error;
  }
}

// The explicit maxTokens must fit; the default takes what is left.
function checkWindow(promptTokens: number, maxTokens: number | undefined, room: number, window: number): number {
  checkRoom(promptTokens, maxTokens, room, window);
  return maxTokens ?? Math.min(kDefaultMaxTokens, room - promptTokens);
}

/** `room` is what the method leaves for prompt and answer beside the documents. Throws BANYAN_CONTEXT_OVERFLOW. */
export function checkRoom(promptTokens: number, maxTokens: number | undefined, room: number, window: number): void {
  if (promptTokens + (maxTokens ?? 1) <= room) return;
  const left = room === window ? `The window has ${window} tokens` : `Beside the documents there is room for ${Math.max(0, room)} tokens`;
  throw new BanyanError(
    'BANYAN_CONTEXT_OVERFLOW',
    `${left}: the prompt takes ${promptTokens} and the answer ${maxTokens === undefined ? 'needs at least 1' : `may take ${maxTokens}`}`,
    { details: { promptTokens, maxTokens: maxTokens ?? null, window, room: Math.max(0, room) } },
  );
}

// The answer as it grows.
class Answer {
  text = '';
  readonly ids: number[] = [];
  retrieval: NativeRetrieval | null = null;
  perDocument: ReturnType<typeof retrievalOf> = [];
  stoppedBy: string | null = null;
  readonly #documents: readonly BanyanDocument[];
  readonly #report: Report;
  readonly #decoder: DecodeStream | null;
  readonly #matcher: StopMatcher;
  #isEnded = false;

  constructor(context: ModelContext, documents: readonly BanyanDocument[], stopTexts: readonly string[], report: Report) {
    this.#documents = documents;
    this.#report = report;
    this.#decoder = context.tokenizer === null ? null : new DecodeStream(context.tokenizer);
    this.#matcher = new StopMatcher(stopTexts);
  }

  /** The answer follows this token of the prompt. */
  continues(id: number | undefined): void {
    if (id !== undefined) this.#decoder?.push(id);
  }

  /** True if the run is to end, because a stop text has been met; what comes after the end is not heard. */
  take(event: NativeEvent): boolean {
    if (this.stoppedBy !== null || this.#isEnded) return true;
    if (event.type === 'tokens') return this.#takeIds(event.ids);
    if (event.type === 'retrieval') {
      this.retrieval = event;
      this.perDocument = retrievalOf(event, this.#documents);
      this.#report(Object.freeze({ type: 'retrieval', retrieval: this.perDocument }));
    } else {
      this.#report(Object.freeze({ type: 'progress', phase: event.phase, done: event.done, total: event.total }));
    }
    return false;
  }

  /** Hears nothing more, and gives out what was held back. */
  close(isToBeGiven = true): void {
    this.#isEnded = true;
    if (this.stoppedBy !== null || !isToBeGiven) return;
    const text = this.#match(this.#decoder?.flush() ?? '');
    this.#give([], this.stoppedBy === null ? text + this.#matcher.flush() : text);
  }

  #takeIds(ids: Int32Array): boolean {
    const taken: number[] = [];
    let text = '';
    for (const id of ids) {
      taken.push(id);
      text += this.#match(this.#decoder?.push(id) ?? '');
      if (this.stoppedBy !== null) break;
    }
    this.#give(taken, text);
    return this.stoppedBy !== null;
  }

  // The text that can be shown now.
  #match(text: string): string {
    if (text === '') return '';
    const { text: shown, stop } = this.#matcher.push(text);
    if (stop !== undefined) this.stoppedBy = stop;
    return shown;
  }

  #give(ids: number[], text: string): void {
    if (ids.length === 0 && text === '') return;
    this.ids.push(...ids);
    this.text += text;
    this.#report(Object.freeze({ type: 'token', ids: Int32Array.from(ids), text }));
  }
}
