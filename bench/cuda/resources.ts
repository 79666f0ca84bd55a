/**
 * resources: what each kernel takes of a multiprocessor, as ptxas tells it, for every architecture that releases are built for: registers, and where they
 * do not suffice the bytes a thread stores and loads for that. Needs nvcc and c++filt, no GPU.
 *   npx tsx bench/cuda/resources.ts [--all] [file, e.g. gemm_few.cu ...]
 * Prints the kernels of these files (none named: of all) that spill, and the hot ones; --all: every one. Exit code 1: a hot one spills more than it may.
 */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

import { markdownTable } from '../../lib/cli/eval/markdown.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);

/**
 * Where a model's time goes, and the most bytes that a thread of it may load again: none today, with CUDA 13.0. Another compiler decides otherwise; then what
 * it spills, and whether that is in the loop over the keys or chunks, is to be read in the machine code before a number here is raised.
 */
const hot: readonly { kernel: string; mayLoad: number }[] = [
  { kernel: 'gemm_wgmma_kernel', mayLoad: 0 },
  { kernel: 'gemm_mma_kernel', mayLoad: 0 },
  { kernel: 'gemm_few_kernel', mayLoad: 0 },
  { kernel: 'attend_mma_kernel', mayLoad: 0 },
  { kernel: 'attend_split_kernel', mayLoad: 0 },
];

interface Use {
  registers: number;
  stores: number;
  loads: number;
  shared: number;
}

/** Those of a release, as cmake/cuda.cmake has them, that this nvcc knows. */
function architectures(): string[] {
  const text = readFileSync(join(root, 'cmake/cuda.cmake'), 'utf8');
  const named = [...text.matchAll(/(?:set\(|APPEND )archs ((?:\d+a? ?)+)\)/g)].flatMap((match) => match[1]!.trim().split(' '));
  if (named.length === 0) throw new Error('cmake/cuda.cmake names no architectures');
  const known = execFileSync('nvcc', ['--list-gpu-arch'], { encoding: 'utf8' }).split(/\s+/);
  return named.filter((arch) => known.includes(`compute_${arch.replace('a', '')}`));
}

/** What ptxas said of each entry, by its plain name. */
function usesIn(log: string): Map<string, Use> {
  const pattern =
    /Compiling entry function '(\S+)'[\s\S]*?(\d+) bytes spill stores, (\d+) bytes spill loads\n.*?Used (\d+) registers(?:.*?(\d+) bytes smem)?/g;
  const found = [...log.matchAll(pattern)];
  const names = execFileSync('c++filt', { input: found.map((match) => match[1]).join('\n'), encoding: 'utf8' }).split('\n');
  return new Map(
    found.map((match, i) => {
      const name = names[i]!.replace(/^void |\(anonymous namespace\)::|banyan::(cuda::)?/g, '').replace(/\((?!DType\)).*$/, '');
      const [stores, loads, registers, shared] = match.slice(2, 6).map((text) => Number(text ?? 0));
      return [name, { registers: registers!, stores: stores!, loads: loads!, shared: shared! }];
    }),
  );
}

async function compile(file: string, arch: string, folder: string): Promise<Map<string, Use>> {
  const flags = ['-std=c++20', '--expt-relaxed-constexpr', '-O3', '-DNDEBUG', '-Xptxas', '-v', '-Icpp', '-I.', '-cubin', `-arch=sm_${arch}`];
  const { stderr } = await run('nvcc', [...flags, '-o', join(folder, `${file}.${arch}.cubin`), join('cuda', file)], {
    cwd: root,
    maxBuffer: 1 << 26,
  });
  return usesIn(stderr);
}

const { values, positionals } = parseArgs({ allowPositionals: true, options: { all: { type: 'boolean', default: false } } });
const archs = architectures();
const kernels = new Map<string, Map<string, Use>>();
const folder = mkdtempSync(join(tmpdir(), 'banyan-resources-'));
try {
  const files = positionals.length > 0 ? positionals : readdirSync(join(root, 'cuda')).filter((name) => name.endsWith('.cu'));
  const jobs = files.flatMap((file) => archs.map((arch) => ({ file, arch })));
  const work = async (): Promise<void> => {
    for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) {
      for (const [name, use] of await compile(job.file, job.arch, folder)) {
        kernels.set(name, (kernels.get(name) ?? new Map<string, Use>()).set(job.arch, use));
      }
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
} finally {
  rmSync(folder, { recursive: true });
}

const allowance = (name: string): number | undefined => hot.find(({ kernel }) => name.startsWith(kernel))?.mayLoad;
const worst = (uses: Map<string, Use>): number => Math.max(...[...uses.values()].map((use) => use.loads));
const shown = [...kernels]
  .filter(([name, uses]) => values.all || allowance(name) !== undefined || worst(uses) > 0)
  .sort(([a], [b]) => (a < b ? -1 : 1));
const cell = (use: Use | undefined): string =>
  use === undefined ? '-' : `${use.registers}${use.stores + use.loads > 0 ? ` (${use.stores}, ${use.loads})` : ''}`;
const rows = shown.map(([name, uses]) => [
  name,
  ...archs.map((arch) => cell(uses.get(arch))),
  String(Math.max(...[...uses.values()].map((use) => use.shared))),
]);
console.log('Registers of a thread (bytes it stores and loads because they do not suffice), and static shared memory of a block, bytes\n');
console.log(markdownTable([['kernel', ...archs.map((arch) => `sm_${arch}`), 'shared'], ...rows]));
const tooMuch = shown.filter(([name, uses]) => worst(uses) > (allowance(name) ?? Infinity));
for (const [name, uses] of tooMuch) console.log(`${name} loads ${worst(uses)} bytes again, ${allowance(name)} are allowed`);
process.exitCode = tooMuch.length > 0 ? 1 : 0;
