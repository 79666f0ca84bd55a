// methods: what every way of reading a long document costs on one model with random weights: time to the first token, decoding, memory, multiply-adds.
//   npm run bench:methods -- [--lengths 4096,...,131072] [--methods sharedllm,focusllm,focusllm8,full,streaming,parallel,cepe,beacon] [--repeats 3]
//     [--tokens 16] [--prompt 512] [--window 4096] [--injected-layers 4] [--encoder-layers 4] [--encoder-width 256] [--threads N]
//     [--repeat-seconds 60] [--budget-seconds 900] [--json FILE] [--markdown FILE] [--svg DIR]
// Every sample is a process of its own; methods take turns. A cell (method and length) all of whose repeats are predicted to take longer than
// --repeat-seconds runs once; one of which a single run is predicted to take longer than the budget is skipped and filled by a fit of the smaller
// lengths, marked with ~.
// cepe and beacon are cost models (bench/cost_models.cc): time and memory of those methods, not their quality.
// --markdown replaces what stands between <!-- bench:methods --> and <!-- /bench:methods -->.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { Cells, kQuantities } from './methods/cell.js';
import { methods as allMethods, takeSample, type Setting } from './methods/method.js';
import { markdownSection, plots } from './methods/report.js';
import type { Sample } from './methods/sample.js';
import { folderFrom, writeSection } from './page.js';
import { provenance, writeResults } from './result_file.js';
import { kBenchShape, writeSyntheticModel, type Shape } from './synthetic_model.js';
import { measuredOf } from './tables.js';
import { shortLength } from '../lib/cli/eval/markdown.js';

const { values: flags } = parseArgs({
  options: {
    lengths: { type: 'string', default: '4096,8192,16384,32768,65536,131072' },
    methods: { type: 'string' },
    repeats: { type: 'string', default: '3' },
    tokens: { type: 'string', default: '16' },
    prompt: { type: 'string', default: '512' },
    window: { type: 'string', default: '4096' },
    'injected-layers': { type: 'string', default: String(kBenchShape.shared.injectedLayers) },
    'encoder-layers': { type: 'string', default: String(kBenchShape.layers / 2) },
    'encoder-width': { type: 'string', default: String(kBenchShape.dim) },
    threads: { type: 'string', default: '0' },
    'repeat-seconds': { type: 'string', default: '60' },
    'budget-seconds': { type: 'string', default: '900' },
    json: { type: 'string' },
    markdown: { type: 'string' },
    svg: { type: 'string' },
  },
});

function count(
  name: 'repeats' | 'tokens' | 'prompt' | 'window' | 'injected-layers' | 'encoder-layers' | 'encoder-width' | 'threads',
  least = 1,
): number {
  const value = Number(flags[name]);
  if (!Number.isInteger(value) || value < least) throw new Error(`--${name} must be a whole number of at least ${least}`);
  return value;
}

const lengths = flags.lengths.split(',').map(Number);
if (!lengths.every((length) => Number.isInteger(length) && length > 0)) throw new Error('--lengths must be whole numbers');
lengths.sort((a, b) => a - b);
const known = allMethods(count('window'));
const methods = (flags.methods?.split(',') ?? known.map(({ name }) => name)).map((name) => {
  const method = known.find((each) => each.name === name);
  if (method === undefined) throw new Error(`--methods: ${name} is none of ${known.map((each) => each.name).join(', ')}`);
  return method;
});
const repeats = count('repeats');
const budget = Number(flags['budget-seconds']);
const shape: Shape = { ...kBenchShape, shared: { ...kBenchShape.shared, injectedLayers: count('injected-layers') } };

