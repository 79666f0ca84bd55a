/** cpp: runs the C++ test programs (npm run build:tests) and shows what they count. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folders = ['build/tests/bin', 'build/tests/bin/Release'];
const programs = ['banyan_ops_test', 'banyan_model_test', 'banyan_engine_test'];
const kTimeoutMs = 900_000;

// Where there are real models to open.
const models = join(root, '../shared/models');
const env = { ...process.env, ...(existsSync(models) ? { BANYAN_TEST_MODELS: models } : {}) };

const find = (name: string): string | undefined =>
  folders.flatMap((folder) => [`${root}${folder}/${name}`, `${root}${folder}/${name}.exe`]).find((path) => existsSync(path));

function check(name: string, more: NodeJS.ProcessEnv = {}, cases: readonly string[] = []): void {
  const program = find(name);
  if (program === undefined) throw new Error(`${name} is not built; run npm run build:tests`);
  const { status, stdout, stderr } = spawnSync(program, cases, {
    cwd: root,
    env: { ...env, ...more },
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    timeout: kTimeoutMs,
  });
  const counts = [...stdout.matchAll(/(\d+) passed, (\d+) failed/g)].at(-1);
  process.stderr.write(`${[name, ...Object.entries(more).flat()].join(' ')}: ${counts?.[0] ?? `no counts, exit code ${status}`}\n`);
  expect(status, `${stdout.slice(-4000)}${stderr.slice(-4000)}`).toBe(0);
  expect(Number(counts?.[1])).toBeGreaterThan(0);
  expect(Number(counts?.[2])).toBe(0);
}

// Cases that put every kind of data on the device and take seconds there, where the whole program takes half an hour: emulation is slow.
const kOnDevice = [
  'oracle_8_bits',
  'oracle_overrides',
  'oracle_interleaved',
  'nested_yarn',
  'budget_of_a',
  'lora_lower',
  'saved_damage',
  'saved_other',
  'parallel_pools',
  'full_again',
  'focus_pairs',
  'memory_',
  'kv_pool',
];

// Builds with the emulated device have a suite of this name, others have none and then end with 1.
const ops = find('banyan_ops_test');
const isEmulated = ops !== undefined && spawnSync(ops, ['emulate'], { stdio: 'ignore' }).status === 0;

describe('C++ test programs', () => {
  test.each(programs)('%s', (name) => check(name), kTimeoutMs);
  test.runIf(isEmulated)(
    'banyan_engine_test on a device with memory of its own',
    () => check('banyan_engine_test', { BANYAN_TEST_DEVICE: 'cuda', BANYAN_CUDA_EXACT: '1' }, kOnDevice),
    kTimeoutMs,
  );
});
