/**
 * segment: the ids of a long text, a segment at a time, equal to the ids of the whole text in one call.
 *
 * Two kinds of cut are known to hold (encoder.ts, `Borders`):
 * - `words`: between two characters that the pre-tokenizer always separates. Merges never cross words, so nothing else is to be shown.
 * - `merges`: one sequence of merges, best pair first, leftmost on a tie. Take the two parts by themselves and look for the first merge that would
 *   run over the cut when they stand together. Until then every step is a step of one of the parts, and what happens within the last token of the
 *   left part and the first of the right one happens in the same order as it does with these two alone. So a cut holds if and only if the two
 *   tokens beside it stay apart when encoded alone; and they do if they were neighbours in the encoding of a window over the cut. For the same
 *   reason a run of neighbouring tokens of a window is the encoding of its own text. Hence: encode a window, give out all but its last tokens,
 *   begin the next window with the text of those, and compare its first token with the one that stood there before.
 * No cut is made near a text that is parsed as a special token. Where no cut holds the window grows.
 */
import { outOfRange } from '../errors.js';
import { wellFormed, type Tokenizer } from './tokenizer.js';
import { TokenKind, kWordMark } from './vocabulary.js';

export interface SegmentOptions {
  /** Checked between segments; the generator then throws `signal.reason`. */
  signal?: AbortSignal | undefined;
  /** Size of a segment in UTF-16 units; default 65536. Memory is proportional to it unless the text has no place to cut. */
  segmentChars?: number | undefined;
  /** Special tokens written in the text become tokens; default false. */
  parseSpecial?: boolean | undefined;
}

export type TextSource = string | Iterable<string> | AsyncIterable<string>;

/**
 * The ids of `text` in order, without BOS and EOS, one array per segment. Pieces of an iterable may end anywhere, within a surrogate pair too.
 * @throws the signal's reason after an abort; RangeError for a segment size below 16.
 */
export async function* encodeSegments(
  tokenizer: Tokenizer,
  text: TextSource,
  options: SegmentOptions = {},
): AsyncGenerator<Int32Array, void, undefined> {
  const { signal, segmentChars = 65536, parseSpecial = false } = options;
  if (!Number.isInteger(segmentChars) || segmentChars < 16)
    throw outOfRange('an integer of at least 16', 'segmentChars', segmentChars, encodeSegments);
  signal?.throwIfAborted();
  const source = new Source(text);
  const borders = tokenizer.encoder.bordersOf(parseSpecial);
  const job: Job = { tokenizer, source, segmentChars, parseSpecial, guard: new Guard(tokenizer.encoder.parsedTexts(parseSpecial)) };
  const segments = borders.kind === 'merges' ? mergeSegments(job) : wordSegments(job, borders.kind === 'words' ? borders.isBorder : undefined);
  try {
    for await (const ids of segments) {
      signal?.throwIfAborted();
      if (ids.length > 0) yield ids;
      signal?.throwIfAborted();
    }
  } finally {
    await source.close();
  }
}

interface Job {
  readonly tokenizer: Tokenizer;
  readonly source: Source;
  readonly segmentChars: number;
  readonly parseSpecial: boolean;
  readonly guard: Guard;
}

// Segments that end where the pre-tokenizer splits; without `isBorder` the whole text is one.
async function* wordSegments(job: Job, isBorder: ((before: string, after: string) => boolean) | undefined): AsyncGenerator<Int32Array> {
  const { source, guard, segmentChars, parseSpecial } = job;
  const encode = (text: string): Promise<Int32Array> => job.tokenizer.encoder.encode(text, { parseSpecial, continues: source.isContinued });
  for (let size = isBorder === undefined ? Infinity : segmentChars; ;) {
    await source.fill(size + guard.reach);
    if (source.isDone && source.text.length <= size) {
      yield await encode(source.text);
      return;
    }
    const at = isBorder === undefined ? 0 : lastBorder(source.text, size, Math.max(0, size - segmentChars), isBorder, guard);
    if (at === 0) {
      size *= 2;
      continue;
    }
    const ids = await encode(source.text.slice(0, at));
    source.drop(at);
    yield ids;
    size = segmentChars;
  }
}

function lastBorder(text: string, from: number, to: number, isBorder: (before: string, after: string) => boolean, guard: Guard): number {
  for (let at = Math.min(from, text.length - 1); at > to; at--) {
    if (isBorder(text[at - 1]!, text[at]!) && guard.allows(text, at)) return at;
  }
  return 0;
}

// A cut between two tokens of a window: `ids` are the tokens before it, `next` is the one after it.
interface Cut {
  readonly at: number;
  readonly ids: Int32Array;
  readonly next: number;
}

// Tokens of a window that the next one encodes again, so that the first of them is seen with what follows; the first possible number is taken.
const kOverlaps = [16, 32, 64, 8, 4, 2];