const folder = mkdtempSync(join(tmpdir(), 'banyan-bench-'));
const cells = new Cells();
let device = '';
try {
  const setting: Setting = {
    folders: writeSyntheticModel(folder, shape),
    prompt: count('prompt'),
    tokens: count('tokens'),
    threads: count('threads', 0),
    encoderLayers: count('encoder-layers'),
    encoderWidth: count('encoder-width'),
  };
  for (const length of lengths) {
    const runs = new Map(methods.map((method) => [method.name, plannedRuns(method, length)]));
    for (let repeat = 0; repeat < repeats; repeat++) {
      for (const method of methods) {
        if (repeat >= runs.get(method.name)!) continue;
        const start = performance.now();
        const sample = await takeSample(method, length, setting);
        cells.add(method, length, sample, (performance.now() - start) / 1000);
        device = sample.device;
        printSample(method.label, length, sample, (performance.now() - start) / 1000);
      }
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

// How often this cell runs: 0 leaves it to the fit.
function plannedRuns(method: (typeof methods)[number], length: number): number {
  const predicted = cells.predictWall(method, length);
  if (predicted === undefined || predicted * repeats <= Number(flags['repeat-seconds'])) return repeats;
  const seconds = `predicted to take ${predicted.toFixed(0)} s a run`;
  if (predicted <= budget) {
    if (repeats > 1) console.log(`${method.label} at ${shortLength(length)} runs once: ${seconds}`);
    return 1;
  }
  console.log(`${method.label} at ${shortLength(length)} is skipped, its values are fitted: ${seconds}`);
  cells.add(method, length, undefined, 0);
  return 0;
}

function printSample(label: string, length: number, sample: Sample, wallSeconds: number): void {
  const memory = (sample.peakBytes - sample.loadedBytes) / 2 ** 20;
  const values = [
    `first token ${sample.firstSeconds.toFixed(3)} s`,
    `second question ${sample.secondSeconds.toFixed(3)} s`,
    `${sample.tokensPerSecond.toFixed(1)} tokens/s`,
    `${memory.toFixed(1)} MiB`,
    `${(sample.firstMultiplyAdds / 1e9).toFixed(2)}e9 multiply-adds, ${(sample.tokenMultiplyAdds / 1e6).toFixed(2)}e6 a token`,
    `${wallSeconds.toFixed(1)} s in all`,
  ];
  console.log(`${shortLength(length).padStart(6)}  ${label.padEnd(30)}  ${values.join(', ')}`);
}

function introduction(): string[] {
  const { layers, dim, heads, headDim, kvHeads, ffn, vocab, shared, focus } = shape;
  const text = (name: keyof typeof flags, value: string): string => `--${name} ${value}`;
  const command = ['npm run bench:methods --', text('lengths', lengths.join(',')), text('repeats', String(repeats))];
  if (flags.methods !== undefined) command.push(text('methods', flags.methods));
  for (const name of [
    'tokens',
    'prompt',
    'window',
    'injected-layers',
    'encoder-layers',
    'encoder-width',
    'threads',
    'repeat-seconds',
    'budget-seconds',
  ] as const)
    command.push(text(name, flags[name]));
  const isSmall = repeats < 3 || lengths.at(-1)! < 131_072;
  const kind = isSmall ? 'A small run, to show that everything works; no conclusion rests on it' : 'The full run';
  const spreadText = repeats > 1 ? `median of up to ${repeats} processes (smallest-largest)` : 'one process a cell, no spread';
  return [
    `${kind}: ${lengths.map(shortLength).join(', ')} tokens, ${spreadText}, ${device}, ${provenance().cpu}.`,
    `\`\`\`\n${command.join(' ')}\n\`\`\``,
    `Model: ${layers} layers, width ${dim}, ${heads} query and ${kvHeads} key/value heads of ${headDim}, feed-forward ${ffn}, vocabulary ${vocab}, BF16, random weights. ` +
      `SharedLLM: M = ${shared.injectedLayers}, chunks of ${shared.chunkSize}, depth ${shared.depth}, ${shared.slots} slots a node. ` +
      `FocusLLM: chunks of ${focus.chunkSize}, query of at most ${focus.queryCap}. ` +
      `Questions have ${flags.prompt} tokens, answers ${flags.tokens} after the first. ` +
      `Encoder of the encoder-decoder: ${flags['encoder-layers']} layers of width ${flags['encoder-width']}.`,
    'The cost models (`bench/cost_models.cc`) have random extra weights: they measure time, memory and multiply-adds of those methods, not their quality; ' +
      'their processes hold no Node, so compare memory above the loaded model, not of the whole process. ~ is a value of the fit, not measured.',
  ];
}

if (flags.json !== undefined) {
  const rows = cells.all.map(({ method, ...rest }) => ({ method: method.name, ...rest }));
  const measured = measuredOf(cells, Object.values(kQuantities));
  writeResults(flags.json, { bench: 'methods', ...provenance(), device, flags, measured, shape, cells: rows });
}
if (flags.svg !== undefined) {
  mkdirSync(flags.svg, { recursive: true });
  for (const { file, svg } of plots(cells)) writeFileSync(join(flags.svg, file), svg);
}
const section = markdownSection(cells, introduction(), folderFrom(flags.markdown, flags.svg));
console.log(`\n${section}`);
if (flags.markdown !== undefined) writeSection(flags.markdown, 'bench:methods', section);
