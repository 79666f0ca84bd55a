/** npm run golden as a program: exit codes and output for good, damaged and missing cases. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const source = join(root, 'test/fixtures/sharedllm', readdirSync(join(root, 'test/fixtures/sharedllm')).sort()[0]!);

function golden(...args: string[]) {
  const program = [join(root, 'node_modules/tsx/dist/cli.mjs'), join(root, 'test/golden/main.ts'), ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, program, { cwd: root, encoding: 'utf8' });
  return { status, stdout, stderr };
}

describe('golden runner', { timeout: 60_000 }, () => {
  let folder = '';
  const path = (name: string): string => join(folder, name);
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'banyan-golden-'));
    mkdirSync(path('empty'));
    cpSync(source, path('good/one'), { recursive: true });
    cpSync(source, path('mixed/one'), { recursive: true });
    cpSync(source, path('mixed/torn'), { recursive: true });
    truncateSync(path('mixed/torn/model.safetensors'), 1000);
    cpSync(source, path('mixed/wrong'), { recursive: true });
    rmSync(path('mixed/wrong/inputs.json'));
    mkdirSync(path('mixed/hollow'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('agreement is 0', () => {
    const { status, stdout } = golden(path('good'));
    expect(stdout).toMatch(/\n1 passed, 0 failed\n$/);
    expect(status).toBe(0);
  });
  test('--json is one object', () => {
    const { status, stdout } = golden(path('good'), '--json');
    expect(JSON.parse(stdout)).toMatchObject({
      passed: 1,
      failed: 0,
      cases: [{ name: 'one', runs: [{ semantics: 'released' }, { semantics: 'corrected' }] }],
    });
    expect(status).toBe(0);
  });
  test('--weights holds to the rule of 16 bits', () => {
    const { status, stdout } = golden(path('good'), '--weights', 'f16');
    expect(stdout).toMatch(/^one +released +ok +logits .*\(cpu .*, at most .*\n\n1 passed, 0 flipped, 0 failed\n$/s);
    expect(status).toBe(0);
    expect(golden(path('mixed'), '--weights', 'bf16').status).toBe(1);
    expect(golden(path('good'), '--weights', 'f8').status).toBe(2);
  });
  test('damaged folders are failed cases, the others still run', () => {
    const { status, stdout } = golden(path('mixed'), '--json');
    const { cases } = JSON.parse(stdout) as { cases: { name: string; passed: boolean; error?: string }[] };
    expect(cases.map(({ name, passed }) => [name, passed])).toEqual([
      ['hollow', false],
      ['one', true],
      ['torn', false],
      ['wrong', false],
    ]);
    expect(cases[2]!.error).toMatch(/^BANYAN_BAD_MODEL_FILE /);
    expect(status).toBe(1);
  });
  test('a directory without a case is 1, a missing one and wrong options are 2', () => {
    expect(golden(path('empty')).status).toBe(1);
    expect(golden(path('nothing')).status).toBe(2);
    expect(golden().status).toBe(2);
    expect(golden(path('good'), '--jsonn').status).toBe(2);
  });
});
