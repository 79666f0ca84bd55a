/** compare: what counts as a regression, and what the program says about it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';

import { compare } from '../../bench/comparison.js';
import { provenance, resumeResults, writeResults, type Measured, type ResultFile } from '../../bench/result_file.js';

const seconds = (name: string, ...values: number[]): Measured => ({ name, unit: 's', isCost: true, values });
const speed = (name: string, ...values: number[]): Measured => ({ name, unit: 'tokens/s', isCost: false, values });
const results = (...measured: Measured[]): ResultFile => ({ bench: 'long', commit: 'a', cpu: 'one', flags: {}, measured });
const verdict = (before: Measured, after: Measured): string => compare(results(before), results(after))[0]!.verdict;

describe('verdicts', () => {
  test('more of a cost is worse, more of a speed is better', () => {
    expect(verdict(seconds('first', 1, 1.1), seconds('first', 1.2, 1.3))).toBe('worse');
    expect(verdict(seconds('first', 1.2, 1.3), seconds('first', 1, 1.1))).toBe('better');
    expect(verdict(speed('decode', 10, 11), speed('decode', 12, 13))).toBe('better');
    expect(verdict(speed('decode', 12, 13), speed('decode', 10, 11))).toBe('worse');
  });
  test('spreads that overlap or touch are the same, however far the medians are apart', () => {
    expect(verdict(seconds('first', 1, 1, 9), seconds('first', 8, 10, 10))).toBe('same');
    expect(verdict(seconds('first', 1, 2), seconds('first', 2, 3))).toBe('same');
    expect(verdict(seconds('first', 1, 9), seconds('first', 3, 4))).toBe('same');
  });
  test('a side of one value has no spread and proves nothing', () => {
    expect(verdict(seconds('first', 1), seconds('first', 2, 3))).toBe('unsure');
    expect(verdict(seconds('first', 1, 2), seconds('first', 9))).toBe('unsure');
  });
  test('what only one run has is named', () => {
    const changes = compare(results(seconds('old', 1, 2)), results(seconds('new', 1, 2)));
    expect(changes.map(({ name, verdict: of }) => [name, of])).toEqual([
      ['new', 'new'],
      ['old', 'gone'],
    ]);
  });
  test('runs of different benchmarks and units are refused', () => {
    expect(() => compare({ ...results(), bench: 'peers' }, results())).toThrow('peers');
    expect(() => verdict({ ...seconds('first', 1), unit: 'ms' }, seconds('first', 1))).toThrow('ms');
  });
});

describe('adding to a result file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'banyan-results-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'results', 'long.json');

  test('none there yet', () => expect(resumeResults(path, 'long', true)).toBeUndefined());
  test('of the same code and processor', () => {
    writeResults(path, { ...results(seconds('first', 1)), ...provenance(), rows: [1, 2] });
    expect(resumeResults(path, 'long', true)).toMatchObject({ measured: [seconds('first', 1)], rows: [1, 2] });
  });
  test('other code is refused, unless nothing is measured', () => {
    writeResults(path, { ...results(seconds('first', 1)), ...provenance(), commit: 'other' });
    expect(() => resumeResults(path, 'long', true)).toThrow('other on');
    expect(resumeResults(path, 'long', false)).toMatchObject({ commit: 'other' });
  });
  test('another benchmark is refused', () => expect(() => resumeResults(path, 'peers', false)).toThrow('results of long'));
});

describe('npm run bench:compare', () => {
  const folder = mkdtempSync(join(tmpdir(), 'banyan-compare-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const run = (before: ResultFile, after: ResultFile): { status: number | null; output: string } => {
    const files = [before, after].map((file, i) => {
      const path = join(folder, `${i}.json`);
      writeResults(path, { ...file });
      return path;
    });
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', join(root, 'bench/compare.ts'), ...files], {
      cwd: root,
      encoding: 'utf8',
    });
    return { status, output: stdout + stderr };
  };
  const before = results(seconds('first', 1, 1.1), speed('decode', 10, 11));

  test('exit code 1 and a line for what is worse', () => {
    const { status, output } = run(before, results(seconds('first', 2, 2.2), speed('decode', 20, 21)));
    expect(output).toMatch(/^worse +first: 1\.05 -> 2\.10 s +x 2\.00$/m);
    expect(output).toMatch(/^better +decode/m);
    expect(status).toBe(1);
  });
  test('exit code 0 if nothing is worse', () => {
    expect(run(before, results(seconds('first', 0.5, 0.6), speed('decode', 10, 11))).status).toBe(0);
  });
  test('exit code 2 for other processors', () => {
    const { status, output } = run(before, { ...before, cpu: 'another' });
    expect(output).toContain('different processors');
    expect(status).toBe(2);
  });
});