// Segments of a tokenizer without pre-tokenizer: windows that overlap, each confirming the cut before it.
async function* mergeSegments({ tokenizer, source, guard, segmentChars, parseSpecial }: Job): AsyncGenerator<Int32Array> {
  let doubt: Cut | undefined;
  for (let size = segmentChars; ;) {
    const start = doubt?.at ?? 0;
    await source.fill(start + size + 1);
    const isLast = source.isDone && source.text.length <= start + size;
    const window = source.text.slice(start, isLast ? undefined : wholeCharacters(source.text, start + size));
    const ids = await tokenizer.encoder.encode(window, { parseSpecial, continues: source.isContinued || start > 0 });
    if (doubt !== undefined) {
      if (ids[0] !== doubt.next) {
        // What follows reaches back over the cut: take both windows as one, and more.
        size = start + 2 * window.length;
        doubt = undefined;
        continue;
      }
      source.drop(start);
      yield doubt.ids;
      doubt = undefined;
    }
    if (isLast) {
      yield ids;
      return;
    }
    doubt = lastCut(tokenizer, window, ids, guard);
    size = doubt === undefined ? 2 * window.length : segmentChars;
  }
}

function lastCut({ vocabulary }: Tokenizer, window: string, ids: Int32Array, guard: Guard): Cut | undefined {
  const isPlain = (id: number): boolean => vocabulary.kindOf(id) === TokenKind.kText || vocabulary.kindOf(id) === TokenKind.kByte;
  for (const overlap of kOverlaps) {
    const n = ids.length - overlap;
    if (n < 1 || !isPlain(ids[n - 1]!) || !isPlain(ids[n]!)) continue;
    // The text of the tokens behind the cut, if they are the end of the window letter by letter.
    const behind = Buffer.concat(Array.from(ids.subarray(n), (id) => vocabulary.bytesOf(id, false))).toString('utf8');
    const at = window.length - behind.length;
    if (at > 0 && window.slice(at).replaceAll(kWordMark, ' ') === behind && guard.allows(window, at))
      return { at, ids: ids.subarray(0, n), next: ids[n]! };
  }
  return undefined;
}

// Not within a surrogate pair.
function wholeCharacters(text: string, end: number): number {
  return /[\ud800-\udbff]/.test(text[end - 1] ?? '') ? end - 1 : end;
}

// Keeps cuts away from texts that are parsed as special tokens.
class Guard {
  /** Length of the longest such text. */
  readonly reach: number;
  readonly #texts: readonly string[];

  constructor(texts: readonly string[]) {
    this.#texts = texts;
    this.reach = texts.reduce((most, text) => Math.max(most, text.length), 0);
  }

  /** True if none of the texts lies at the cut or begins or ends near it. */
  allows(text: string, at: number): boolean {
    if (this.reach === 0) return true;
    if (at + this.reach > text.length) return false;
    const around = text.slice(Math.max(0, at - this.reach), at + this.reach);
    return !this.#texts.some((special) => around.includes(special));
  }
}

// Size of the pieces that a plain string is taken in.
const kPieceChars = 65536;

// The text still to be encoded, well formed, as far as it was read.
class Source {
  text = '';
  isDone = false;
  /** True once some text was dropped: what remains continues it. */
  isContinued = false;
  readonly #pieces: Iterator<string> | AsyncIterator<string>;
  // A high surrogate that ended a piece.
  #half = '';

  constructor(text: TextSource) {
    if (typeof text === 'string') this.#pieces = slices(text);
    else this.#pieces = Symbol.asyncIterator in text ? text[Symbol.asyncIterator]() : text[Symbol.iterator]();
  }

  /** Reads until `text` has `n_chars` UTF-16 units or the source is done. */
  async fill(n_chars: number): Promise<void> {
    const parts: string[] = [];
    for (let n = this.text.length; !this.isDone && n < n_chars;) {
      const { done, value } = await this.#pieces.next();
      const piece = done === true ? this.#half : this.#half + value;
      this.isDone = done === true;
      const end = this.isDone ? piece.length : wholeCharacters(piece, piece.length);
      this.#half = piece.slice(end);
      const part = wellFormed(piece.slice(0, end));
      parts.push(part);
      n += part.length;
    }
    if (parts.length > 0) this.text += parts.join('');
  }

  drop(n_chars: number): void {
    this.text = this.text.slice(n_chars);
    this.isContinued ||= n_chars > 0;
  }

  /** Tells the source that no more is read. */
  async close(): Promise<void> {
    if (!this.isDone) await this.#pieces.return?.();
  }
}

function* slices(text: string): Generator<string, undefined> {
  for (let at = 0; at < text.length; at += kPieceChars) yield text.slice(at, at + kPieceChars);
}
