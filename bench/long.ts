// long: a long document and questions about it, on a model of a real shape with random weights, beside node-llama-cpp on the same file: time to first
// token, later questions, decoding, memory, start.
//   npm run bench:long -- [--systems m4,m8,llama] [--types Q8_0] [--lengths 4096,...,131072] [--parts lazy,eager,opened,start] [--repeats 3]
//     [--question 64] [--questions 10] [--tokens 32] [--threads 2] [--seconds 150] [--shape llama-3.2-1b] [--keep DIR]
//     [--json FILE] [--add] [--compare FILE] [--markdown FILE] [--svg DIR]
// Systems: m4 is SharedLLM with 4 injected layers, m4-keys the same with selection by token keys, m4-q8 with slots and adapter in 8 bits, llama is the peer,
// which reads everything.
// Parts:
//   lazy     the document is read and asked about at once; then more questions, decoding, memory
//   eager    the whole tree is computed first (not timed); then questions
//   opened   the whole tree was saved by another process (not timed) and is opened; then questions
//   start    from the start of a process to its first token, the file being cached
// Every sample is a process of its own; systems take turns. A sample of the peer that is predicted to take longer than --seconds is skipped and filled
// by a fit, marked ~; ours ask fewer questions, but two, once they have run so long.
// --keep keeps models, adapters and saved documents for the next call. --add adds to the samples in the --json file, which must be of the same code and
// settings, so that cells can be measured one by one; --repeats 0 only reports. --parts prepare writes what `opened` needs.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { compare } from './comparison.js';
import { shapeOf, type FileType } from './gguf_writer.js';
import { Cells, kFirst, markdownSection, measured, plots, type Results } from './long/report.js';
import type { Sample, Start } from './long/sample.js';
import { kTree, prepareDocument, systemOf, takeSample, takeStart, type Setting, type System } from './long/system.js';
import { Cells as AnyCells } from './cells.js';
import { folderFrom, writeSection } from './page.js';
import { provenance, readResults, resumeResults, writeResults } from './result_file.js';
import { shortLength } from '../lib/cli/eval/markdown.js';

const { values: flags } = parseArgs({
  options: {
    systems: { type: 'string', default: 'm4,m8,llama' },
    types: { type: 'string', default: 'Q8_0' },
    lengths: { type: 'string', default: '4096,8192,16384,32768,65536,131072' },
    parts: { type: 'string', default: 'lazy,eager,opened,start' },
    repeats: { type: 'string', default: '3' },
    question: { type: 'string', default: '64' },
    questions: { type: 'string', default: '10' },
    tokens: { type: 'string', default: '32' },
    threads: { type: 'string', default: '2' },
    seconds: { type: 'string', default: '150' },
    shape: { type: 'string', default: 'llama-3.2-1b' },
    keep: { type: 'string' },
    json: { type: 'string' },
    add: { type: 'boolean', default: false },
    compare: { type: 'string' },
    markdown: { type: 'string' },
    svg: { type: 'string' },
  },
});

function count(name: 'repeats' | 'question' | 'questions' | 'tokens' | 'threads' | 'seconds', least = 1): number {
  const value = Number(flags[name]);
  if (!Number.isInteger(value) || value < least) throw new Error(`--${name} must be a whole number of at least ${least}`);
  return value;
}

