/** scoring: how likely a continuation is behind a prompt: options to a native request, log-probabilities back. */
import type { NativeRetrieval, NativeSession } from '../types/native.js';
import type { ScoreOptions, ScoreResult } from '../types/public.js';
import { raceAbort, withCancel } from './abort.js';
import type { Check } from './arguments.js';
import { tokenizerOf, type ModelContext } from './context.js';
import { nativeDocument, type BanyanDocument } from './document.js';
import { callNative, outOfRange, type Caller } from './errors.js';
import { checkRoom } from './generation.js';
import type { LocalTokens } from './prompt.js';
import { retrievalOf } from './retrieval.js';

/** Throws TypeError and RangeError. */
export function checkScoreOptions(options: ScoreOptions | undefined, check: Check, caller: Caller): Partial<ScoreOptions> {
  const given = check.options(options, ['queryText', 'queryIndex', 'signal']);
  check.signal(given.signal);
  if (given.queryText !== undefined && check.string(given.queryText, 'queryText') === '') {
    throw outOfRange('non-empty string', 'queryText', given.queryText, caller);
  }
  if (given.queryIndex !== undefined) check.integer(given.queryIndex, 'queryIndex', 0, 2 ** 31 - 1);
  return given;
}

/** The continuation as ids, once its turn has come. Throws TypeError, RangeError, BANYAN_UNSUPPORTED_TOKENIZER. */
export function continuationOf(
  context: ModelContext,
  continuation: unknown,
  check: Check,
  caller: Caller,
): (signal: AbortSignal) => Promise<Int32Array> {
  if (continuation instanceof Int32Array) {
    if (continuation.length === 0) throw outOfRange('at least one token', 'continuation', continuation, caller);
    const ids = check.ids(continuation, 'continuation', context.info.vocabSize);
    return () => Promise.resolve(ids);
  }
  const text = check.string(continuation, 'continuation');
  if (text === '') throw outOfRange('non-empty string', 'continuation', text, caller);
  const tokenizer = tokenizerOf(context);
  return (signal) => raceAbort(tokenizer.encode(text), signal);
}

export interface Scoring {
  context: ModelContext;
  session: NativeSession;
  documents: readonly BanyanDocument[];
  prompt: LocalTokens;
  targets: Int32Array;
}

/** Rejects with the signal's reason or a BanyanError. */
export async function score({ context, session, documents, prompt, targets }: Scoring, signal: AbortSignal): Promise<ScoreResult> {
  session.setDocuments(documents.map(nativeDocument));
  const room = callNative(() => session.room(prompt.ids.length));
  checkRoom(prompt.ids.length, targets.length, room, context.info.window);
  let opened: NativeRetrieval | null = null;
  const query = prompt.queryIndex === undefined ? {} : { queryIndex: prompt.queryIndex };
  const { logprobs, cachedTokens } = await withCancel(signal, (cancel) =>
    session.score({ ids: prompt.ids, targets, ...query }, cancel, (event) => {
      if (event.type === 'retrieval') opened = event;
    }),
  );
  const logprob = logprobs.reduce((sum, each) => sum + each, 0);
  return Object.freeze<ScoreResult>({
    ids: targets,
    logprobs,
    logprob,
    perplexity: Math.exp(-logprob / logprobs.length),
    promptTokens: prompt.ids.length,
    cachedTokens,
    retrieval: Object.freeze(opened === null ? [] : retrievalOf(opened, documents)),
  });
}
