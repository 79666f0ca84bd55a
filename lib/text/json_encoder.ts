/**
 * json_encoder: encodes as a tokenizer.json says, through the native library. Up to four variants of the tokenizer, each built when first needed.
 */
import type { Tokenizer as NativeTokenizer } from 'tokenizers';
import { nativeIds, type Borders, type EncodeMode, type Encoder } from './encoder.js';
import { nativeFrom } from './gguf_encoder.js';
import type { TokenizerJson } from './tokenizer_json.js';

export class JsonEncoder implements Encoder {
  readonly #json: TokenizerJson;
  readonly #variants = new Map<string, NativeTokenizer>();
  readonly #borders = new Map<boolean, Borders>();

  /** @throws BanyanError BANYAN_BAD_TOKENIZER if the native library refuses the file. */
  constructor(json: TokenizerJson) {
    this.#json = json;
    this.#variant(false, false);
  }

  async encode(text: string, { parseSpecial, continues }: EncodeMode): Promise<Int32Array> {
    return Int32Array.from(await nativeIds(this.#variant(parseSpecial, continues), text));
  }

  bordersOf(parseSpecial: boolean): Borders {
    let borders = this.#borders.get(parseSpecial);
    if (borders === undefined) this.#borders.set(parseSpecial, (borders = this.#json.bordersOf(parseSpecial)));
    return borders;
  }

  parsedTexts(parseSpecial: boolean): readonly string[] {
    return this.#json.added.filter((token) => parseSpecial || !token.isSpecial).map((token) => token.content);
  }

  /** The ids that the file's post-processor puts before and after a text. */
  async frame(): Promise<{ before: number[]; after: number[] }> {
    const native = this.#variant(false, false);
    const bare = await nativeIds(native, 'a');
    const framed = (await native.encode('a', null, { addSpecialTokens: true })).getIds();
    const at = framed.findIndex((_, i) => bare.every((id, j) => framed[i + j] === id));
    return bare.length === 0 || at < 0 ? { before: [], after: [] } : { before: framed.slice(0, at), after: framed.slice(at + bare.length) };
  }

  #variant(parseSpecial: boolean, continues: boolean): NativeTokenizer {
    const hasSpecial = parseSpecial && this.#json.added.some((token) => token.isSpecial);
    const isContinued = continues && this.#json.hasPrefix;
    const key = `${hasSpecial} ${isContinued}`;
    let native = this.#variants.get(key);
    if (native === undefined) this.#variants.set(key, (native = nativeFrom(this.#json.variant(hasSpecial, isContinued))));
    return native;
  }
}