const kParts = ['lazy', 'eager', 'opened', 'start', 'prepare'] as const;
const parts = flags.parts.split(',').map((part) => {
  const known = kParts.find((each) => each === part);
  if (known === undefined) throw new Error(`--parts: ${part} is none of ${kParts.join(', ')}`);
  return known;
});
const lengths = flags.lengths.split(',').map(Number);
if (!lengths.every((length) => Number.isInteger(length) && length > 0)) throw new Error('--lengths must be whole numbers');
lengths.sort((a, b) => a - b);
const systems = flags.types.split(',').flatMap((type) => flags.systems.split(',').map((spec) => systemOf(spec, type as FileType)));
const [repeats, longest] = [count('repeats', 0), count('seconds')];
const folder = flags.keep ?? mkdtempSync(join(tmpdir(), 'banyan-long-'));
mkdirSync(folder, { recursive: true });
const setting: Setting = {
  ...{ shape: shapeOf(flags.shape), folder, question: count('question'), questions: count('questions', 2) },
  ...{ tokens: count('tokens'), threads: count('threads', 0), seconds: longest },
};
// What must agree for samples to belong together.
const terms = { shape: flags.shape, question: flags.question, questions: flags.questions, tokens: flags.tokens, threads: flags.threads };
const results: Results = { lazy: new Cells(), eager: new Cells(), opened: new Cells(), start: new AnyCells<Start, System>() };
const earlier = flags.add && flags.json !== undefined ? resumeResults(flags.json, 'long', repeats > 0) : undefined;
const origin = earlier ?? provenance();
if (earlier !== undefined) takeOver(earlier);

try {
  for (const length of lengths) {
    for (const part of parts) {
      if (part === 'start' || repeats === 0) continue;
      await measure(part, length);
    }
  }
  if (parts.includes('start')) await measureStarts();
} finally {
  if (flags.keep === undefined) rmSync(folder, { recursive: true, force: true });
}

async function measure(part: 'lazy' | 'eager' | 'opened' | 'prepare', length: number): Promise<void> {
  const able = systems.filter((system) => part === 'lazy' || system.injectedLayers !== undefined);
  if (part === 'opened' || part === 'prepare') for (const system of able) await prepareDocument(system, length, setting);
  if (part === 'prepare') return;
  const cells = results[part];
  const chosen = able.filter((system) => {
    const predicted = cells.predictWall(system, length) ?? 0;
    if (system.injectedLayers !== undefined || predicted <= longest) return true;
    console.log(`${system.label} at ${shortLength(length)} (${part}) is skipped: predicted to take ${predicted.toFixed(0)} s a run`);
    if (cells.find(system, length) === undefined) cells.add(system, length, undefined, 0);
    return false;
  });
  for (let repeat = 0; repeat < repeats; repeat++) {
    for (const system of chosen) {
      const start = performance.now();
      const sample = await takeSample(system, length, part, setting);
      const wallSeconds = (performance.now() - start) / 1000;
      cells.add(system, length, sample, wallSeconds);
      save();
      printSample(system.label, length, sample, wallSeconds);
    }
  }
}

async function measureStarts(): Promise<void> {
  const distinct = [...new Map(systems.map((system) => [`${system.type} ${system.injectedLayers === undefined}`, system])).values()];
  for (let repeat = -1; repeat < repeats; repeat++) {
    for (const system of distinct) {
      const start = await takeStart(system, setting);
      if (repeat < 0) continue; // to have the file in the cache
      results.start.add(system, 0, start, start.startSeconds);
      save();
      console.log(`${' start'}  ${system.label.padEnd(30)}  ${start.startSeconds.toFixed(2)} s, loaded after ${start.loadSeconds.toFixed(2)} s`);
    }
  }
}

function printSample(label: string, length: number, sample: Sample, wallSeconds: number): void {
  const list = (name: string, values: readonly number[] | undefined): string[] =>
    values === undefined ? [] : [`${name} ${values.map((value) => value.toFixed(2)).join(' ')} s`];
  const speed =
    sample.tokensPerSecond === undefined ? [] : [`${sample.tokensPerSecond.toFixed(1)} tokens/s (${sample.bareTokensPerSecond.toFixed(1)} without)`];
  const memory = sample.peakBytes === undefined ? [] : [`${((sample.peakBytes - sample.loadedBytes!) / 2 ** 20).toFixed(0)} MiB`];
  const values = [
    ...(sample.firstSeconds === undefined ? [] : [`first token ${sample.firstSeconds.toFixed(2)} s`]),
    ...list('later', sample.laterSeconds),
    ...list('tree known', sample.eagerSeconds),
    ...(sample.openSeconds === undefined ? [] : [`open ${sample.openSeconds.toFixed(3)} s`]),
    ...list('opened', sample.openedSeconds),
    `without a document ${sample.bareSeconds.toFixed(3)} s`,
    ...speed,
    ...memory,
    `${wallSeconds.toFixed(1)} s in all`,
  ];
  console.log(`${shortLength(length).padStart(6)}  ${label.padEnd(30)}  ${values.join(', ')}`);
}

