/** eval: metrics, plots and the commands that measure. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { Model } from '../../lib/index.js';
import { isAnswer, kTasks, plant } from '../../lib/cli/eval/facts.js';
import { heatmap } from '../../lib/cli/eval/heatmap.js';
import { kInfinitebench } from '../../lib/cli/eval/infinitebench.js';
import { kLongbench } from '../../lib/cli/eval/longbench.js';
import * as metrics from '../../lib/cli/eval/metrics.js';
import { draw, randomFrom } from '../../lib/cli/eval/random.js';
import { markdownTable, shortLength } from '../../lib/cli/eval/markdown.js';
import { meanOf } from '../../lib/cli/eval/statistics.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const none = { classes: [] };

describe('metrics', () => {
  test.each([
    ['wordF1', 'The red fox.', 'a red fox', 1],
    ['wordF1', 'red red fox', 'red fox jumps', 2 / 3],
    ['wordF1', 'nothing of it', 'red fox', 0],
    ['rougeL', 'the cat sat on the mat', 'the cat is on the mat', 10 / 12],
    ['rougeL', 'mat the on', 'on the mat', 2 / 6],
    ['exactMatch', 'The  Red Fox!', 'red fox', 1],
    ['exactMatch', 'red foxes', 'red fox', 0],
    ['numberShare', 'Paragraph 3 or 4', 'Paragraph 3', 0.5],
    ['numberShare', 'none', '3', 0],
    ['firstInteger', 'is 71432. Yes', '71432', 1],
    ['firstInteger', '714321', '71432', 0],
    ['firstNumber', 'about 2.50', '2.5', 1],
    ['lastWord', 'it returns 12', '12', 1],
    ['containsWord', '"value: abc-1".', 'abc-1', 1],
    ['containsWord', 'abcd', 'abc', 0],
    ['containsText', 'It was JANE.', 'Jane', 1],
    ['codeSimilarity', '\n# a comment\nreturn x\n', 'return y', 14 / 16],
  ] as const)('%s of %j against %j', (name, answer, reference, expected) => {
    expect(metrics[name](answer, reference, none)).toBeCloseTo(expected, 10);
  });
  test('classes', () => {
    const classes = ['Person', 'Place', 'Place name'];
    expect(metrics.classification('a Person', 'Person', { classes })).toBe(1);
    expect(metrics.classification('Person or Place', 'Place', { classes })).toBe(1 / 2);
    expect(metrics.classification('Place name', 'Place name', { classes })).toBe(1); // the class within it does not count
    expect(metrics.classification('City', 'Place', { classes })).toBe(0);
  });
  test('choices', () => {
    const classes = ['the dog', 'the cat', 'the cow', 'the pig'];
    for (const [answer, expected] of [['B', 1], ['(B) the cat', 1], ['C.', 0], ['the cat, not the dog', 1], ['the dog', 0], ['', 0]] as const) expect(metrics.choice(answer, 'the cat', { classes }), answer).toBe(expected); // prettier-ignore
  });
});

test('facts stand around their depths, in order, at other places of a chunk each time', async () => {
  const model = { tokenize: (text: string) => Promise.resolve(Int32Array.from(text.trim().split(' '), (word) => -word.length)) } as unknown as Model;
  const [random, text, depths] = [randomFrom(3), Int32Array.from({ length: 50_000 }, (_, i) => i), [0, 0.5, 1]];
  const chunkPlaces = new Set<number>();
  for (let i = 0; i < 20; i++) {
    const { ids, facts } = await plant(model, kTasks[0]!, text, 25_600, depths, random);
    expect(ids).toHaveLength(25_600);
    expect(ids.filter((id) => id >= 0).every((id, j, all) => j === 0 || id === all[j - 1]! + 1)).toBe(true); // the text goes on behind a fact
    facts.forEach(({ value, tokens: [begin, end] }, j) => {
      expect([...ids.subarray(begin, end)]).toEqual([-value.length]);
      expect(Math.abs(begin / 25_600 - depths[j]!)).toBeLessThan(0.021);
    });
    chunkPlaces.add(facts[1]!.tokens[0] % 256);
  }
  expect(chunkPlaces.size).toBeGreaterThan(10);
});

test.each([
  ['red', [7], ' red. And', [7, 1, 2], true],
  ['red', [7], ' redirect', [9], false], // another word
  ['red', [7], ' redarar', [7, 3, 3], true], // the fact's own token, then babble
  ['red', [7], ' blue', [8], false],
  ['123', [4, 5], ' 123. Remember', [4, 5, 1], true],
  ['123', [4, 5], ' 1234', [4, 5, 6], false], // another number
  ['123', [4, 5], ' 12', [4], false],
])('%s %j: %j %j is an answer: %j', (value, valueIds, text, ids, expected) => {
  expect(isAnswer(value, Int32Array.from(valueIds), text, Int32Array.from(ids))).toBe(expected);
});

test('random numbers repeat, and draws are different ones', () => {
  const [a, b] = [randomFrom(7), randomFrom(7)];
  expect(Array.from({ length: 5 }, a)).toEqual(Array.from({ length: 5 }, b));
  const drawn = draw([...'abcdefgh'], 8, a);
  expect([...drawn].sort().join('')).toBe('abcdefgh');
  const passkey = kTasks.find(({ name }) => name === 'passkey')!;
  expect(passkey.value(a, [])).toMatch(/^\d{5}$/);
});

test('means, tables and heat maps', () => {
  expect(meanOf([1, 2, 3])).toEqual({ mean: 2, error: Math.sqrt(1 / 3), n: 3 });
  const { mean, error } = meanOf([1, 2, 1, 2]);
  expect([mean, error]).toEqual([1.5, expect.closeTo(Math.sqrt(1 / 3) / 2, 12)]);
  expect([shortLength(4096), shortLength(512), shortLength(1500)]).toEqual(['4K', '512', '1500']);
  expect(
    markdownTable([
      ['a', 'b'],
      ['long name', '1'],
    ]),
  ).toBe('| a         |   b |\n| --------- | --: |\n| long name |   1 |');
  const svg = heatmap({ title: 'a < b', xLabel: 'x', yLabel: 'y', columns: ['1', '2'], rows: ['r'], shares: [[0.42, null]] });
  expect(svg).toContain('>42<');
  expect(svg).toContain('>–<');
  expect(svg).toContain('a &lt; b');
});

test('every task of the benchmarks can be asked', () => {
  for (const { tasks } of [kLongbench, kInfinitebench]) {
    for (const [name, { instruction, maxTokens, metric }] of Object.entries(tasks)) {
      expect([name, maxTokens > 0, metric('', 'x', none)]).toEqual([name, true, 0]);
      expect(instruction.replace(/\{(input|[A-D])\}/g, ''), name).not.toMatch(/[{}]/);
    }
  }
});

describe('banyan eval', () => {
  let folder = '';
  const path = (name: string): string => join(folder, name);
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'banyan-eval-'));
    const words = 'river bridge old long day people every cross mountain stone water light'.split(' ');
    const random = randomFrom(3);
    const text = Array.from({ length: 12_000 }, () => words[Math.floor(random() * words.length)]!).join(' ');
    writeFileSync(path('text.txt'), text);
    writeFileSync(
      path('text.jsonl.gz'),
      gzipSync(`${JSON.stringify({ text: text.slice(0, 30_000) })}\n${JSON.stringify({ text: text.slice(30_000) })}\n`),
    );
    const fact = 'The code word of falcon is violet.';
    const line = {
      input: 'The code word of falcon is',
      context: `${text.slice(0, 6000)} ${fact} ${text.slice(6000, 9000)}`,
      answers: ['violet'],
      language: 'en',
    };
    const lines = [line, { ...line, answers: ['crimson', 'amber'] }, { ...line, language: 'zh' }];
    writeFileSync(path('triviaqa.jsonl'), lines.map((each) => JSON.stringify({ ...each, all_classes: null })).join('\n'));
    writeFileSync(
      path('passkey.jsonl'),
      `${JSON.stringify({ id: 0, context: text.slice(0, 5000), input: 'What is the pass key?', answer: ['71432'] })}\n`,
    );
    writeFileSync(path('torn.jsonl.gz'), gzipSync(text).subarray(0, 500));
    writeFileSync(path('lines.jsonl'), '{"text": "one"}\n[1, 2]\n');
    writeFileSync(path('prompts.json'), JSON.stringify({ triviaqa: 'Question.\n\n{context}\n\n{input}' }));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const banyan = (...args: string[]): Promise<{ code: number; out: string; err: string }> =>
    new Promise((resolve) => {
      execFile(process.execPath, [join(root, 'dist/cli.js'), 'eval', ...args], { cwd: folder }, (error, out, err) =>
        resolve({ code: error === null ? 0 : Number(error.code), out, err }),
      );
    });

  test('perplexity: the window sees nothing of the length, the files are written', async () => {
    const args = [
      'text.jsonl.gz',
      '--lengths',
      '1K,2K,4K',
      '--samples',
      '2',
      '--last',
      '32',
      '--systems',
      'window,sharedllm,streaming,yarn',
      '--longest-full',
      '2K',
      '--json',
    ];
    const { code, out, err } = await banyan('perplexity', ...args, '-o', 'out');
    expect([code, err.includes('BANYAN')], err).toEqual([0, false]);
    const { cells, settings } = JSON.parse(out) as {
      cells: { system: string; length: number; perplexity: number; nll: { n: number } }[];
      settings: object;
    };
    expect(settings).toMatchObject({ lengths: [1024, 2048, 4096], last: 32, samples: 2 });
    const of = (system: string): number[] => cells.filter((cell) => cell.system === system).map(({ perplexity }) => perplexity);
    expect(new Set(of('window')).size).toBe(1);
    expect(of('sharedllm')).toHaveLength(3);
    expect(new Set(of('sharedllm')).size).toBe(3);
    expect(of('yarn')).toHaveLength(2); // 4K is more than --longest-full
    expect(cells.every(({ perplexity, nll }) => perplexity > 1 && perplexity < 3000 && nll.n === 2)).toBe(true);
    expect(readdirSync(path('out')).sort()).toEqual(['perplexity.json', 'perplexity.md', 'perplexity.svg']);
    expect(readFileSync(path('out/perplexity.svg'), 'utf8')).toContain('SharedLLM');
  });

  test('lookup: the demo model finds facts with its adapter, and beyond the window not without', async () => {
    const { code, out, err } = await banyan('lookup', 'text.txt', '--lengths', '4K', '--depths', '0,50,100', '--trials', '4', '--systems', 'window,sharedllm,streaming', '--json', '-o', 'found'); // prettier-ignore
    expect(code, err).toBe(0);
    const { cells } = JSON.parse(out) as { cells: { system: string; depth: number; trials: number; answered: number; opened: number }[] };
    const of = (system: string): typeof cells => cells.filter((cell) => cell.system === system);
    expect(of('sharedllm').map(({ depth, trials }) => [depth, trials])).toEqual([[0, 4], [0.5, 4], [1, 4]]); // prettier-ignore
    expect(of('sharedllm').reduce((sum, { answered }) => sum + answered, 0)).toBeGreaterThanOrEqual(10);
    expect(of('window').filter(({ depth }) => depth < 1).reduce((sum, { answered }) => sum + answered, 0)).toBeLessThanOrEqual(2); // prettier-ignore
    expect([of('sharedllm'), of('streaming')].map((own) => own.some(({ opened }) => opened > 0))).toEqual([true, false]); // only the first chooses
    expect(readdirSync(path('found')).sort()).toEqual([
      'lookup-sharedllm.svg',
      'lookup-streaming.svg',
      'lookup-window.svg',
      'lookup.json',
      'lookup.md',
    ]);
  });

  test('lookup: slots of a budget', async () => {
    const shared = (...more: string[]): Promise<{ code: number; out: string; err: string }> =>
      banyan('lookup', 'text.txt', '--lengths', '4K', '--depths', '0,30,60', '--trials', '4', '--systems', 'sharedllm,streaming', '--json', ...more);
    const answered = ({ out }: { out: string }): number =>
      (JSON.parse(out) as { cells: { system: string; answered: number }[] }).cells.reduce(
        (sum, { system, answered: n }) => sum + (system === 'sharedllm' ? n : 0),
        0,
      );
    const [enough, none] = [await shared('--slot-budget', '512'), await shared('--slot-budget', '1')];
    expect([enough.code, none.code], enough.err + none.err).toEqual([0, 0]);
    expect(answered(enough)).toBeGreaterThanOrEqual(8);
    expect(answered(none)).toBeLessThanOrEqual(3);
  });

  test('longbench: the answers are scored against the references, Chinese is left out', async () => {
    const { code, out, err } = await banyan('longbench', '--data', '.', '--json');
    expect(code, err).toBe(0);
    const { rows } = JSON.parse(out) as { rows: { task: string; score: { mean: number; n: number }; skipped: number; tokens: number }[] };
    expect(rows).toMatchObject([{ task: 'triviaqa', skipped: 1, score: { n: 2 } }]);
    expect(rows[0]!.score.mean).toBeGreaterThan(0); // "violet ..." against violet, and nothing against the other references
    expect(rows[0]!.score.mean).toBeLessThanOrEqual(50);
    expect(rows[0]!.tokens).toBeGreaterThan(1000);
    const limited = await banyan('longbench', '--data', '.', '--tasks', 'triviaqa', '--limit', '1', '--prompts', 'prompts.json');
    expect(limited.out, limited.err).toMatch(/\| triviaqa \| +[\d.]+ \| +– \| +1 \|/);
  });

  test('infinitebench', async () => {
    const { code, out, err } = await banyan('infinitebench', '--data', '.');
    expect(code, err).toBe(0);
    expect(out).toMatch(/\| passkey \| +0\.0 \|/);
  });

  test.each([
    [['perplexity', 'text.txt', '--systems', 'magic'], 2, 'magic is none of'],
    [['perplexity', 'text.txt', '--systems', 'focusllm'], 2, 'needs an adapter'],
    [['perplexity', 'text.txt', '--lengths', '200'], 2, 'more than the 256'],
    [['perplexity', 'text.txt', '--lengths', '400K'], 1, 'BANYAN_INVALID_ARGUMENT'],
    [['perplexity', 'missing.txt'], 1, 'BANYAN_FILE_NOT_FOUND'],
    [['perplexity', 'torn.jsonl.gz'], 1, 'BANYAN_IO'],
    [['perplexity', 'lines.jsonl'], 1, 'line 2 is not a JSON object'],
    [['lookup', 'text.txt', '--task', 'magic'], 2, 'must be one of'],
    [['lookup', 'text.txt', '--depths', '0,120'], 2, 'from 0 to 100'],
    [['longbench', '--data', 'out'], 2, 'no file of LongBench'],
    [['longbench', '--data', '.', '--tasks', 'magic'], 2, 'no task of LongBench'],
    [['longbench', '--data', '.', '--prompts', 'text.txt'], 1, 'BANYAN'],
  ])('%j fails', async (args, expected, message) => {
    const { code, err } = await banyan(...args);
    expect([code, err], err).toEqual([expected, expect.stringContaining(message)]);
  });
});
