/** halves: the rule of 16-bit weights, by cases and by numbers that are known. */
import { mkdtempSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

import { fromHalf } from '../../bench/gguf_blocks.js';
import { areNear, halvesRow, judge, runHalves, toBf16, writeRounded, type HalvesReport } from './halves.js';
import { loadNative, type SemanticsReport } from './run.js';
import { readTensors } from './safetensors.js';
import { withCopy } from './tamper.js';

const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
const kShared = fixture('paper/n02-mean-banded-token-keys');
const kFocus = fixture('focusllm/09_mha_below_threshold');

describe('rounding', () => {
  const asFloat = (bits: number): number => new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!;

  test('bf16 is the nearest, ties to even', () => {
    const nearest = [1, -2.5, 0, 1 + 2 ** -9, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -(1 + 2 ** -8 + 2 ** -20)].map((value) => asFloat(toBf16(value)));
    expect(nearest).toEqual([1, -2.5, 0, 1, 1, 1 + 2 ** -6, -(1 + 2 ** -7)]);
  });
  test.each(['bf16', 'f16'] as const)('a model in %s', (type) => {
    const folder = mkdtempSync(join(tmpdir(), 'banyan-rounded-'));
    try {
      const path = join(folder, 'model.safetensors');
      writeRounded(join(kShared, 'model.safetensors'), path, type);
      const bytes = readFileSync(path);
      const begin = 8 + Number(bytes.readBigUInt64LE(0));
      const header = JSON.parse(bytes.toString('utf8', 8, begin)) as Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>;
      const tensors = readTensors(join(kShared, 'model.safetensors'));
      expect(tensors.size).toBeGreaterThan(10);
      for (const [name, { shape, data }] of tensors) {
        const { dtype, shape: ownShape, data_offsets: offsets } = header[name]!;
        expect({ dtype, shape: ownShape, bytes: offsets[1]! - offsets[0]! }).toEqual({ dtype: type.toUpperCase(), shape, bytes: 2 * data.length });
        for (const i of [0, data.length - 1]) {
          const bits = bytes.readUInt16LE(begin + offsets[0]! + 2 * i);
          const error = Math.abs((type === 'bf16' ? asFloat(bits) : fromHalf(bits)) - data[i]!);
          expect(error).toBeLessThanOrEqual(Math.abs(data[i]!) * (type === 'bf16' ? 2 ** -8 : 2 ** -11) + 2 ** -25);
        }
      }
      expect(() => writeRounded(path, join(folder, 'twice.safetensors'), type)).toThrow(/is B?F16, not F32$/);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe('cases on the CPU', () => {
  // what is allowed grows with the rounding: bf16 has 3 bits less than f16
  test.each([kShared, kFocus])('%s', async (path) => {
    const [coarse, fine] = [await runHalves(loadNative(), path, 'cpu', 'bf16'), await runHalves(loadNative(), path, 'cpu', 'f16')];
    for (const [i, report] of fine.entries()) {
      expect(report).toMatchObject({ verdict: 'ok' });
      expect(coarse[i]).toMatchObject({ verdict: 'ok' });
      for (const [j, { quantity, cpu, device }] of report.distances.entries()) {
        expect(device, quantity).toBe(cpu);
        expect(cpu, quantity).toBeGreaterThan(5e-4);
        expect(coarse[i]!.distances[j]!.cpu, quantity).toBeGreaterThan(2 * cpu);
      }
    }
    expect(fine.flatMap(({ distances }) => distances).length).toBeGreaterThan(0);
  });
  test('a damaged one fails and says where', async () => {
    const damage = (folder: string): void => truncateSync(join(folder, 'model.safetensors'), 1000);
    const [report] = await withCopy(kShared, damage, (folder) => runHalves(loadNative(), folder, 'cpu', 'bf16'));
    expect(report).toMatchObject({ verdict: 'FAILED', distances: [] });
    expect(halvesRow(report!, 4)).toMatch(/^n02-\S+ +- +FAILED +\S/);
  });
});

describe('the verdict', () => {
  const same = { isNodesEqual: true, isPositionsEqual: true, isGreedyCachedEqual: true, isGreedyRecomputedEqual: null, isChecksumEqual: null };
  const report = (logits: number | null, more: Partial<SemanticsReport> = {}): SemanticsReport => ({
    ...{ semantics: 'paper', logits, keys: null, values: null, ...same, multiplyAdds: 1, passed: false },
    ...more,
  });
  const verdict = (cpu: SemanticsReport, device: SemanticsReport): string => judge('case', [{ cpu, device }])[0]!.verdict;

  test('what rounding one side does, and more by the rule', () => {
    const [distance] = judge('case', [{ cpu: report(0.01), device: report(0.02) }])[0]!.distances;
    expect(distance).toMatchObject({ quantity: 'logits', cpu: 0.01, device: 0.02 });
    expect(distance!.allowed).toBeCloseTo(0.0284843, 6);
    expect(verdict(report(0.01), report(0.0284))).toBe('ok');
    expect(verdict(report(0.01), report(0.0285))).toBe('FAILED');
    expect(verdict(report(0.01, { keys: 0.1 }), report(0.01, { keys: 0.3 }))).toBe('FAILED');
  });
  test('the rounding of all runs of a case counts, but not of one that read other nodes', () => {
    const steady = { cpu: report(0.02), device: report(0.02) };
    const lucky = { cpu: report(0.01), device: report(0.05) };
    expect(judge('case', [lucky]).map((each) => each.verdict)).toEqual(['FAILED']);
    expect(judge('case', [lucky, steady]).map((each) => each.verdict)).toEqual(['ok', 'ok']);
    const flipped = { cpu: report(0.02, { isNodesEqual: false }), device: report(0.02) };
    expect(judge('case', [lucky, flipped]).map((each) => each.verdict)).toEqual(['FAILED', 'flipped']);
  });
  test('what is no number is never near', () => {
    for (const wrong of [Infinity, Number.NaN]) {
      expect(verdict(report(0.01), report(wrong))).toBe('FAILED');
      expect(verdict(report(wrong), report(wrong))).toBe('FAILED');
    }
  });
  test('other nodes are not judged, no numbers are nothing', () => {
    expect(verdict(report(0.01), report(5, { isNodesEqual: false }))).toBe('flipped');
    expect(verdict(report(5, { isPositionsEqual: false }), report(0.01))).toBe('flipped');
    expect(verdict(report(null), report(null))).toBe('nothing');
  });
  test('few may flip, one must agree', () => {
    const reports = (...verdicts: HalvesReport['verdict'][]) => verdicts.map((each) => ({ name: '', run: '', distances: [], verdict: each }));
    const nine = Array<'ok'>(9).fill('ok');
    expect(areNear(reports(...nine, 'flipped', 'nothing'))).toBe(true);
    expect(areNear(reports(...nine, 'flipped', 'flipped'))).toBe(false);
    expect(areNear(reports(...nine, 'FAILED'))).toBe(false);
    expect(areNear(reports('nothing'))).toBe(false);
  });
});
