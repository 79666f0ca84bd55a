/** long: the report of the benchmark of long documents, from samples whose answers are known. */
import { expect, test } from 'vitest';

import { Cells as AnyCells } from '../../bench/cells.js';
import { ratioBars } from '../../bench/bars.js';
import { Cells, markdownSection, measured, plots, ratioRows, type Results } from '../../bench/long/report.js';
import type { Start } from '../../bench/long/sample.js';
import { shapeOf } from '../../bench/gguf_writer.js';
import { fullCacheBytes, systemOf, type System } from '../../bench/long/system.js';

const [kOurs, kPeer] = [systemOf('m4', 'Q8_0'), systemOf('llama', 'Q8_0')];
const kMegabyte = 2 ** 20;
const kBase = { bareSeconds: 0.2, bareTokensPerSecond: 30, device: 'cpu' };

function results(): Results {
  const all: Results = { lazy: new Cells(), eager: new Cells(), opened: new Cells(), start: new AnyCells<Start, System>() };
  const thousands = (length: number): number => length / 1024;
  for (const length of [4096, 8192, 16384]) {
    const seconds = { firstSeconds: thousands(length) / 2, laterSeconds: [0.8, 0.4, 0.3], tokensPerSecond: 27 };
    all.lazy.add(
      kOurs,
      length,
      { ...kBase, ...seconds, loadedBytes: kMegabyte, firstPeakBytes: 51 * kMegabyte, peakBytes: 101 * kMegabyte, treeBytes: 7 * kMegabyte },
      1,
    );
    all.eager.add(kOurs, length, { ...kBase, eagerSeconds: [0.3, 0.5, 0.3] }, 1);
    all.opened.add(kOurs, length, { ...kBase, openSeconds: 0.01, openedSeconds: [0.6, 0.25, 0.25] }, 1);
  }
  for (const length of [4096, 8192]) {
    const firstSeconds = thousands(length) + thousands(length) ** 2;
    all.lazy.add(
      kPeer,
      length,
      { ...kBase, firstSeconds, tokensPerSecond: 15, loadedBytes: 0, firstPeakBytes: 299 * kMegabyte, peakBytes: 300 * kMegabyte },
      1,
    );
  }
  all.lazy.add(kPeer, 16384, undefined, 0);
  all.start.add(kOurs, 0, { startSeconds: 0.75, loadSeconds: 0.5 }, 1);
  return all;
}

test('ratios to the peer, marked where its time is of the fit', () => {
  expect(ratioRows(results().lazy)).toEqual([['SharedLLM, M = 4, Q8_0: peer / ours', '10.0', '18.0', `~${((16 + 256) / 8).toFixed(1)}`]]);
});
test('the section shows measured and fitted times, shares, memory and the curve', () => {
  const section = markdownSection(results(), shapeOf('llama-3.2-1b'), ['Intro.'], 'plots');
  const line = (begin: string): string[] => section.split('\n').filter((text) => text.startsWith(`| ${begin}`));
  expect(section.startsWith('Intro.\n\n![Time to first token](plots/long_first.svg)')).toBe(true);
  expect(line('node-llama-cpp, Q8_0')[0]).toMatch(/20\.0 \| +72\.0 \| +~272/);
  expect(section).toContain('~'); // the fit of the peer
  expect(line('SharedLLM, M = 4, Q8_0 ').some((text) => /90\.0 \| +90\.0 \| +90\.0/.test(text))).toBe(true); // 27 of 30 tokens/s
  expect(line('SharedLLM, M = 4, Q8_0 ').some((text) => / 100 \| +100 \| +100/.test(text))).toBe(true); // MiB
  expect(line('SharedLLM, M = 4, Q8_0 ').some((text) => /50\.0 \| +50\.0 \| +50\.0/.test(text))).toBe(true);
  expect(line('SharedLLM, M = 4, Q8_0, asked at once')[0]).toMatch(/8\.00 \| +0\.800 \| +0\.400 \| +0\.300/);
  expect(line('SharedLLM, M = 4, Q8_0, opened')[0]).toMatch(/0\.600 \| +0\.250 \| +0\.250/);
  expect(line("node-llama-cpp's keys")[0]).toMatch(/128 \| +256 \| +512/);
  expect(section).toMatch(/### Start, s/);
});
test('what the peer does not tell, and what was not measured, is a dash, never a guess', () => {
  const section = markdownSection(results(), shapeOf('llama-3.2-1b'), [], null);
  const memory = section.slice(section.indexOf('until the first answer, MiB'));
  expect(memory.split('\n').find((text) => text.startsWith('| node-llama-cpp, Q8_0'))).toMatch(/299 \| +299 \| +- \|/);
});
test('a result file gets every quantity that was measured, by part', () => {
  const found = new Map(measured(results()).map(({ name, values }) => [name, values]));
  expect(found.get('lazy m4-Q8_0 4096 first')).toEqual([2]);
  expect(found.get('eager m4-Q8_0 4096 eagerSeconds-ratio')![0]).toBeCloseTo(1.5, 12);
  expect(found.get('opened m4-Q8_0 4096 open')).toEqual([0.01]);
  expect(found.get('process m4-Q8_0 0 start')).toEqual([0.75]);
  expect([...found.keys()].some((name) => name.includes('llama-Q8_0 16384'))).toBe(false);
});
test('plots: hollow marks for the fit only', () => {
  const [first] = plots(results());
  expect(first!.file).toBe('long_first.svg');
  expect(first!.svg.match(/fill="#ffffff" stroke=/g)).toHaveLength(1);
  expect(plots(results()).map(({ file }) => file)).toEqual(['long_first.svg', 'long_memory.svg', 'long_questions.svg']);
});
test('names of systems', () => {
  expect(systemOf('m8-keys', 'Q4_K_M')).toMatchObject({ name: 'm8-keys-Q4_K_M', injectedLayers: 8, selection: 'token_keys', in8Bits: false });
  expect(systemOf('m4-q8', 'Q8_0')).toMatchObject({ name: 'm4-q8-Q8_0', injectedLayers: 4, selection: 'cosine', in8Bits: true });
  expect(() => systemOf('m0', 'Q8_0')).toThrow('m0');
  expect(() => systemOf('gpt', 'Q8_0')).toThrow('gpt');
});
test("the peer's keys and values: 32 KiB a token of the 1B shape", () => {
  expect(fullCacheBytes(shapeOf('llama-3.2-1b'), 1)).toBe(32768);
});
test('bars begin at 1 and are as long for half as for twice', () => {
  const svg = ratioBars('Title', 'ratio', [
    { label: 'a', ratio: 2, least: 2, most: 2 },
    { label: 'b', ratio: 0.5, least: 0.5, most: 0.5 },
  ]);
  const widths = [...svg.matchAll(/<rect x="([\d.]+)"[^/]*width="([\d.]+)" height="16"/g)].map(([, x, width]) => [Number(x), Number(width)]);
  expect(widths).toHaveLength(2);
  const [a, b] = widths as [number[], number[]];
  expect(a[1]).toBeCloseTo(b[1]!, 6);
  expect(b[0]! + b[1]!).toBeCloseTo(a[0]!, 6);
  expect(() => ratioBars('Title', 'ratio', [])).toThrow('nothing to draw');
});
