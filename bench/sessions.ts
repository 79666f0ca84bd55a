// sessions: what several sessions that generate at the same time get out of one model, beside one session: their next tokens are one pass, so weights are
// read once for all. Random weights in a real shape.
//   npm run bench:sessions -- [--shape llama-3.2-1b] [--types Q8_0,Q4_K_M,F16] [--sessions 8] [--prompt 64] [--tokens 64] [--threads 2] [--repeats 3]
//                             [--variant avx512] [--keep DIR] [--json FILE]
// Prints tokens per second (medians, smallest and largest) of one session and of all together, in turns within one process, and the ratio of the medians.
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { native } from '../lib/binding.js';
import type { NativeModel } from '../types/native.js';
import { shapeOf, writeGguf, type FileType } from './gguf_writer.js';
import { idsOf } from './peers/ids.mjs';
import { greedyRequest } from './peers/request.mjs';
import { provenance, writeResults, type Measured } from './result_file.js';
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

/** Tokens per second of `count` sessions, from the moment when all have read their prompts. */
async function decode(model: NativeModel, count: number): Promise<number> {
  const cancel = native().createCancel();
  const sessions = Array.from({ length: count }, () => model.createSession({}));
  const prompts = sessions.map((_, i) => idsOf(nPrompt, model.info.vocabSize, i + 1));
  for (const [i, session] of sessions.entries()) await session.generate(greedyRequest(prompts[i]!, 1), cancel, () => {});
  const began = performance.now();
  const next = (i: number): Int32Array => Int32Array.from([...prompts[i]!, ...idsOf(1, model.info.vocabSize, 100 + i)]);
  await Promise.all(sessions.map((session, i) => session.generate(greedyRequest(next(i), nTokens), cancel, () => {})));
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

const shape = shapeOf(flags.shape);
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
  const measured = rows.flatMap(({ type, one, together }): Measured[] => [
    { name: `${flags.shape} ${type}, 1 session`, unit: 'tokens/s', isCost: false, values: one },
    { name: `${flags.shape} ${type}, ${nSessions} sessions`, unit: 'tokens/s', isCost: false, values: together },
  ]);
  writeResults(flags.json, { bench: 'sessions', ...provenance(), device, flags, measured });
}
