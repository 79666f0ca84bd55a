import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { encodeSegments, type SegmentOptions, type TextSource } from '../../lib/text/segment.js';
import { wordBorders } from '../../lib/text/split.js';
import { Tokenizer } from '../../lib/text/tokenizer.js';
import { book, kVocabularies, vocabulary, whyNoBook, whyNoVectors } from './shared_vectors.js';
import { byteJson, byteVocabulary, random, wordJson, wordVocabulary } from './small_vocabularies.js';

async function collect(tokenizer: Tokenizer, text: TextSource, options?: SegmentOptions): Promise<{ ids: number[]; n_segments: number }> {
  const ids: number[] = [];
  let n_segments = 0;
  for await (const segment of encodeSegments(tokenizer, text, options)) {
    for (const id of segment) ids.push(id);
    n_segments++;
  }
  return { ids, n_segments };
}

// Texts that invite a wrong cut.
function trickyText(seed: number, n_parts: number): string {
  const next = random(seed);
  const parts = [
    ' ', '  ', '\n', '\n\n', '\r\n', '\t', ' \n', "'s", "'", 'hello', ' hello world', 'aba', 'ab'.repeat(9), 'wor', '12345', ' 7', '1,000.5', '。', '，', '東京タワー',
    '漢字かな交じり文', 'e\u0301', 'A\u030a', '각', '\u1100\u1161', '👩‍👩‍👧‍👦', '👍🏽', '\u{1f1e9}\u{1f1ea}', '…', '“q”', ' '.repeat(40), '\n'.repeat(20), '='.repeat(70), 'ééé', 'ß', '<tool>',
    '<|begin|>', '<', 'tool>', '▁', '\u00a0', '\u3000', '\ufeff', '\u0085', 'Ωmega', 'ſ', '\0', 'https://x.y/z?a=b&c=d', '{"k": [1, 2]}', 'नमस्ते', 'ไทย', '\ufffd',
  ]; // prettier-ignore
  return Array.from({ length: n_parts }, () => parts[next(parts.length)]!).join('');
}

const kSmall: [string, () => Promise<Tokenizer>][] = [
  ['small bytes, llama-bpe', () => Tokenizer.fromGguf(byteVocabulary())],
  ['small bytes, deepseek-llm', () => Tokenizer.fromGguf(byteVocabulary('deepseek-llm'))],
  ['small bytes, default', () => Tokenizer.fromGguf(byteVocabulary('default'))],
  ['small bytes, tekken', () => Tokenizer.fromGguf(byteVocabulary('tekken'))],
  ['small bytes, bloom', () => Tokenizer.fromGguf(byteVocabulary('bloom'))],
  ['small words', () => Tokenizer.fromGguf(wordVocabulary())],
  ['small words of equal score', () => Tokenizer.fromGguf({ ...wordVocabulary(), scores: new Float32Array(286) })],
  ['byte-level json', () => Tokenizer.fromJson(byteJson())],
  ['byte-level json with NFC', () => Tokenizer.fromJson(byteJson({ normalizer: { type: 'NFC' } }))],
  ['words json, prepend', () => Tokenizer.fromJson(wordJson('prepend'))],
  ['words json, metaspace', () => Tokenizer.fromJson(wordJson('metaspace'))],
];

async function expectSame(tokenizer: Tokenizer, text: string, options: SegmentOptions = {}): Promise<number> {
  const whole = [...(await tokenizer.encode(text, { parseSpecial: options.parseSpecial }))];
  const { ids, n_segments } = await collect(tokenizer, text, options);
  const at = whole.findIndex((id, i) => id !== ids[i]);
  expect(at, at < 0 ? '' : `differs at token ${at}: ${JSON.stringify(tokenizer.decode(whole.slice(Math.max(0, at - 5), at + 5)))}`).toBe(-1);
  expect(ids.length).toBe(whole.length);
  return n_segments;
}

describe.each(kSmall)('segments of %s', { timeout: 60_000 }, (_name, make) => {
  it('have the ids of the whole text', async () => {
    const tokenizer = await make();
    for (let seed = 1; seed <= 6; seed++) {
      const text = trickyText(seed, 300);
      for (const segmentChars of [16, 50, 200]) {
        await expectSame(tokenizer, text, { segmentChars });
        await expectSame(tokenizer, text, { segmentChars, parseSpecial: true });
      }
    }
  });

  it('do not depend on how the text arrives', async () => {
    const tokenizer = await make();
    const text = trickyText(11, 200);
    const whole = [...(await tokenizer.encode(text))];
    const next = random(3);
    function* pieces(): Generator<string> {
      for (let at = 0; at < text.length;) yield text.slice(at, (at += next(7)));
    }
    async function* later(): AsyncGenerator<string> {
      for (const piece of pieces()) yield await Promise.resolve(piece);
    }
    expect((await collect(tokenizer, pieces(), { segmentChars: 64 })).ids).toEqual(whole);
    expect((await collect(tokenizer, later(), { segmentChars: 64 })).ids).toEqual(whole);
  });
});

