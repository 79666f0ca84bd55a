/**
 * decode_stream: text out of ids that arrive one at a time. A character whose bytes are spread over several tokens is held back until it is whole.
 */
import type { DecodeOptions, Tokenizer } from './tokenizer.js';

/** All pieces and the flush together are what `tokenizer.decode` makes of all the ids. Constant work per token. */
export class DecodeStream {
  readonly #vocabulary: Tokenizer['vocabulary'];
  readonly #skipSpecial: boolean;
  readonly #utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
  #isStart: boolean;

  /** `skipSpecial` leaves special tokens out; default true. */
  constructor(tokenizer: Pick<Tokenizer, 'vocabulary'>, { skipSpecial = true }: DecodeOptions = {}) {
    this.#vocabulary = tokenizer.vocabulary;
    this.#skipSpecial = skipSpecial;
    this.#isStart = this.#vocabulary.stripsLeadingSpace;
  }

  /** The text that is complete with this token; often empty in the middle of a character. */
  push(id: number): string {
    let bytes = this.#vocabulary.bytesOf(id, this.#skipSpecial);
    if (bytes.length === 0) return '';
    if (this.#isStart && bytes[0] === 0x20) bytes = bytes.subarray(1);
    this.#isStart = false;
    return this.#utf8.decode(bytes, { stream: true });
  }

  /** What an unfinished character leaves: one U+FFFD, or nothing. The stream then starts a new text. */
  flush(): string {
    const rest = this.#utf8.decode();
    this.#isStart = this.#vocabulary.stripsLeadingSpace;
    return rest;
  }
}
