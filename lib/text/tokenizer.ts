/**
 * tokenizer: text to ids and back, from a tokenizer.json or from GGUF metadata. Encoding runs off the main thread.
 */
import { createHash } from 'node:crypto';
import { invalidType, outOfRange } from '../errors.js';
import type { Encoder } from './encoder.js';
import { GgufEncoder } from './gguf_encoder.js';
import { readGgufTokenizer, type GgufTokenizerData } from './gguf_tokenizer.js';
import { JsonEncoder } from './json_encoder.js';
import { TokenizerJson } from './tokenizer_json.js';
import { kEndTexts, type Vocabulary } from './vocabulary.js';

export interface EncodeOptions {
  /** BOS in front and EOS at the end where the tokenizer wants them; default false. */
  addSpecial?: boolean | undefined;
  /** Special tokens written in the text, such as `<|eot_id|>`, become tokens; default false: they stay plain text. */
  parseSpecial?: boolean | undefined;
}

export interface DecodeOptions {
  /** Leave special tokens out; default true. */
  skipSpecial?: boolean | undefined;
}

/** What Banyan reads of a tokenizer_config.json; other keys are ignored. */
export interface TokenizerConfig {
  bos_token?: unknown;
  eos_token?: unknown;
  unk_token?: unknown;
  pad_token?: unknown;
  add_bos_token?: unknown;
  add_eos_token?: unknown;
  /** A template, or several with names, of which `default` is taken. */
  chat_template?: unknown;
}

interface TokenizerParts {
  encoder: Encoder;
  vocabulary: Vocabulary;
  before: readonly number[];
  after: readonly number[];
  bosId: number | undefined;
  eosId: number | undefined;
  unkId: number | undefined;
  padId: number | undefined;
  eosIds: readonly number[];
  chatTemplate: string | undefined;
  identity: () => string;
}

export class Tokenizer {
  /** @internal For encodeSegments. */
  readonly encoder: Encoder;
  /** Tokens by id. */
  readonly vocabulary: Vocabulary;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly unkId: number | undefined;
  readonly padId: number | undefined;
  /** Every id that ends a generation: EOS, end of turn and their relatives. */
  readonly eosIds: readonly number[];
  /** The model's chat template in Jinja; undefined if it has none. */
  readonly chatTemplate: string | undefined;
  /** @internal Ids that `addSpecial` puts before and after a text. */
  readonly frame: { readonly before: readonly number[]; readonly after: readonly number[] };
  readonly #identity: () => string;
  #fingerprint: string | undefined;

  private constructor(parts: TokenizerParts) {
    this.encoder = parts.encoder;
    this.vocabulary = parts.vocabulary;
    this.bosId = parts.bosId;
    this.eosId = parts.eosId;
    this.unkId = parts.unkId;
    this.padId = parts.padId;
    this.eosIds = parts.eosIds;
    this.chatTemplate = parts.chatTemplate;
    this.frame = { before: parts.before, after: parts.after };
    this.#identity = parts.identity;
  }

  /**
   * A tokenizer from the text of a tokenizer.json and, if there is one, the parsed tokenizer_config.json.
   * @throws BanyanError BANYAN_BAD_TOKENIZER, BANYAN_UNSUPPORTED_TOKENIZER
   */
  static async fromJson(text: string, config: TokenizerConfig = {}): Promise<Tokenizer> {
    if (typeof text !== 'string') throw invalidType('the text of a tokenizer.json', 'text', text, Tokenizer.fromJson);
    const json = new TokenizerJson(text);
    const encoder = new JsonEncoder(json);
    const frame = await encoder.frame();
    const { vocabulary, added } = json;
    const idOf = (token: unknown): number | undefined => {
      const content = typeof token === 'object' && token !== null && 'content' in token ? token.content : token;
      if (typeof content !== 'string') return undefined;
      const known = added.find((candidate) => candidate.content === content);
      if (known !== undefined) return known.id;
      for (let id = 0; id < vocabulary.size; id++) if (vocabulary.textOf(id) === content) return id;
      return undefined;
    };
    const endIds = added.filter((token) => kEndTexts.has(token.content)).map((token) => token.id);
    const bosId = 'bos_token' in config ? idOf(config.bos_token) : frame.before[0];
    const eosId = idOf(config.eos_token) ?? frame.after.at(-1) ?? endIds[0];
    const framed = (wanted: unknown, id: number | undefined, byFile: readonly number[]): readonly number[] => {
      if (typeof wanted !== 'boolean') return byFile;
      return wanted && id !== undefined ? [id] : [];
    };
    return new Tokenizer({
      encoder,
      vocabulary,
      before: framed(config.add_bos_token, bosId, frame.before),
      after: framed(config.add_eos_token, eosId, frame.after),
      bosId,
      eosId,
      unkId: idOf(config.unk_token),
      padId: idOf(config.pad_token),
      eosIds: [...new Set([...(eosId === undefined ? [] : [eosId]), ...endIds])],
      chatTemplate: defaultTemplate(config.chat_template),
      identity: () => json.identity(),
    });
  }

