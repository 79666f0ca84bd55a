/**
 * result_file: what a benchmark leaves on disk: which code ran where, and every measured value, so that two runs can be compared whatever the
 * benchmark (bench:compare).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, isAbsolute } from 'node:path';
import { fileURLToPath } from 'node:url';

/** All samples of one quantity of one case. */
export interface Measured {
  /** The case and the quantity: the same in every run. */
  name: string;
  unit: string;
  /** Less of it is better. */
  isCost: boolean;
  values: number[];
}

export interface ResultFile {
  bench: string;
  /** Of the code that ran, with `-dirty` if files were changed; `unknown` outside a repository. */
  commit: string;
  cpu: string;
  flags: Record<string, unknown>;
  measured: Measured[];
}

/** Where and what runs now. */
export function provenance(): Pick<ResultFile, 'commit' | 'cpu'> {
  const root = fileURLToPath(new URL('..', import.meta.url));
  // what is being written about the results is no change of the code
  const isClean = spawnSync('git', ['diff', '--quiet', 'HEAD', '--', ':!bench/results', ':!docs', ':!*.md'], { cwd: root }).status === 0;
  const { status, stdout } = spawnSync('git', ['rev-parse', '--short=12', 'HEAD'], { cwd: root, encoding: 'utf8' });
  const commit = status === 0 ? `${stdout.trim()}${isClean ? '' : '-dirty'}` : 'unknown';
  return { commit, cpu: cpus()[0]?.model.trim() ?? 'unknown processor' };
}

/** Paths among the flags are left out: they tell of a machine, not of what was measured. */
export function writeResults(path: string, file: ResultFile & Record<string, unknown>): void {
  const flags = Object.fromEntries(Object.entries(file.flags).filter(([, value]) => typeof value !== 'string' || !isAbsolute(value)));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify({ ...file, flags }, null, 1)}\n`);
}

/** Throws if the file is none of a benchmark's. */
export function readResults(path: string): ResultFile & Record<string, unknown> {
  if (!existsSync(path)) throw new Error(`${path} is not there`);
  const file = JSON.parse(readFileSync(path, 'utf8')) as Partial<ResultFile> & Record<string, unknown>;
  if (typeof file.bench !== 'string' || !Array.isArray(file.measured)) throw new Error(`${path} holds no results of a benchmark`);
  return file as ResultFile & Record<string, unknown>;
}

/**
 * What an earlier call left, to add to it; undefined if the file is not there. Throws if it is another benchmark's, or, where something will be
 * measured, of other code or another processor: such samples do not belong together.
 */
export function resumeResults(path: string, bench: string, willMeasure: boolean): (ResultFile & Record<string, unknown>) | undefined {
  if (!existsSync(path)) return undefined;
  const file = readResults(path);
  const now = provenance();
  if (file.bench !== bench) throw new Error(`${path} holds results of ${file.bench}`);
  if (willMeasure && (file.commit !== now.commit || file.cpu !== now.cpu)) {
    const [then, here] = [file, now].map(({ commit, cpu }) => `${commit} on ${cpu}`) as [string, string];
    throw new Error(`${path} was measured with ${then}, this is ${here}: without --add it is written anew`);
  }
  return file;
}
