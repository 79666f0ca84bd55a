// sessions: what several sessions that generate at the same time get out of one model, beside one session: their next tokens are one pass, so weights are
// read once for all. Random weights in a real shape.
//   npm run bench:sessions -- [--shape llama-3.2-1b] [--types Q8_0,Q4_K_M,F16] [--sessions 8] [--prompt 64] [--tokens 64] [--threads 2] [--repeats 3]
//                             [--variant avx512] [--keep DIR] [--json FILE]
// Prints tokens per second (medians, smallest and largest) of one session and of all together, in turns within one process, and the ratio of the medians.
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { native } from '../lib/binding.js';
import type { NativeModel } from '../types/native.js';
import { randomFrom } from '../lib/cli/eval/random.js';
import { kShapes, writeGguf, type FileType } from './gguf_writer.js';
import { spread } from './statistics.js';

const { values: flags } = parseArgs({
  options: {
    shape: { type: 'string', default: 'llama-3.2-1b' },
    types: { type: 'string', default: 'Q8_0,Q4_K_M,F16' },
    sessions: { type: 'string', default: '8' },
    prompt: { type: 'string', default: '64' },
    tokens: { type: 'string', default: '64' },
    threads: { type: 'string', default: '2' },
    repeats: { type: 'string', default: '3' },
    variant: { type: 'string' },
    keep: { type: 'string' },
    json: { type: 'string' },
  },
});
const [nSessions, nPrompt, nTokens, nThreads, nRepeats] = [flags.sessions, flags.prompt, flags.tokens, flags.threads, flags.repeats].map(Number) as [
  number,
  number,
  number,
  number,
  number,
];

function idsOf(count: number, vocabulary: number, seed: number): Int32Array {
  const random = randomFrom(seed);
  return Int32Array.from({ length: count }, () => Math.floor(random() * vocabulary));
}

/** Tokens per second of `count` sessions, from the moment when all have read their prompts. */
async function decode(model: NativeModel, count: number): Promise<number> {
  const cancel = native().createCancel();
  const request = (ids: Int32Array, maxTokens: number) => ({
    ...{ ids, maxTokens, stopIds: new Int32Array(0), temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, frequencyPenalty: 0 },
    ...{ presencePenalty: 0, penaltyWindow: 64, seed: 1, biasIds: new Int32Array(0), biasValues: new Float32Array(0) },
  });
  const sessions = Array.from({ length: count }, () => model.createSession({}));
  const prompts = sessions.map((_, i) => idsOf(nPrompt, model.info.vocabSize, i + 1));
  for (const [i, session] of sessions.entries()) await session.generate(request(prompts[i]!, 1), cancel, () => {});
  const began = performance.now();
  const next = (i: number): Int32Array => Int32Array.from([...prompts[i]!, ...idsOf(1, model.info.vocabSize, 100 + i)]);
  await Promise.all(sessions.map((session, i) => session.generate(request(next(i), nTokens), cancel, () => {})));
  const seconds = (performance.now() - began) / 1000;
  for (const session of sessions) await session.dispose();
  return (count * nTokens) / seconds;
}

interface Row {
  type: string;
  one: number[];
  together: number[];
  ratio: number;
}

const shape = kShapes[flags.shape];
if (shape === undefined) throw new Error(`unknown shape ${flags.shape}; known are ${Object.keys(kShapes).join(', ')}`);
const folder = flags.keep ?? mkdtempSync(join(tmpdir(), 'banyan-sessions-'));
mkdirSync(folder, { recursive: true });
const rows: Row[] = [];
let device = '';
const text = (values: readonly number[]): string => {
  const { median, min, max } = spread(values);
  return `${median.toFixed(1)} (${min.toFixed(1)}-${max.toFixed(1)})`;
};
console.log(
  `${''.padEnd(10)}${'1 session'.padStart(22)}${`${nSessions} sessions`.padStart(22)}${'ratio'.padStart(8)}   tokens per second, ${nThreads} threads`,
);
try {
  for (const type of flags.types.split(',') as FileType[]) {
    const file = join(folder, `${flags.shape}-${type}.gguf`);
    if (!existsSync(file)) writeGguf(file, shape, type);
    const options = { model: file, device: 'cpu' as const, threads: nThreads, ...(flags.variant ? { cpuVariant: flags.variant } : {}) };
    const model = await native().load(options, native().createCancel(), null);
    device = model.info.device;
    const row: Row = { type, one: [], together: [], ratio: 0 };
    await decode(model, 1); // buffers and pages
    for (let i = 0; i < nRepeats; i++) {
      row.one.push(await decode(model, 1));
      row.together.push(await decode(model, nSessions));
    }
    await model.dispose();
    row.ratio = spread(row.together).median / spread(row.one).median;
    rows.push(row);
    console.log(`${type.padEnd(10)}${text(row.one).padStart(22)}${text(row.together).padStart(22)}${row.ratio.toFixed(2).padStart(8)}`);
    if (flags.keep === undefined) rmSync(file);
  }
} finally {
  if (flags.keep === undefined) rmSync(folder, { recursive: true, force: true });
}
if (flags.json !== undefined) {
  writeFileSync(flags.json, JSON.stringify({ device, threads: nThreads, sessions: nSessions, prompt: nPrompt, tokens: nTokens, rows }, null, 1));
}
