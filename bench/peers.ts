// peers: Banyan beside node-llama-cpp (llama.cpp) on the same files: random weights in real shapes, the same ids, threads and lengths, in turns, each
// measurement in a fresh process.
//   npm run bench:peers -- [--shapes smollm2-135m,llama-3.2-1b] [--types Q8_0,Q4_0,Q4_K_M,F16] [--prompts 512,2048] [--decode 64] [--threads 2] [--repeats 3]
//                          [--variant avx512] [--peer-cpu NAME] [--keep DIR] [--json FILE] [--add] [--compare FILE] [--markdown FILE] [--svg DIR]
// Prints tokens per second (medians, smallest and largest) of prompt and decoding, and the ratio of the medians; and Banyan's share of what the machine
// gives (bench/ceilings.ts), measured before each of its processes: matrix products of a prompt, bytes that decoding reads. --add adds to the rows in the --json file, so
// that they can be measured one by one; --repeats 0 only reports. --variant and --peer-cpu (one of the peer's libggml-cpu-NAME libraries, e.g. haswell) show a
// machine that has less than this one. --compare prints what became slower or faster than an earlier --json by more than both runs'
// spread. --markdown replaces what stands between <!-- bench:peers --> and <!-- /bench:peers --> (with a variant: <!-- bench:peers VARIANT -->).
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { markdownTable } from '../lib/cli/eval/markdown.js';
import { ratioBars, type Bar } from './bars.js';
import { bytesOfToken, measureCeilings, operationsOfToken, promptCeiling, type Ceilings } from './ceilings.js';
import { compare } from './comparison.js';
import { shapeOf, writeGguf, type FileType } from './gguf_writer.js';
import { folderFrom, writeSection } from './page.js';
import { provenance, readResults, resumeResults, writeResults, type Measured as Series } from './result_file.js';
import { spread } from './statistics.js';

