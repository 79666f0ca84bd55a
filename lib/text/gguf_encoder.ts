/**
 * gguf_encoder: encodes as GGUF files mean it: special tokens are cut out of the raw text first, longest first; SentencePiece then sets a space
 * in front of the text and of every text after a special token.
 */
import { Tokenizer as NativeTokenizer } from 'tokenizers';
import { BanyanError } from '../errors.js';
import { nativeIds, type Borders, type EncodeMode, type Encoder } from './encoder.js';
import { spellWords, type GgufTokenizer } from './gguf_tokenizer.js';
import { mergeByScore, type ScoredVocabulary } from './spm.js';
import { wordBorders } from './split.js';

export class GgufEncoder implements Encoder {
  readonly #gguf: GgufTokenizer;
  readonly #native: NativeTokenizer | undefined;
  readonly #scored: ScoredVocabulary;
  readonly #specials: Readonly<Record<'plain' | 'special', Specials>>;
  readonly #borders: Borders;

  constructor(gguf: GgufTokenizer) {
    this.#gguf = gguf;
    this.#scored = { ids: gguf.ids, scoreOf: (id) => gguf.scores[id]!, fallback: (character) => this.#bytes(character) };
    this.#native = gguf.needsScores ? undefined : nativeFrom(gguf.json);
    const textsOf = (ids: readonly number[]): [string, number][] => ids.map((id) => [gguf.vocabulary.textOf(id)!, id]);
    this.#specials = { plain: new Specials(textsOf(gguf.userDefined)), special: new Specials(textsOf(gguf.parsable)) };
    this.#borders = gguf.kind === 'spm' ? { kind: 'merges' } : wordBorders(gguf.patterns, 'any');
  }

  async encode(text: string, { parseSpecial, continues }: EncodeMode): Promise<Int32Array> {
    const ids: number[] = [];
    let wantsPrefix = this.#gguf.addSpacePrefix && !continues;
    for (const fragment of this.#specials[parseSpecial ? 'special' : 'plain'].split(text)) {
      if (typeof fragment === 'number') {
        ids.push(fragment);
        wantsPrefix = this.#gguf.addSpacePrefix;
      } else {
        const plain = await this.#encodePlain(wantsPrefix ? ` ${fragment}` : fragment);
        for (const id of plain) this.#append(ids, id);
        wantsPrefix = false;
      }
    }
    return Int32Array.from(ids);
  }

  bordersOf(): Borders {
    return this.#borders;
  }

  parsedTexts(parseSpecial: boolean): readonly string[] {
    return this.#specials[parseSpecial ? 'special' : 'plain'].texts;
  }

  #encodePlain(text: string): Promise<number[]> {
    const spelled = this.#gguf.kind === 'spm' ? spellWords(text) : text;
    return this.#native === undefined ? Promise.resolve(mergeByScore(spelled, this.#scored)) : nativeIds(this.#native, spelled);
  }

  #append(ids: number[], id: number): void {
    const n = this.#gguf.vocabulary.size;
    if (id < n) ids.push(id);
    else ids.push(...this.#gguf.substitutes[id - n]!);
  }

  // A character that is no token: its bytes, or the unknown token where a byte has none.
  #bytes(character: string): number[] {
    const { ids, unkId } = this.#gguf;
    const found = Array.from(Buffer.from(character, 'utf8'), (byte) => ids.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`));
    const known = found.filter((id) => id !== undefined);
    if (known.length === found.length) return known;
    return unkId === undefined ? [] : [unkId];
  }
}

/** @throws BanyanError BANYAN_BAD_TOKENIZER with the native library's message. */
export function nativeFrom(json: string): NativeTokenizer {
  try {
    return NativeTokenizer.fromString(json);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new BanyanError('BANYAN_BAD_TOKENIZER', `The tokenizer is malformed: ${message}`, { cause: error });
  }
}

// Texts that are tokens wherever they occur.
class Specials {
  readonly texts: readonly string[];
  readonly #ids: readonly [string, number][];
  readonly #any: RegExp | undefined;

  // `ids` has the longest text first.
  constructor(ids: readonly [string, number][]) {
    this.#ids = ids;
    this.texts = ids.map(([text]) => text);
    const escaped = this.texts.map((text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'));
    this.#any = escaped.length === 0 ? undefined : new RegExp(escaped.join('|'));
  }

  // The text in order, specials as ids. Each special claims its places before any shorter one.
  split(text: string): (string | number)[] {
    if (text === '') return [];
    let fragments: (string | number)[] = [text];
    if (this.#any === undefined || !this.#any.test(text)) return fragments;
    for (const [special, id] of this.#ids) {
      if (!text.includes(special)) continue;
      fragments = fragments.flatMap((fragment) => (typeof fragment === 'number' ? [fragment] : around(fragment, special, id)));
    }
    return fragments;
  }
}

function around(text: string, special: string, id: number): (string | number)[] {
  return text.split(special).flatMap((part, i) => [...(i === 0 ? [] : [id]), ...(part === '' ? [] : [part])]);
}
