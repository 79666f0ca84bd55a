import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { findCases, spansOf } from './case.js';
import { checksumExcess, maxDifference } from './compare.js';
import { loadNative, runCase } from './run.js';

const fixtures = (name: string): string => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

describe.each(['sharedllm', 'paper'])('golden %s', (name) => {
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
