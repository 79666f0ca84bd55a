// peers: Banyan beside node-llama-cpp (llama.cpp) on the same files: random weights in real shapes, the same ids, threads and lengths, in turns, each
// measurement in a fresh process.
//   npm run bench:peers -- [--shapes smollm2-135m,llama-3.2-1b] [--types Q8_0,Q4_0,Q4_K_M,F16] [--prompts 512,2048] [--decode 64] [--threads 2] [--repeats 3]
//                          [--variant avx512] [--keep DIR] [--json FILE] [--compare FILE]
// Prints tokens per second (medians, smallest and largest) of prompt and decoding, and the ratio of the medians. --compare prints what became slower or faster than an
// earlier --json by more than both runs' spread.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { spread } from './statistics.js';
import { kShapes, writeGguf, type FileType } from './gguf_writer.js';

const { values: flags } = parseArgs({
  options: {
    shapes: { type: 'string', default: 'llama-3.2-1b' },
    types: { type: 'string', default: 'Q8_0,Q4_0,Q4_K_M,F16' },
    prompts: { type: 'string', default: '512,2048' },
    decode: { type: 'string', default: '64' },
    threads: { type: 'string', default: '2' },
    repeats: { type: 'string', default: '3' },
    variant: { type: 'string' },
    keep: { type: 'string' },
    json: { type: 'string' },
    compare: { type: 'string' },
  },
});

interface Measured {
  loadMs: number;
  firstMs: number;
  prompt: number;
  decode: number;
  rss: number;
  device: string;
}
type Quantity = 'prompt' | 'decode';

interface Row {
  shape: string;
  type: string;
  prompt: number;
  ours: Measured[];
  theirs: Measured[];
}

const peersFolder = fileURLToPath(new URL('peers/', import.meta.url));
const run = (script: string, argument: Record<string, unknown>): Measured =>
  JSON.parse(
    execFileSync(process.execPath, [join(peersFolder, script), JSON.stringify(argument)], { encoding: 'utf8' })
      .trim()
      .split('\n')
      .at(-1)!,
  ) as Measured;

if (!existsSync(join(peersFolder, 'node_modules/node-llama-cpp'))) {
  console.error('installing the peers (bench/peers) ...');
  const { status } = spawnSync('npm', ['install', '--no-audit', '--no-fund'], { cwd: peersFolder, stdio: ['ignore', 'ignore', 'inherit'] });
  if (status !== 0) throw new Error('npm install in bench/peers failed');
}

const median = (values: readonly number[]): number => spread(values).median;
const spreadText = (values: readonly number[]): string => {
  const digits = median(values) < 100 ? 1 : 0;
  const text = (value: number): string => value.toFixed(digits);
  const { median: middle, min, max } = spread(values);
  return `${text(middle)} (${text(min)}-${text(max)})`;
};
const of = (measured: readonly Measured[], quantity: Quantity): number[] => measured.map((each) => each[quantity]);

const folder = flags.keep ?? mkdtempSync(join(tmpdir(), 'banyan-peers-'));
mkdirSync(folder, { recursive: true });
const rows: Row[] = [];
const [decode, threads, repeats] = [Number(flags.decode), Number(flags.threads), Number(flags.repeats)];
console.log(`${''.padEnd(32)}${'Banyan'.padStart(22)}${'node-llama-cpp'.padStart(22)}${'ratio'.padStart(8)}   tokens per second, ${threads} threads`);
try {
  for (const name of flags.shapes.split(',')) {
    const shape = kShapes[name];
    if (shape === undefined) throw new Error(`unknown shape ${name}; known are ${Object.keys(kShapes).join(', ')}`);
    for (const type of flags.types.split(',') as FileType[]) {
      const file = join(folder, `${name}-${type}.gguf`);
      if (!existsSync(file)) writeGguf(file, shape, type);
      for (const prompt of flags.prompts.split(',').map(Number)) {
        const row: Row = { shape: name, type, prompt, ours: [], theirs: [] };
        for (let i = 0; i < repeats; i++) {
          row.ours.push(run('run_banyan.mjs', { file, threads, prompt, decode, variant: flags.variant }));
          row.theirs.push(run('run_llama.mjs', { file, threads, prompt, decode }));
        }
        rows.push(row);
        for (const quantity of ['prompt', 'decode'] as const) {
          const [ours, theirs] = [of(row.ours, quantity), of(row.theirs, quantity)];
          const label = quantity === 'prompt' ? `prompt ${prompt}` : `decode at ${prompt}`;
          const ratio = (median(ours) / median(theirs)).toFixed(2);
          console.log(
            `${`${name} ${type}`.padEnd(18)}${label.padStart(14)}${spreadText(ours).padStart(22)}${spreadText(theirs).padStart(22)}${ratio.padStart(8)}`,
          );
        }
      }
      if (flags.keep === undefined) rmSync(file);
    }
  }
} finally {
  if (flags.keep === undefined) rmSync(folder, { recursive: true, force: true });
}

const first = rows[0]?.ours[0];
if (flags.json !== undefined) writeFileSync(flags.json, JSON.stringify({ device: first?.device, threads, decode, rows }, null, 1));
if (flags.compare !== undefined) {
  const before = JSON.parse(readFileSync(flags.compare, 'utf8')) as { rows: Row[] };
  for (const row of rows) {
    const old = before.rows.find((each) => each.shape === row.shape && each.type === row.type && each.prompt === row.prompt);
    if (old === undefined) continue;
    for (const quantity of ['prompt', 'decode'] as const) {
      const [now, then] = [of(row.ours, quantity), of(old.ours, quantity)];
      const change = `${row.shape} ${row.type} ${quantity} ${row.prompt}: ${median(then).toFixed(1)} -> ${median(now).toFixed(1)}`;
      if (Math.max(...now) < Math.min(...then)) console.log(`slower  ${change}`);
      else if (Math.min(...now) > Math.max(...then)) console.log(`faster  ${change}`);
    }
  }
}