describe('segments', () => {
  it('come one by one and are small', async () => {
    for (const make of [byteVocabulary, wordVocabulary]) {
      const tokenizer = await Tokenizer.fromGguf(make());
      const { n_segments } = await collect(tokenizer, 'hello world, '.repeat(1000), { segmentChars: 200 });
      expect(n_segments).toBeGreaterThan(50);
    }
  });

  it('of nothing are none', async () => {
    const tokenizer = await Tokenizer.fromGguf(wordVocabulary());
    for (const nothing of ['', [], ['', '']]) expect(await collect(tokenizer, nothing)).toEqual({ ids: [], n_segments: 0 });
  });

  it('replace unpaired surrogates as encode does', async () => {
    const tokenizer = await Tokenizer.fromGguf(byteVocabulary());
    const whole = [...(await tokenizer.encode('a\ud800b😀\udc00'))];
    expect((await collect(tokenizer, ['a\ud800', 'b\ud83d', '\ude00', '\udc00'])).ids).toEqual(whole);
    expect((await collect(tokenizer, ['a\ud800'])).ids).toEqual([...(await tokenizer.encode('a\ufffd'))]);
  });

  it('end with the reason of an abort, and close the source', async () => {
    const tokenizer = await Tokenizer.fromGguf(byteVocabulary());
    const abort = new AbortController();
    let isClosed = false;
    function* endless(): Generator<string> {
      try {
        for (;;) yield 'hello world ';
      } finally {
        isClosed = true;
      }
    }
    let n_segments = 0;
    const reason = new Error('enough');
    const reading = (async () => {
      for await (const _ids of encodeSegments(tokenizer, endless(), { segmentChars: 100, signal: abort.signal }))
        if (++n_segments === 3) abort.abort(reason);
    })();
    await expect(reading).rejects.toBe(reason);
    expect(n_segments).toBe(3);
    expect(isClosed).toBe(true);
    await expect(collect(tokenizer, 'x', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await expect(collect(tokenizer, 'x', { segmentChars: 3 })).rejects.toThrow(RangeError);
  });
});

describe('borders of a pre-tokenizer', () => {
  const bordersOf = (...patterns: string[]): ((before: string, after: string) => boolean) => {
    const borders = wordBorders(patterns, 'any');
    return borders.kind === 'words' ? borders.isBorder : () => false;
  };
  const gpt2 = bordersOf("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+");

  it.each([
    ['a', ' ', true],
    ['a', 'b', false],
    [' ', 'a', false],
    [' ', ' ', false],
    ['a', '1', true],
    ['1', '2', false],
    ['.', 'a', true],
    // "'s" is a match of its own.
    ["'", 's', false],
    ["'", 'x', true],
    // At the end of a text the white space would be one match; before "x" it leaves its last character over.
    ['\n', 'x', false],
    ['。', '東', true],
  ])('between %j and %j: %s', (before, after, expected) => {
    expect(gpt2(before, after)).toBe(expected);
  });

  it('gives no borders for what it cannot read', () => {
    for (const pattern of ['(?<=a)b', 'a$', '\\bx', '(?=ab)c', '(a)\\1', '[[:alpha:]]+', '(?>a)b', '('])
      expect(wordBorders([pattern], 'any').kind).toBe('none');
    expect(bordersOf('\\p{N}', '(?<=a)b')('1', '2')).toBe(true);
    expect(bordersOf('\\p{N}', '(?<=a)b')('a', ' ')).toBe(false);
    expect(wordBorders([undefined, 'a'], 'any').kind).toBe('none');
  });

  it('asks nothing of letters that a normalizer may change', () => {
    const borders = wordBorders(['\\p{L}+|\\s+'], 'ascii');
    expect(borders.kind === 'words' && borders.isBorder('é', ' ')).toBe(false);
    expect(gpt2('\u0301', ' ')).toBe(false);
  });
});

const skipped = whyNoBook ?? whyNoVectors;
describe.skipIf(skipped !== undefined)(`segments of a book${skipped === undefined ? '' : ` (skipped: ${skipped})`}`, { timeout: 300_000 }, () => {
  it.each(kVocabularies)('%s', async (name) => {
    const tokenizer = await vocabulary(name);
    const text = book(2_000_000);
    const n_segments = await expectSame(tokenizer, text);
    expect(n_segments).toBeGreaterThan(text.length / 65536 - 1);
    await expectSame(tokenizer, text.slice(0, 60_000), { segmentChars: 200 });
    await expectSame(tokenizer, trickyText(5, 2000), { segmentChars: 200 });
  });
});

const kDemo = 'models/banyan-demo/tokenizer.json';
describe.skipIf(!existsSync(kDemo))('segments with the demo model (skipped where it is missing)', { timeout: 60_000 }, () => {
  it('have the ids of the whole text', async () => {
    const tokenizer = await Tokenizer.fromJson(readFileSync(kDemo, 'utf8'));
    if (whyNoBook === undefined) await expectSame(tokenizer, book(300_000), { segmentChars: 5000 });
    await expectSame(tokenizer, trickyText(5, 2000), { segmentChars: 200 });
  });
});
