/** engine_bench: the benchmark of the whole engine in small, on the CPU and on the emulated device, and what results.py makes of its lines. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';

import { readResults, type Measured } from '../../bench/result_file.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const program = join(root, 'build/tests/bin/banyan_engine_bench'); // built where the CUDA backend or its emulation is
const ops = join(root, 'build/tests/bin/banyan_ops_test');
const isEmulated = existsSync(ops) && spawnSync(ops, ['emulate'], { stdio: 'ignore' }).status === 0;
const hasPython = spawnSync('python3', ['--version'], { stdio: 'ignore' }).status === 0;
const folder = mkdtempSync(join(tmpdir(), 'banyan-engine-bench-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Output {
  status: number | null;
  text: string;
  about: { bench?: string; device?: string };
  measured: Map<string, Measured>;
  skipped: string[];
}

function run(...args: string[]): Output {
  const env = { ...process.env, BANYAN_EMULATED_SMS: '4' }; // fewer blocks, less to emulate
  const { status, stdout, stderr } = spawnSync(program, [join(folder, 'model'), '--size', 'small', ...args], { env, encoding: 'utf8' });
  const lines = stdout.split('\n').filter(Boolean);
  const parsed = lines.map((line) => JSON.parse(line) as Partial<Measured> & Output['about'] & { skipped?: string });
  return {
    ...{ status, text: stdout + stderr },
    about: parsed.find(({ bench }) => bench !== undefined) ?? {},
    measured: new Map(parsed.filter(({ values }) => values !== undefined).map((line) => [line.name!, line as Measured])),
    skipped: parsed.flatMap(({ skipped }) => skipped ?? []),
  };
}

describe.skipIf(!existsSync(program))(`banyan_engine_bench${existsSync(program) ? '' : ' (not built)'}`, () => {
  const kQuantities = [
    ...['writing the model', 'loading the model', 'weights', 'decoding without a document', 'first token without a document'],
    ...['first token, 512', 'first token, 512, of the first document', 'peak until the first token, 512, used above the weights'],
    ...['indexing', 'selecting', 'encoding and placing', 'reading the question'].map((what) => `first token, 512: ${what}`),
    ...['later question, 512', 'decoding with the document, 512', 'slots injected, 512', 'document, 512'],
    ...['first token by full attention, 512', 'decoding by full attention, 512', 'peak of full attention, 512, reserved above the weights'],
    ...['compressing, 512', 'compressing, 2K', 'compressing, 2K to 512', 'peak of compressing, 2K, used above the weights'],
    ...['20 documents of 128', '20 documents of 128: left behind', '20 documents of 128: reserved afterwards'],
    ...['saving a document, 512', 'opening a document, 512', 'first question after opening, 512'],
  ];

  test('every quantity on the CPU', () => {
    const { status, text, about, measured, skipped } = run('--device', 'cpu', '--threads', '2');
    expect(status, text).toBe(0);
    expect(about).toMatchObject({ bench: 'engine', device: expect.stringMatching(/^cpu/) as string });
    expect(skipped).toEqual([]);
    for (const name of kQuantities) {
      const values = measured.get(name)?.values ?? [];
      expect(values.length, name).toBeGreaterThan(0);
      expect(values.every(Number.isFinite), name).toBe(true);
    }
    const seconds = measured.get('first token, 512')!.values;
    expect(seconds.every((value) => value > 0)).toBe(true);
    // 8 chunks, of which 2 nodes of the depths 1 and 2 and 2 leaves of 4 slots each are injected
    expect(measured.get('slots injected, 512')!.values).toEqual([8 * 4 * 4]);
  });

  test.runIf(isEmulated)('documents leave nothing on the emulated device', () => {
    const lengths = ['--document', '128', '--question', '4', '--tokens', '2', '--small-documents', '3', '--small-document', '70'];
    const { status, text, about, measured } = run('--device', 'cuda', '--parts', 'many', ...lengths);
    expect(status, text).toBe(0);
    expect(about.device).toMatch(/^cuda \(Emulated/);
    expect(measured.get('3 documents of 70: left behind')!.values).toEqual([0]);
    expect(measured.get('weights')!.values[0]).toBeGreaterThan(1);
  });

  test('what finds no time is skipped, and said', () => {
    const { status, skipped, measured } = run('--device', 'cpu', '--seconds', '0');
    expect(status).toBe(0);
    expect(skipped).toEqual(['decode', 'document', 'full', 'rates', 'many', 'opened']);
    expect(measured.has('loading the model')).toBe(true);
  });

  test('wrong options are refused', () => {
    for (const options of [['--parts', 'sing'], ['--size', '70b'], ['--tokens', '0'], ['--tokens', 'x'], ['--sizes', 'small'], ['--tokens']]) {
      expect(run(...options), options.join(' ')).toMatchObject({ status: 2, measured: new Map() });
    }
  });
});

describe.skipIf(!hasPython)(`results.py${hasPython ? '' : ' (there is no python3)'}`, () => {
  const write = (name: string, lines: readonly unknown[]): void =>
    writeFileSync(join(folder, name), lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'));
  const cost = (name: string, unit: string, ...values: number[]) => ({ name, unit, isCost: true, values });
  const gemm = (dtype: string, tokens: number, ms: number) => ({
    name: 'o',
    dtype,
    tokens,
    rows: 4096,
    cols: 4096,
    path: 'chosen',
    ms,
    of_read: 0.5,
  });

  function verdicts(): { status: number | null; of: (target: string) => string | undefined } {
    const { status, stdout } = spawnSync('python3', [join(root, 'bench/cuda/results.py'), folder], { cwd: root, encoding: 'utf8' });
    return { status, of: (target) => stdout.split('\n').find((line) => line.startsWith(target)) };
  }

  test('targets are met, missed or not measured, and all samples are kept', () => {
    write('engine.jsonl', [
      { bench: 'engine', device: 'cuda (Some GPU, sm_90)', flags: { document: 131072 }, shape: { layers: 32 } },
      { name: 'read', ms: 0.5, GBps: 4000 },
      cost('first token, 128K', 's', 0.9, 2, 0.7),
      cost('first token, 128K: indexing', 'ms', 700),
      cost('first token by full attention, 128K', 's', 18),
      cost('later question, 128K', 's', 0.06),
      { skipped: 'opened' },
      '{"name": "cut sh',
    ]);
    write('engine_peers.txt', [cost('transformers 5.0.0: first token by full attention, 128K', 's', 9), 'for people']);
    write('gemm.jsonl', [gemm('BF16', 2048, 1), gemm('BF16', 8192, 4), gemm('BF16', 16, 1), gemm('Q4_K', 2048, 1)]);
    write('gemm_peers.txt', [
      { name: 'o', tokens: 2048, peer: 'torch', ms: 0.9 },
      { name: 'o', tokens: 8192, peer: 'torch', ms: 3.6 },
      { name: 'o', tokens: 16, peer: 'torch', ms: 0.1 },
    ]);
    const { status, of } = verdicts();
    expect(status).toBe(1);
    expect(of('first token')).toMatch(/at most 1 s +0\.9 s +met$/);
    expect(of('full attention / first token')).toMatch(/at least 15 x +20 x +met$/);
    expect(of('transformers / first token')).toMatch(/10 x +MISSED$/);
    expect(of('later question')).toMatch(/0\.06 s +MISSED$/);
    expect(of('gemm bf16')).toMatch(/90 % +met$/);
    expect(of('gemm Q4_K')).toMatch(/90 % +met$/);
    expect(of('injection')).toMatch(/not measured$/);
    expect(of('skipped')).toBe('skipped: opened');
    const { measured, bench, device, skipped } = readResults(join(folder, 'results.json'));
    expect({ bench, device, skipped }).toEqual({ bench: 'cuda', device: 'cuda (Some GPU, sm_90)', skipped: ['opened'] });
    expect(measured).toContainEqual(cost('first token, 128K', 's', 0.9, 2, 0.7));
    expect(measured).toContainEqual({ name: 'gemm o BF16 chosen T=16, of reading', unit: '%', isCost: false, values: [50] });
  });

  test('nothing measured misses nothing', () => {
    for (const name of ['engine.jsonl', 'engine_peers.txt', 'gemm.jsonl', 'gemm_peers.txt']) rmSync(join(folder, name));
    const { status, of } = verdicts();
    expect(status).toBe(0);
    expect(of('first token')).toMatch(/not measured$/);
    expect(JSON.parse(readFileSync(join(folder, 'results.json'), 'utf8'))).toMatchObject({ measured: [], device: 'unknown' });
  });
});