  /**
   * A tokenizer from the `tokenizer.ggml.*` keys of a GGUF file.
   * @throws BanyanError BANYAN_BAD_TOKENIZER, BANYAN_UNSUPPORTED_TOKENIZER
   */
  static fromGguf(data: GgufTokenizerData): Promise<Tokenizer> {
    return Promise.resolve().then(() => {
      const gguf = readGgufTokenizer(data);
      return new Tokenizer({
        encoder: new GgufEncoder(gguf),
        vocabulary: gguf.vocabulary,
        before: gguf.addBos ? [gguf.bosId!] : [],
        after: gguf.addEos ? [gguf.eosId!] : [],
        bosId: gguf.bosId,
        eosId: gguf.eosId,
        unkId: gguf.unkId,
        padId: gguf.padId,
        eosIds: gguf.eosIds,
        chatTemplate: data.chatTemplate,
        identity: () => JSON.stringify([gguf.json, gguf.userDefined, gguf.addSpacePrefix, gguf.needsScores ? [...gguf.scores] : null]),
      });
    });
  }

  /** Number of ids; every id is below it. */
  get vocabSize(): number {
    return this.vocabulary.size;
  }

  /** True if `addSpecial` puts BOS in front. */
  get addBos(): boolean {
    return this.bosId !== undefined && this.frame.before.includes(this.bosId);
  }

  /** SHA-256, in hex, of everything that decides about ids. The same vocabulary read from the other kind of file has another one. */
  get fingerprint(): string {
    return (this.#fingerprint ??= createHash('sha256').update(this.#identity()).digest('hex'));
  }

  /** The token as the vocabulary spells it; undefined for an unknown id. */
  tokenText(id: number): string | undefined {
    return this.vocabulary.textOf(id);
  }

  /** The ids of `text` in one piece; encodeSegments is for long texts. Unpaired surrogates count as U+FFFD. */
  async encode(text: string, { addSpecial = false, parseSpecial = false }: EncodeOptions = {}): Promise<Int32Array> {
    if (typeof text !== 'string') throw invalidType('a string', 'text', text);
    const ids = await this.encoder.encode(wellFormed(text), { parseSpecial, continues: false });
    if (!addSpecial) return ids;
    const { before, after } = this.frame;
    const framed = new Int32Array(before.length + ids.length + after.length);
    framed.set(before);
    framed.set(ids, before.length);
    framed.set(after, before.length + ids.length);
    return framed;
  }

  /** The text of `ids`. Bytes that are no UTF-8 become U+FFFD. Unknown ids are left out. */
  decode(ids: Iterable<number>, { skipSpecial = true }: DecodeOptions = {}): string {
    const pieces: Uint8Array[] = [];
    let isStart = this.vocabulary.stripsLeadingSpace;
    for (const id of ids) {
      if (!Number.isInteger(id)) throw outOfRange('an integer', 'a token id', id);
      let bytes = this.vocabulary.bytesOf(id, skipSpecial);
      if (bytes.length === 0) continue;
      if (isStart && bytes[0] === 0x20) bytes = bytes.subarray(1);
      isStart = false;
      pieces.push(bytes);
    }
    return utf8.decode(Buffer.concat(pieces));
  }
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

/** `text` with U+FFFD in the place of every unpaired surrogate. */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, '\ufffd');
}

function defaultTemplate(template: unknown): string | undefined {
  if (typeof template === 'string') return template;
  if (!Array.isArray(template)) return undefined;
  const named = template as { name?: unknown; template?: unknown }[];
  const chosen = named.find((entry) => entry?.name === 'default') ?? named[0];
  return typeof chosen?.template === 'string' ? chosen.template : undefined;
}
