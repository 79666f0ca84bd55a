// focus_modes: how far FocusLLM's cheaper modes are from the exact one, and what they save, on a real text.
//   npm run bench:focus -- [--model DIR] [--adapter DIR] [--tokens 16384] [--local 192] [--answer 64] [--trials 8] [--seed 1]
// A piece of text is the document, what follows it the local tokens, what follows these is fed token by token whatever the model says. Columns:
//   cost       multiply-adds of one answered token, of the exact mode's
//   kl         mean over tokens of KL(exact || mode), nats
//   same       share of tokens whose likeliest continuation is the exact mode's
//   nll        mean negative log-likelihood of the real text, nats
// The rows "no document" and "plain candidates" (projections of their own switched off) are controls: what the candidates do at all.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { loadModel } from '../lib/index.js';
import { native } from '../lib/binding.js';
import type { NativeMethodOptions, NativeModel } from '../types/native.js';
import { demoText } from '../lib/cli/demoText.js';
import { randomFrom } from '../lib/cli/eval/random.js';

const fromRoot = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));
const { values: flags } = parseArgs({
  options: {
    model: { type: 'string', default: fromRoot('models/banyan-demo') },
    adapter: { type: 'string', default: fromRoot('models/banyan-demo-focus') },
    tokens: { type: 'string', default: '16384' },
    local: { type: 'string', default: '192' },
    answer: { type: 'string', default: '64' },
    trials: { type: 'string', default: '8' },
    text: { type: 'string' },
    seed: { type: 'string', default: '1' },
  },
});
const [nDocument, nLocal, nAnswer, nTrials] = [flags.tokens, flags.local, flags.answer, flags.trials].map(Number) as [number, number, number, number];

interface Mode {
  name: string;
  options: NativeMethodOptions;
  model: 'f16' | 'q8' | 'plain';
  hasDocument: boolean;
}
const focus = (name: string, options: Omit<NativeMethodOptions, 'method'> = {}, model: Mode['model'] = 'f16'): Mode => {
  return { name, options: { method: 'focusllm', ...options }, model, hasDocument: true };
};
const kModes: readonly Mode[] = [
  focus('exact'),
  focus('8-bit chunks', {}, 'q8'),
  ...[2, 4, 8, 16].map((k) => focus(`refresh every ${k}`, { refreshEvery: k })),
  ...[32, 16, 4].map((r) => focus(`refresh top ${r}`, { refreshChunks: r })),
  focus('every 8, top 16', { refreshEvery: 8, refreshChunks: 16 }),
  focus('plain candidates', {}, 'plain'),
  { ...focus('no document'), hasDocument: false },
];

/** The adapter with no projection of its own: candidates are ordinary last tokens. */
function plainAdapter(): string {
  const folder = mkdtempSync(join(tmpdir(), 'banyan-plain-'));
  const config = JSON.parse(readFileSync(join(flags.adapter, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...config, beacon_param: [] }));
  writeFileSync(join(folder, 'adapter.safetensors'), readFileSync(join(flags.adapter, 'adapter.safetensors')));
  return folder;
}

function logSoftmax(row: Float32Array): Float64Array {
  let highest = -Infinity;
  for (const x of row) highest = Math.max(highest, x);
  let sum = 0;
  for (const x of row) sum += Math.exp(x - highest);
  return Float64Array.from(row, (x) => x - highest - Math.log(sum));
}

interface Sums {
  cost: number;
  kl: number;
  same: number;
  nll: number;
}

async function run(model: NativeModel, mode: Mode, ids: Int32Array): Promise<{ logits: Float64Array[]; cost: number }> {
  const cancel = native().createCancel();
  const session = model.createSession(mode.options);
  const document = model.createDocument({ method: 'focusllm' });
  if (mode.hasDocument) {
    await document.append(ids.slice(0, nDocument), cancel, null);
    await document.complete(false, cancel, null);
    session.setDocuments([document]);
  }
  const local = ids.slice(nDocument, nDocument + nLocal);
  const trace = async (maxNewTokens: number): Promise<{ greedyLogits: Float32Array; multiplyAdds: number }> =>
    session.trace({ ids: local, maxNewTokens, recompute: false, forced: ids.slice(nDocument + nLocal) }, cancel);
  const first = await trace(1);
  const all = await trace(nAnswer);
  const width = all.greedyLogits.length / nAnswer;
  const logits = Array.from({ length: nAnswer }, (_, i) => logSoftmax(all.greedyLogits.subarray(i * width, (i + 1) * width)));
  document.dispose();
  session.dispose();
  return { logits, cost: (all.multiplyAdds - first.multiplyAdds) / (nAnswer - 1) };
}

const likeliest = (row: Float64Array): number => row.reduce((best, x, i) => (x > row[best]! ? i : best), 0);

const plain = plainAdapter();
const open = (adapter: string, poolType: 'f16' | 'q8'): Promise<NativeModel> =>
  native().load({ model: flags.model, adapters: [adapter], kvType: 'f16', poolType }, native().createCancel(), null);
const models = { f16: await open(flags.adapter, 'f16'), q8: await open(flags.adapter, 'q8'), plain: await open(plain, 'f16') };
rmSync(plain, { recursive: true });

await using reader = await loadModel({ model: flags.model });
const text = await reader.tokenize(flags.text === undefined ? demoText([]).text : readFileSync(flags.text, 'utf8'));
const random = randomFrom(Number(flags.seed));
const sums = new Map<string, Sums>(kModes.map(({ name }) => [name, { cost: 0, kl: 0, same: 0, nll: 0 }]));
for (let trial = 0; trial < nTrials; trial++) {
  const size = nDocument + nLocal + nAnswer;
  const begin = Math.floor(random() * (text.length - size));
  const ids = text.slice(begin, begin + size);
  let exact: Float64Array[] = [];
  for (const mode of kModes) {
    const { logits, cost } = await run(models[mode.model], mode, ids);
    if (mode.name === 'exact') exact = logits;
    const sum = sums.get(mode.name)!;
    sum.cost += cost;
    logits.forEach((row, i) => {
      const right = exact[i]!;
      sum.kl += right.reduce((total, p, id) => total + Math.exp(p) * (p - row[id]!), 0);
      sum.same += likeliest(row) === likeliest(right) ? 1 : 0;
      sum.nll -= row[ids[nDocument + nLocal + i]!]!;
    });
  }
}

const n = nTrials * nAnswer;
const cost = sums.get('exact')!.cost;
const chunkSize = models.f16.info.focus!.chunkSize;
console.log(`${nTrials} texts of ${nDocument} tokens (${Math.ceil(nDocument / chunkSize)} chunks), ${nLocal} local tokens, ${nAnswer} answered`);
console.log(`${'mode'.padEnd(18)}${'cost'.padStart(8)}${'kl'.padStart(10)}${'same'.padStart(8)}${'nll'.padStart(9)}`);
for (const [name, sum] of sums) {
  const columns = [
    `${((100 * sum.cost) / cost).toFixed(0)}%`.padStart(8),
    (sum.kl / n).toFixed(4).padStart(10),
    `${((100 * sum.same) / n).toFixed(0)}%`.padStart(8),
  ];
  console.log(`${name.padEnd(18)}${columns.join('')}${(sum.nll / n).toFixed(3).padStart(9)}`);
}
for (const model of Object.values(models)) await model.dispose();
