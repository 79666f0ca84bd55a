/** input: what a document is made of (text, pieces of text, ids) as segments of ids, with an estimate of how many there will be. */
import { raceAbort } from './abort.js';
import type { Check } from './arguments.js';
import { tokenizerOf, type ModelContext } from './context.js';
import { invalidType } from './errors.js';
import { encodeSegments } from './text/segment.js';

export interface Segments {
  /** Pulls the next segment; null at the end. Rejects at once when the signal aborts. */
  next(): Promise<Int32Array | null>;
  /** Tokens in all, given that so many came so far; an estimate while text is being read, 0 while nothing is known. */
  total(tokens: number): number;
  /** To be called when the segments are not read to the end. */
  stop(): void;
}

// Characters of a string handed on at once, so that progress and aborts are noticed in between.
const kPieceLength = 1 << 16;

export function segmentsOf(context: ModelContext, input: unknown, signal: AbortSignal | undefined, check: Check): Segments {
  if (input instanceof Int32Array || isNumbers(input)) return idSegments(check.ids(input, 'input', context.info.vocabSize));
  if (typeof input === 'string') return textSegments(context, cut(input), input.length, signal);
  if (isIterable(input)) return textSegments(context, checked(input), 0, signal);
  throw invalidType('string, token ids or an iterable of strings', 'input', input);
}

// An array of numbers; an array of anything else is an iterable of text.
const isNumbers = (input: unknown): input is readonly number[] => Array.isArray(input) && (input.length === 0 || typeof input[0] === 'number');

const isIterable = (input: unknown): input is Iterable<unknown> | AsyncIterable<unknown> =>
  typeof input === 'object' && input !== null && (Symbol.iterator in input || Symbol.asyncIterator in input);

function idSegments(ids: Int32Array): Segments {
  let isRead = ids.length === 0;
  return {
    next: () => {
      const segment = isRead ? null : ids;
      isRead = true;
      return Promise.resolve(segment);
    },
    total: () => ids.length,
    stop: () => {},
  };
}

function* cut(text: string): Generator<string> {
  for (let begin = 0; begin < text.length;) {
    let end = Math.min(begin + kPieceLength, text.length);
    if (end < text.length && (text.charCodeAt(end - 1) & 0xfc00) === 0xd800) end++; // not within a surrogate pair
    yield text.slice(begin, end);
    begin = end;
  }
}

async function* checked(input: Iterable<unknown> | AsyncIterable<unknown>): AsyncGenerator<string> {
  for await (const piece of input) {
    if (typeof piece !== 'string') throw invalidType('string', 'a piece of the input', piece);
    yield piece;
  }
}

// `length`: characters of the whole text, 0: unknown.
function textSegments(
  context: ModelContext,
  pieces: Iterable<string> | AsyncIterable<string>,
  length: number,
  signal: AbortSignal | undefined,
): Segments {
  let read = 0;
  let last = 0; // of these, in the newest piece: it may not be tokenized yet
  let isEnded = false;
  async function* counted(): AsyncGenerator<string> {
    for await (const piece of pieces) {
      read += piece.length;
      last = piece.length;
      yield piece;
    }
  }
  const iterator = encodeSegments(tokenizerOf(context), counted(), signal === undefined ? {} : { signal })[Symbol.asyncIterator]();
  return {
    next: async () => {
      const { done, value } = await raceAbort(iterator.next(), signal);
      if (done === true) isEnded = true;
      return done === true ? null : value;
    },
    total: (tokens) => {
      if (isEnded) return tokens;
      return read > 0 && length > 0 ? Math.max(tokens, Math.round((tokens / (read - last || read)) * length)) : 0;
    },
    stop: () => {
      // Not awaited: a source that never answers must not hold up an abort.
      iterator.return?.(undefined)?.then(undefined, () => {});
    },
  };
}
