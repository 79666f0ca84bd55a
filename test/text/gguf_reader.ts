/**
 * gguf_reader: just enough of GGUF for the tests: the `tokenizer.ggml.*` keys of a file in memory. Also writes the plain object that the tests of
 * the tokenizer start from.
 */
import type { GgufTokenizerData } from '../../lib/text/gguf_tokenizer.js';

type Value = number | bigint | boolean | string | Value[] | Float32Array | Int32Array;

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  u32(): number {
    this.#at += 4;
    return this.#bytes.readUInt32LE(this.#at - 4);
  }

  u64(): number {
    this.#at += 8;
    return Number(this.#bytes.readBigUInt64LE(this.#at - 8));
  }

  text(): string {
    const n_bytes = this.u64();
    this.#at += n_bytes;
    return this.#bytes.toString('utf8', this.#at - n_bytes, this.#at);
  }

  value(type: number): Value {
    const at = this.#at;
    const bytes = this.#bytes;
    const size = [1, 1, 2, 2, 4, 4, 4, 1][type];
    if (size !== undefined) {
      this.#at += size;
      return [
        () => bytes.readUInt8(at),
        () => bytes.readInt8(at),
        () => bytes.readUInt16LE(at),
        () => bytes.readInt16LE(at),
        () => bytes.readUInt32LE(at),
        () => bytes.readInt32LE(at),
        () => bytes.readFloatLE(at),
        () => bytes.readUInt8(at) !== 0,
      ][type]!();
    }
    if (type === 8) return this.text();
    if (type === 9) {
      const itemType = this.u32();
      const n = this.u64();
      if (itemType === 6) return Float32Array.from({ length: n }, () => this.value(6) as number);
      if (itemType === 5) return Int32Array.from({ length: n }, () => this.value(5) as number);
      return Array.from({ length: n }, () => this.value(itemType));
    }
    this.#at += 8;
    return type === 10 ? bytes.readBigUInt64LE(at) : type === 11 ? bytes.readBigInt64LE(at) : bytes.readDoubleLE(at);
  }
}

/** The tokenizer of a GGUF file of version 2 or 3. */
export function readGgufTokenizerData(file: Buffer): GgufTokenizerData {
  const reader = new Reader(file);
  if (reader.u32() !== 0x46554747) throw new Error('not a GGUF file');
  reader.u32();
  reader.u64();
  const n_keys = reader.u64();
  const keys = new Map<string, Value>();
  for (let i = 0; i < n_keys; i++) {
    const key = reader.text();
    keys.set(key, reader.value(reader.u32()));
  }
  const get = <T>(name: string): T | undefined => keys.get(`tokenizer.ggml.${name}`) as T | undefined;
  return {
    model: get<string>('model') ?? '',
    pre: get('pre'),
    tokens: get<string[]>('tokens') ?? [],
    scores: get('scores'),
    tokenTypes: get('token_type'),
    merges: get('merges'),
    bosId: get('bos_token_id'),
    eosId: get('eos_token_id'),
    unkId: get('unknown_token_id'),
    padId: get('padding_token_id'),
    eotId: get('eot_token_id'),
    addBos: get('add_bos_token'),
    addEos: get('add_eos_token'),
    addSpacePrefix: get('add_space_prefix'),
    chatTemplate: keys.get('tokenizer.chat_template') as string | undefined,
  };
}
