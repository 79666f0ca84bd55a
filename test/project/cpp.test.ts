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

describe('C++ test programs', () => {
  test.each(programs)(
    '%s',
    (name) => {
      const program = folders.flatMap((folder) => [`${root}${folder}/${name}`, `${root}${folder}/${name}.exe`]).find((path) => existsSync(path));
      if (program === undefined) throw new Error(`${name} is not built; run npm run build:tests`);
      const { status, stdout, stderr } = spawnSync(program, [], { cwd: root, env, encoding: 'utf8', maxBuffer: 1 << 26, timeout: kTimeoutMs });
      const counts = [...stdout.matchAll(/(\d+) passed, (\d+) failed/g)].at(-1);
      process.stderr.write(`${name}: ${counts?.[0] ?? `no counts, exit code ${status}`}\n`);
      expect(status, `${stdout.slice(-4000)}${stderr.slice(-4000)}`).toBe(0);
      expect(Number(counts?.[1])).toBeGreaterThan(0);
      expect(Number(counts?.[2])).toBe(0);
    },
    kTimeoutMs,
  );
});
