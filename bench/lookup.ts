// lookup: how well a model finds planted facts in a long text, through the public API.
//   npm run bench:lookup -- [--model DIR] [--adapter DIR] [--tokens 4096,32768,131072] [--questions 64] [--text FILE] [--seed 1]
// Eight facts ("The code word of falcon is violet.") are planted at even distances, a little at random, into real text; each is asked for on its own.
//   answered   the first word of the answer is the fact's
//   opened     the fact lies in the span of its chunk that is kept finest; by chance 1 / 2^(depth - 1)
//   first      of all opened spans, the one with the fact has the highest score
import { execSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { loadModel, type Model } from '../lib/index.js';

const kFacts = 8; // of one text
// Each is one token of the demo vocabulary; any model will do that has them as words.
const kKeys =
  'falcon eagle raven tiger lion bear wolf fox horse donkey goat deer whale shark turtle snake river mountain valley island forest castle tower bridge'.split(
    ' ',
  );
const kValues =
  'violet crimson scarlet amber golden silver copper purple orange yellow green blue red black white brown pink emerald sapphire diamond pearl marble'.split(
    ' ',
  );

const fromRoot = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string', default: fromRoot('models/banyan-demo') },
    adapter: { type: 'string', default: fromRoot('models/banyan-demo-adapter') },
    tokens: { type: 'string', default: '4096,32768,131072,262144' },
    questions: { type: 'string', default: '64' },
    text: { type: 'string' },
    seed: { type: 'string', default: '1' },
  },
});

// mulberry32
let state = Number(flags.seed);
function random(): number {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}

function draw(words: readonly string[], count: number): string[] {
  const left = [...words];
  return Array.from({ length: count }, () => left.splice(Math.floor(random() * left.length), 1)[0]!);
}

function npmDocs(): string {
  const folder = join(execSync('npm root -g', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim(), 'npm/docs');
  const pages = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.md'));
  return pages
    .sort()
    .map((name) => readFileSync(join(folder, name), 'utf8'))
    .join('\n\n');
}

interface Fact {
  key: string;
  value: string;
  /** Of its value in the document. */
  token: number;
}

async function plant(model: Model, text: Int32Array, length: number): Promise<{ ids: Int32Array; facts: Fact[] }> {
  const begin = Math.floor(random() * (text.length - length));
  const ids: number[] = [];
  const facts: Fact[] = [];
  const values = draw(kValues, kFacts);
  let next = begin;
  for (const [i, key] of draw(kKeys, kFacts).entries()) {
    const at = begin + Math.floor(((i + random()) * length) / kFacts);
    for (; next < at; next++) ids.push(text[next]!);
    const sentence = await model.tokenize(` The code word of ${key} is ${values[i]!}.`);
    facts.push({ key, value: values[i]!, token: ids.length + sentence.length - 2 });
    ids.push(...sentence);
  }
  for (; next < begin + length; next++) ids.push(text[next]!);
  return { ids: Int32Array.from(ids), facts };
}

const percent = (part: number, whole: number): string => `${Math.round((100 * part) / whole)}%`.padStart(9);

await using model = await loadModel({ model: flags.model, adapter: flags.adapter });
const text = await model.tokenize(flags.text === undefined ? npmDocs() : readFileSync(flags.text, 'utf8'));
console.log(`${'tokens'.padStart(9)}${'windows'.padStart(9)}${'answered'.padStart(9)}${'opened'.padStart(9)}${'first'.padStart(9)}  of`);
for (const length of flags.tokens.split(',').map(Number)) {
  const size = Math.min(length, text.length);
  let [asked, answered, opened, first] = [0, 0, 0, 0];
  while (asked < Number(flags.questions)) {
    const { ids, facts } = await plant(model, text, size);
    const document = await model.compress(ids);
    await using session = model.createSession({ documents: [document], template: null });
    for (const { key, value, token } of facts) {
      session.reset();
      const result = await session.generate(`The code word of ${key} is`, { maxTokens: 2, temperature: 0 }).result;
      const spans = result.retrieval[0]!.opened;
      const holds = ({ tokens: [from, to] }: (typeof spans)[number]): boolean => from <= token && token < to;
      asked++;
      if (result.text.trim().startsWith(value)) answered++;
      if (spans.some(holds)) opened++;
      if (spans[0] !== undefined && holds(spans[0])) first++;
    }
    await document.dispose();
  }
  const shares = [answered, opened, first].map((share) => percent(share, asked)).join('');
  console.log(`${String(size).padStart(9)}${String(Math.round(size / model.info.window)).padStart(9)}${shares}  ${asked}`);
}
