/** The runner of FocusLLM cases, tested against a plain reference in place of the addon: right numbers agree, every wrong one is noticed. */
import { rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { fakeNative } from './focus_fake.js';
import type { Mistake } from './focus_reference.js';
import type { FocusReport } from './focus_run.js';
import { runCase, type CaseReport } from './run.js';
import { headOf, rowsOf } from './table.js';
import { inJson, inTensor, keepRows, withCopy, type Change } from './tamper.js';

const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/focusllm/${name}`, import.meta.url));

const kRawKv = '01_mha_s64_w64_exact';
const kLocalLogits = '02_mha_s64_w64_ragged';
const kPpl = '13_ppl_mha_s64_w64';
const kTrainLoss = '14_train_losses_mha_w128';
const kOneChunk = '15_gqa_single_short_chunk';

interface Stored {
  tokens: number[];
  chunk_ranges: [number, number][];
  steps: { chunk_raw_len_after: number[]; local_len: number }[];
  loss: number;
  loss_f64: number;
  continuation: { loss: number };
}
const inputs = (change: (stored: { kind: string; max_new_tokens: number; n_reserved: number; tokens: number[] }) => void): Change =>
  inJson('inputs.json', change);
const expected = (change: (stored: Partial<Stored>) => void): Change => inJson('expected.json', change);
const all =
  (...changes: Change[]): Change =>
  (folder) =>
    changes.forEach((change) => change(folder));

// The same case with fewer steps: a greedy run's beginning is a greedy run.
const shortened = (nSteps: number): Change =>
  all(
    inputs((stored) => (stored.max_new_tokens = nSteps)),
    expected((stored) => {
      stored.tokens = stored.tokens!.slice(0, nSteps);
      stored.steps = stored.steps!.slice(0, nSteps);
    }),
    keepRows('logits', nSteps),
    keepRows('logits_f64', nSteps),
  );

// Eight targets instead of 128; their mean is not stored.
const kShortPpl = all(
  inputs((stored) => {
    stored.tokens = stored.tokens.slice(0, stored.tokens.length - stored.n_reserved + 8);
    stored.n_reserved = 8;
  }),
  expected((stored) => {
    delete stored.loss;
    delete stored.loss_f64;
  }),
  keepRows('nll', 8),
  keepRows('nll_f64', 8),
);

const run = (name: string, change: Change, mistake?: Mistake): Promise<CaseReport> =>
  withCopy(fixture(name), change, (folder) => runCase(fakeNative(mistake), folder));

async function runOne(name: string, change: Change, mistake?: Mistake): Promise<FocusReport> {
  const report = await run(name, change, mistake);
  expect(report.error).toBeUndefined();
  return report.runs[0] as FocusReport;
}

describe('right numbers agree', () => {
  const nothing: Change = () => {};
  test.each([
    [kRawKv, shortened(3), ['logits', 'candidates', 'chunks']],
    [kLocalLogits, shortened(3), ['logits', 'local', 'candidates']],
    ['08_gqa_bos_skip_query', shortened(3), ['logits', 'candidates']],
    ['09_mha_below_threshold', nothing, ['logits']],
    ['10_gqa_exact_window_zero_chunks', nothing, ['logits']],
    ['11_gqa_h64_kvonly', shortened(3), ['logits', 'candidates']],
    [kOneChunk, nothing, ['logits', 'candidates']],
    [kPpl, kShortPpl, ['logits', 'nll']],
    [kTrainLoss, nothing, ['loss']],
  ] as const)('%s', async (name, change, quantities) => {
    const report = await run(name, change);
    expect(report, JSON.stringify(report)).toMatchObject({ passed: true });
    for (const one of report.runs as FocusReport[]) {
      const compared = (['logits', 'local', 'candidates', 'chunks', 'nll', 'loss'] as const).filter((quantity) => one[quantity] !== null);
      expect(compared).toEqual(quantities);
    }
  });
  test('both objectives of training are run', async () => {
    const { runs } = await run(kTrainLoss, nothing);
    expect(runs.map((one) => (one as FocusReport).run)).toEqual(['continuation', 'repetition']);
  });
});

describe('an engine with one mistake is noticed', () => {
  test.each([
    ['no candidates', 'local'],
    ['candidates at position 0', 'local'],
    ['reversed candidates', 'local'],
    ['no BOS before the query', 'candidates'],
    ['frozen candidates', 'logits'],
  ] as const)('%s', async (mistake, quantity) => {
    const report = await runOne(kLocalLogits, shortened(3), mistake);
    expect(report.passed).toBe(false);
    expect(report[quantity]).toBeGreaterThan(0.1);
    expect(report.logits).toBeGreaterThan(0.1);
  });
  test('frozen candidates give the right first step', async () => {
    const report = await runOne(kLocalLogits, shortened(3), 'frozen candidates');
    expect(report.local).toBeLessThan(1e-4);
  });
  test('in the chunks and in the losses too', async () => {
    expect((await runOne(kRawKv, shortened(2), 'no BOS before the query')).chunks).toBeGreaterThan(0.1);
    expect((await runOne(kPpl, kShortPpl, 'reversed candidates')).nll).toBeGreaterThan(0.01);
    expect((await runOne(kTrainLoss, () => {}, 'no candidates')).loss).toBeGreaterThan(0.01);
  });
});

describe('a single wrong number is noticed', () => {
  test.each([
    [kRawKv, 'logits', 'logits'],
    [kRawKv, 'logits_f64', 'logits'],
    [kRawKv, 'step0.layer1.cand_k', 'candidates'],
    [kRawKv, 'step1.layer2.cand_v', 'candidates'],
    [kRawKv, 'step0.layer2.chunk3.raw_k', 'chunks'],
    [kRawKv, 'step0.layer0.chunk3.raw_v', 'chunks'],
    [kRawKv, 'step1.layer2.chunk3.raw_appended_k', 'chunks'],
    [kRawKv, 'step1.layer2.chunk3.raw_appended_v', 'chunks'],
    [kLocalLogits, 'step0.local_logits', 'local'],
    [kPpl, 'nll', 'nll'],
    [kPpl, 'nll_f64', 'nll'],
    [kPpl, 'logits_first8', 'logits'],
  ] as const)('%s: %s', async (name, tensor, quantity) => {
    const report = await runOne(name, all(name === kPpl ? kShortPpl : shortened(2), inTensor(tensor)));
    expect(report.passed).toBe(false);
    expect(report[quantity]).toBeCloseTo(1e-3, 4);
  });
  test.each([
    [kOneChunk, 'a token', expected(({ tokens }) => tokens![15]!++)],
    [kOneChunk, 'the rows of a chunk', expected(({ steps }) => steps![15]!.chunk_raw_len_after[0]!++)],
    [kOneChunk, 'the local length', expected(({ steps }) => steps![0]!.local_len++)],
    [kOneChunk, 'the number of chunks', expected((stored) => stored.chunk_ranges!.push([20, 21]))],
    [kTrainLoss, 'a loss', expected(({ continuation }) => (continuation!.loss += 1e-3))],
  ] as const)('%s: %s', async (name, _, change) => expect(await run(name, change)).toMatchObject({ passed: false }));
});

describe('a damaged case fails and says where', () => {
  test.each([
    ['a missing file', (folder: string) => rmSync(join(folder, 'inputs.json')), /inputs\.json is missing$/],
    ['torn inputs', (folder: string) => truncateSync(join(folder, 'inputs.json'), 40), /inputs\.json: .*JSON/],
    [
      'torn arrays',
      (folder: string) => truncateSync(join(folder, 'expected.safetensors'), 2000),
      /expected\.safetensors: tensor .* outside the file/,
    ],
    ['a torn model', (folder: string) => truncateSync(join(folder, 'model.safetensors'), 1000), /model\.safetensors: /],
    ['a missing key', expected((stored) => delete stored.chunk_ranges), /expected\.json: chunk_ranges is not a list$/],
    ['an unknown kind', inputs((stored) => (stored.kind = 'sing')), /inputs\.json: unknown kind sing$/],
  ] as const)('%s', async (_, change, message) => {
    const report = await run(kOneChunk, change);
    expect(report).toMatchObject({ passed: false, runs: [] });
    expect(report.error).toMatch(message);
  });
  test('a tensor that nobody compares', async () => {
    const change = expected((stored) => delete stored.steps);
    expect((await run(kRawKv, change)).error).toMatch(/does not say where step1\.layer2\.chunk3\.raw_appended_k lies$/);
    const renamed = inputs((stored) => Object.assign(stored, { kind: 'ppl', n_reserved: 8 }));
    expect((await run(kOneChunk, renamed)).error).toMatch(/expected\.safetensors: unknown tensor logits/);
  });
});

describe('optional numbers', () => {
  const names = ['logits', 'logits_f64', ...['0', '1'].flatMap((step) => ['0', '2'].flatMap((layer) => [`${step}.layer${layer}`]))];
  const tensors = names.flatMap((name) => (name.startsWith('logits') ? name : [`step${name}.cand_k`, `step${name}.cand_v`]));
  const withoutTensors = all(...tensors.map((name) => keepRows(name, 0)));

  test('what is not stored is not compared', async () => {
    const report = await runOne(kOneChunk, withoutTensors);
    expect(report).toMatchObject({ passed: true, logits: null, candidates: null, isTokensEqual: true });
  });
  test('a case with nothing to compare fails', async () => {
    const report = await run(
      kOneChunk,
      all(
        withoutTensors,
        expected((stored) => delete stored.tokens),
      ),
    );
    expect(report).toMatchObject({ passed: false, error: 'nothing is stored to compare generate with' });
    expect((await run(kTrainLoss, (folder) => inJson('expected.json', clear)(folder))).passed).toBe(false);
  });
  const clear = (stored: Record<string, unknown>): void => Object.keys(stored).forEach((key) => delete stored[key]);
});

test('a report as it is printed', async () => {
  const report = await run(kOneChunk, () => {});
  expect(headOf(report, 26)).toMatch(/^case +run +logits +local +candidates +chunks +nll +loss +tokens +lengths\n/);
  expect(rowsOf(report, 26)).toEqual([expect.stringMatching(/^15_gqa_single_short_chunk +generate +\S+e-6 +- +\S+e-6 +- +- +- +same +same +ok$/)]);
});
