import { describe, expect, it } from 'vitest';
import { DecodeStream } from '../../lib/text/decode_stream.js';
import { Tokenizer } from '../../lib/text/tokenizer.js';
import { kVocabularies, vocabulary, whyNoVectors } from './shared_vectors.js';
import { byteJson, byteVocabulary, random, wordJson, wordVocabulary } from './small_vocabularies.js';

function streamed(tokenizer: Tokenizer, ids: Iterable<number>, skipSpecial: boolean): string[] {
  const stream = new DecodeStream(tokenizer, { skipSpecial });
  const pieces = Array.from(ids, (id) => stream.push(id));
  return [...pieces, stream.flush()];
}

async function check(tokenizer: Tokenizer, seed: number): Promise<void> {
  const next = random(seed);
  for (let round = 0; round < 200; round++) {
    const ids = Array.from({ length: next(40) }, () => next(tokenizer.vocabSize + 2) - 1);
    const skipSpecial = round % 2 === 0;
    expect(streamed(tokenizer, ids, skipSpecial).join('')).toBe(tokenizer.decode(ids, { skipSpecial }));
  }
  for (const text of [' héllo 👩‍👩‍👧‍👦 \u{1f1e9} 東京', '\ufeffa', '€'.repeat(20)]) {
    const pieces = streamed(tokenizer, await tokenizer.encode(text), true);
    expect(pieces.join('')).toBe(text);
    for (const piece of pieces) expect(piece).not.toMatch(/[\ud800-\udbff]$|^[\udc00-\udfff]|\ufffd/);
  }
}

describe('DecodeStream', () => {
  it.each([
    ['byte-level', () => Tokenizer.fromGguf(byteVocabulary())],
    ['words', () => Tokenizer.fromGguf(wordVocabulary())],
    ['byte-level json', () => Tokenizer.fromJson(byteJson())],
    ['words json', () => Tokenizer.fromJson(wordJson('prepend'))],
  ])('gives what decode gives: %s', async (_name, make) => check(await make(), 42));

  it('holds half a character back', async () => {
    const tokenizer = await Tokenizer.fromGguf(wordVocabulary());
    const byte = (value: number): number => 3 + value;
    const stream = new DecodeStream(tokenizer);
    expect([0xf0, 0x9f, 0x98].map((value) => stream.push(byte(value)))).toEqual(['', '', '']);
    expect(stream.push(byte(0x80))).toBe('😀');
    expect(stream.push(byte(0xe2))).toBe('');
    expect(stream.flush()).toBe('\ufffd');
    expect(stream.push(tokenizer.vocabSize)).toBe('');
  });

  it.skipIf(whyNoVectors !== undefined).each(kVocabularies)('gives what decode gives: %s', { timeout: 60_000 }, async (name) =>
    check(await vocabulary(name), 43),
  );
});