// The samples of an earlier call.
function takeOver(file: Record<string, unknown>): void {
  if (JSON.stringify(file['terms']) !== JSON.stringify(terms))
    throw new Error(`${flags.json!} was measured with other settings: ${JSON.stringify(file['terms'])}`);
  const saved = file['parts'] as { [part in keyof Results]: Results[part]['all'] };
  for (const part of ['lazy', 'eager', 'opened'] as const) saved[part].forEach((cell) => results[part].restore(cell));
  saved.start.forEach((cell) => results.start.restore(cell));
}

// After every sample, so that a run that is interrupted can be continued with --add.
function save(): void {
  if (flags.json === undefined) return;
  const { lazy, eager, opened, start } = results;
  const parts = { lazy: lazy.all, eager: eager.all, opened: opened.all, start: start.all };
  writeResults(flags.json, { bench: 'long', commit: origin.commit, cpu: origin.cpu, flags, measured: measured(results), terms, parts });
}

// The peer at every length where ours was measured.
for (const system of results.lazy.methods.filter(({ injectedLayers }) => injectedLayers === undefined)) {
  for (const length of results.lazy.lengths) if (results.lazy.find(system, length) === undefined) results.lazy.add(system, length, undefined, 0);
}

function introduction(): string[] {
  const { shape } = setting;
  const samples = [...results.lazy.all, ...results.eager.all, ...results.opened.all].map((cell) => cell.samples.length);
  const device = results.lazy.all.find(({ method, samples: all }) => method.injectedLayers !== undefined && all.length > 0)?.samples[0]?.device ?? '';
  const peer = results.lazy.methods.find(({ injectedLayers }) => injectedLayers === undefined);
  const known = peer === undefined ? [] : results.lazy.points(peer, kFirst).map(([length]) => shortLength(length));
  const { commit, cpu } = origin;
  return [
    `Median of up to ${Math.max(0, ...samples)} processes (smallest-largest), ${device}, ${cpu}, commit ${commit}. \`npm run bench:long\`.`,
    `Model: ${shape.name}, ${shape.layers} layers, width ${shape.dim}, random weights. SharedLLM: chunks of ${kTree.chunkSize}, depth ${kTree.depth}, ${kTree.slots} slots a node. ` +
      `Questions have ${flags.question} tokens, answers ${flags.tokens} after the first.`,
    ...(known.length === 0
      ? []
      : [
          `The peer, with flash attention, was measured at ${known.join(', ')} tokens; ~ is its fit a n + b n² of these (relative least squares), ` +
            'not measured.',
        ]),
  ];
}

if (flags.svg !== undefined) {
  mkdirSync(flags.svg, { recursive: true });
  for (const { file, svg } of plots(results)) writeFileSync(join(flags.svg, file), svg);
}
if (results.lazy.all.length + results.opened.all.length + results.start.all.length > 0) {
  const section = markdownSection(results, setting.shape, introduction(), folderFrom(flags.markdown, flags.svg));
  console.log(`\n${section}`);
  if (flags.markdown !== undefined) writeSection(flags.markdown, 'bench:long', section);
}
if (flags.compare !== undefined) {
  const before = readResults(flags.compare);
  const changes = compare(before, { bench: 'long', commit: origin.commit, cpu: origin.cpu, flags, measured: measured(results) });
  for (const { verdict, name, before: then, after, unit } of changes) {
    if (verdict === 'worse' || verdict === 'better') console.log(`${verdict}  ${name}: ${then!} -> ${after!} ${unit}`);
  }
}
