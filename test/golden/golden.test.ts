import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { findCases, spansOf } from './case.js';
import { checksumExcess, maxDifference } from './compare.js';
import { loadNative, runCase } from './run.js';
import { inJson, inTensor, withCopy, type Change } from './tamper.js';

const fixtures = (name: string): string => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

describe.each(['sharedllm', 'paper', 'focusllm'])('golden %s', (name) => {
  if (!existsSync(fixtures(name))) {
    test.skip(`test/fixtures/${name} is not there`, () => {});
    return;
  }
  const cases = findCases(fixtures(name)).map((path) => [basename(path), path] as const);
  test.each(cases)('%s', async (_, path) => {
    const report = await runCase(loadNative(), path);
    expect(report, JSON.stringify(report)).toMatchObject({ passed: true });
  });
});

describe('the comparison itself', () => {
  test('a NaN or a missing number is an infinite difference', () => {
    expect(maxDifference([1, NaN, 3], [1, 2, 3])).toBe(Infinity);
    expect(maxDifference([1, 2], [1, 2, 3])).toBe(Infinity);
    expect(maxDifference([1, 2.5], [1, 2])).toBe(0.5);
  });
  test('a checksum notices one wrong number and two exchanged ones', () => {
    const values = Array.from({ length: 256 }, (_, i) => Math.sin(i));
    const sums = { n: 256, sum: 0, abs_sum: 0, sq_sum: 0, weighted_sum: 0 };
    values.forEach((value, i) => {
      sums.sum += value;
      sums.abs_sum += Math.abs(value);
      sums.sq_sum += value * value;
      sums.weighted_sum += (1 + (i % 97)) * value;
    });
    expect(checksumExcess(values, sums, 2e-4)).toBeLessThan(1e-6);
    expect(checksumExcess(values.with(3, 1), sums, 2e-4)).toBeGreaterThan(1);
    expect(checksumExcess(values.with(0, values[90]!).with(90, values[0]!), sums, 2e-4)).toBeGreaterThan(1);
  });
  test('spans of a walk', () => {
    const spans = spansOf([['left'], ['right']], 1, 100);
    expect(spans.map(({ begin, end }) => [begin, end])).toEqual([
      [50, 100],
      [0, 25],
      [25, 37],
      [37, 49],
    ]);
  });
  test('a damaged folder is a failed case', async () => {
    const report = await runCase(loadNative(), fixtures('nothing-here'));
    expect(report.passed).toBe(false);
    expect(report.error).toMatch(/config\.json is missing/);
  });
});

describe('a single wrong number is noticed', () => {
  interface Stored {
    greedy: { cached: number[]; recomputed: number[] };
    levels: { nodes: { start: number }[] }[];
    variant_corrected: { greedy: number[]; chosen: string[][]; last_logits_checksum: { sum: number } };
  }
  const expected = (change: (stored: Stored) => void): Change => inJson('expected.json', change);
  const isPassed = (change: Change): Promise<boolean> =>
    withCopy(fixtures('sharedllm/07-eight-chunks-short-rows'), change, async (folder) => (await runCase(loadNative(), folder)).passed);

  test('untouched, it agrees', async () => expect(await isPassed(() => {})).toBe(true));
  test.each([
    ['a cached greedy token', expected(({ greedy }) => greedy.cached[15]!++)],
    ['a recomputed greedy token', expected(({ greedy }) => greedy.recomputed[15]!++)],
    ['a node', expected(({ levels }) => levels[0]!.nodes[7]!.start++)],
    ['a corrected token', expected((stored) => stored.variant_corrected.greedy[3]!++)],
    ['a corrected choice', expected((stored) => (stored.variant_corrected.chosen[0]![2] = 'left'))],
    ['a corrected checksum', expected((stored) => (stored.variant_corrected.last_logits_checksum.sum += 1))],
    ['a slot position', inTensor('injected_positions')],
    ['a logit', inTensor('logits')],
    ['a greedy logit', inTensor('greedy.cached.logits')],
    ['a recomputed logit', inTensor('greedy.recomputed.logits')],
    ['a key', inTensor('kv.1.k_after')],
    ['a value', inTensor('kv.0.v')],
    ['a corrected logit', inTensor('variant.logits.last')],
    ['a corrected position', inTensor('variant.injected_positions')],
  ] as const)('%s', async (_, change) => expect(await isPassed(change)).toBe(false));
});