const { values: flags } = parseArgs({
  options: {
    shapes: { type: 'string', default: 'llama-3.2-1b' },
    types: { type: 'string', default: 'Q8_0,Q4_0,Q4_K_M,F16' },
    prompts: { type: 'string', default: '512,2048' },
    decode: { type: 'string', default: '64' },
    threads: { type: 'string', default: '2' },
    repeats: { type: 'string', default: '3' },
    variant: { type: 'string' },
    'peer-cpu': { type: 'string' },
    keep: { type: 'string' },
    json: { type: 'string' },
    add: { type: 'boolean', default: false },
    markdown: { type: 'string' },
    svg: { type: 'string' },
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
  type: FileType;
  prompt: number;
  ours: Measured[];
  theirs: Measured[];
  /** Of the file. */
  bytes: number;
  /** Before each of ours. */
  ceilings: Ceilings[];
}

const peersFolder = fileURLToPath(new URL('peers/', import.meta.url));
const run = (scripts: string, script: string, argument: Record<string, unknown>): Measured =>
  JSON.parse(
    execFileSync(process.execPath, [join(scripts, script), JSON.stringify(argument)], { encoding: 'utf8' })
      .trim()
      .split('\n')
      .at(-1)!,
  ) as Measured;

if (!existsSync(join(peersFolder, 'node_modules/node-llama-cpp'))) {
  console.error('installing the peers (bench/peers) ...');
  const { status } = spawnSync('npm', ['install', '--no-audit', '--no-fund'], { cwd: peersFolder, stdio: ['ignore', 'ignore', 'inherit'] });
  if (status !== 0) throw new Error('npm install in bench/peers failed');
}

/** A copy of the peer that has only one of its libraries for kinds of processors: it takes the best of those it finds. */
function peerWithOnly(cpu: string, to: string): string {
  const name = `libggml-cpu-${cpu}.so`;
  const isWanted = (path: string): boolean => {
    const file = basename(path);
    return !/@node-llama-cpp\/(?!linux-x64$)[^/]+$/.test(path) && (!file.startsWith('libggml-cpu') || file === name);
  };
  cpSync(peersFolder, to, { recursive: true, filter: isWanted });
  if (!existsSync(join(to, 'node_modules/@node-llama-cpp/linux-x64/bins/linux-x64', name))) throw new Error(`the peer has no ${name}`);
  return to;
}

const median = (values: readonly number[]): number => spread(values).median;
const spreadText = (values: readonly number[]): string => {
  const digits = median(values) < 100 ? 1 : 0;
  const text = (value: number): string => value.toFixed(digits);
  const { median: middle, min, max } = spread(values);
  return `${text(middle)} (${text(min)}-${text(max)})`;
};
const kQuantities: readonly Quantity[] = ['prompt', 'decode'];
const labelOf = ({ shape, type, prompt }: Row, quantity: Quantity): string =>
  `${shape} ${type} ${quantity === 'prompt' ? 'prompt' : 'decode at'} ${prompt}`;

function beside({ ours, theirs }: Row, quantity: Quantity): { ours: number[]; theirs: number[]; ratio: number } {
  const [a, b] = [ours, theirs].map((all) => all.map((each) => each[quantity])) as [number[], number[]];
  return { ours: a, theirs: b, ratio: median(a) / median(b) };
}

/** Banyan's shares of the ceilings, each of the one measured with it. */
function sharesOf({ shape, type, prompt, ours, bytes, ceilings }: Row, quantity: Quantity): number[] {
  const perToken = quantity === 'prompt' ? operationsOfToken(shapeOf(shape)) : bytesOfToken(shapeOf(shape), bytes, prompt + decode / 2);
  return ours.map((each, i) => {
    const { reading } = ceilings[i]!;
    return (each[quantity] * perToken) / (1e9 * (quantity === 'prompt' ? promptCeiling(ceilings[i]!, type) : reading));
  });
}
const percentText = (values: readonly number[]): string => {
  const { median: middle, min, max } = spread(values.map((value) => 100 * value));
  return `${middle.toFixed(0)} % (${min.toFixed(0)}-${max.toFixed(0)})`;
};

const folder = flags.keep ?? mkdtempSync(join(tmpdir(), 'banyan-peers-'));
mkdirSync(folder, { recursive: true });
const earlier = flags.add && flags.json !== undefined ? resumeResults(flags.json, 'peers', flags.repeats !== '0') : undefined;
const { commit, cpu } = earlier ?? provenance();
const rows = (earlier?.['rows'] ?? []) as Row[];
const repeats = Number(flags.repeats);
// A report shows what was measured, whatever the flags would be now.
const isReport = earlier !== undefined && repeats === 0;
const [decode, threads] = isReport ? [Number(earlier['decode']), Number(earlier['threads'])] : [Number(flags.decode), Number(flags.threads)];
if (earlier !== undefined && (earlier['decode'] !== decode || earlier['threads'] !== threads))
  throw new Error(`${flags.json!} was measured with other settings`);
// What both programs were held down to, as the file tells.
const variant = (isReport ? (earlier['variant'] as string | undefined) : undefined) ?? flags.variant;
const peerCpu = (isReport ? (earlier['peerCpu'] as string | undefined) : undefined) ?? flags['peer-cpu'];
if (earlier !== undefined && !isReport && (earlier['variant'] !== variant || earlier['peerCpu'] !== peerCpu))
  throw new Error(`${flags.json!} was measured with another --variant or --peer-cpu`);
const peerCopy = peerCpu === undefined || repeats === 0 ? undefined : mkdtempSync(join(tmpdir(), 'banyan-peer-'));
console.log(
  `${''.padEnd(42)}${'Banyan'.padStart(22)}${'node-llama-cpp'.padStart(22)}${'ratio'.padStart(8)}${'of the ceiling'.padStart(16)}   tokens per second, ${threads} threads`,
);
try {
  const peer = peerCopy === undefined ? peersFolder : peerWithOnly(peerCpu!, peerCopy);
  for (const name of flags.shapes.split(',')) {
    const shape = shapeOf(name);
    for (const type of repeats === 0 ? [] : (flags.types.split(',') as FileType[])) {
      const file = join(folder, `${name}-${type}.gguf`);
      if (!existsSync(file)) writeGguf(file, shape, type);
      for (const prompt of flags.prompts.split(',').map(Number)) {
        let row = rows.find((each) => each.shape === name && each.type === type && each.prompt === prompt);
        if (row === undefined) rows.push((row = { shape: name, type, prompt, ours: [], theirs: [], bytes: statSync(file).size, ceilings: [] }));
        for (let i = 0; i < repeats; i++) {
          row.ceilings.push(measureCeilings(threads, variant));
          row.ours.push(run(peersFolder, 'run_banyan.mjs', { file, threads, prompt, decode, variant }));
          row.theirs.push(run(peer, 'run_llama.mjs', { file, threads, prompt, decode }));
        }
        for (const quantity of kQuantities) {
          const { ours, theirs, ratio } = beside(row, quantity);
          const label = labelOf(row, quantity);
          const speeds = `${spreadText(ours).padStart(22)}${spreadText(theirs).padStart(22)}${ratio.toFixed(2).padStart(8)}`;
          console.log(`${label.padEnd(42)}${speeds}${percentText(sharesOf(row, quantity)).padStart(16)}`);
        }
      }
      if (flags.keep === undefined) rmSync(file);
    }
  }
} finally {
  if (peerCopy !== undefined) rmSync(peerCopy, { recursive: true, force: true });
  if (flags.keep === undefined) rmSync(folder, { recursive: true, force: true });
}

const measured = rows.flatMap((row) =>
  kQuantities.flatMap((quantity): Series[] => {
    const { ours, theirs } = beside(row, quantity);
    const both = [
      { program: 'Banyan', values: ours },
      { program: 'node-llama-cpp', values: theirs },
    ];
    return both.map(({ program, values }) => ({ name: `${labelOf(row, quantity)} ${program}`, unit: 'tokens/s', isCost: false, values }));
  }),
);

// Ratios of the worst and the best pair too: no pair of samples was further apart.
function barOf(row: Row, quantity: Quantity): Bar {
  const { ours, theirs, ratio } = beside(row, quantity);
  const [a, b] = [spread(ours), spread(theirs)];
  return { label: labelOf(row, quantity), ratio, least: a.min / b.max, most: a.max / b.min };
}

function markdown(): string {
  const lines = rows.flatMap((row) =>
    kQuantities.map((quantity) => {
      const { ours, theirs, ratio } = beside(row, quantity);
      return [labelOf(row, quantity), spreadText(ours), spreadText(theirs), ratio.toFixed(2), percentText(sharesOf(row, quantity))];
    }),
  );
  const device = rows[0]?.ours[0]?.device ?? '';
  const { min, max } = spread(rows.map(({ ours }) => ours.length));
  const held = [...(variant === undefined ? [] : ['--variant', variant]), ...(peerCpu === undefined ? [] : ['--peer-cpu', peerCpu])];
  const command = ['npm run bench:peers', ...(held.length === 0 ? [] : ['--', ...held])].join(' ');
  const intro =
    `Tokens per second, medians of ${min === max ? max : `${min} to ${max}`} processes (smallest-largest), ${device}, ${cpu}, commit ${commit}. ` +
    `\`${command}\`. Above 1: Banyan is faster. Random weights in real shapes, the same files, ids and threads, the peer with flash attention. ` +
    'The ceilings were measured before each process of Banyan: products of bytes for prompts (F16: of floats), reading for decoding.';
  const tiles = rows.flatMap(({ ceilings }) =>
    ceilings.flatMap((each) => (each.tiles === undefined || each.bytes === undefined ? [] : [each.tiles / each.bytes])),
  );
  const aboutTiles =
    tiles.length === 0
      ? ''
      : ` Prompts use tiles of bf16, of which the processor makes ${median(tiles).toFixed(1)} times as many: a share of these would be that much smaller.`;
  const folderName = folderFrom(flags.markdown, flags.svg);
  const image = folderName === null ? [] : [`![Tokens per second, Banyan / node-llama-cpp](${folderName}/peers.svg)`];
  return [intro + aboutTiles, ...image, markdownTable([['', 'Banyan', 'node-llama-cpp', 'ratio', 'Banyan, of the ceiling'], ...lines])].join('\n\n');
}

const file = { bench: 'peers', commit, cpu, flags, measured };
if (flags.json !== undefined) writeResults(flags.json, { ...file, device: rows[0]?.ours[0]?.device, threads, decode, variant, peerCpu, rows });
if (rows.length > 0 && flags.svg !== undefined) {
  mkdirSync(flags.svg, { recursive: true });
  const bars = kQuantities.flatMap((quantity) => rows.map((row) => barOf(row, quantity)));
  writeFileSync(join(flags.svg, 'peers.svg'), ratioBars('Tokens per second beside node-llama-cpp', 'Banyan / node-llama-cpp', bars));
}
if (rows.length > 0 && flags.markdown !== undefined)
  writeSection(flags.markdown, variant === undefined ? 'bench:peers' : `bench:peers ${variant}`, markdown());
if (flags.compare !== undefined) {
  for (const { verdict, name, before, after } of compare(readResults(flags.compare), file)) {
    if (verdict === 'worse' || verdict === 'better')
      console.log(`${verdict === 'worse' ? 'slower' : 'faster'}  ${name}: ${before!.toFixed(1)} -> ${after!.toFixed(1)}`);
  }
}
