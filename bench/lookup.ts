// lookup: how well a model finds planted facts in a long text, through the public API.
//   npm run bench:lookup -- [--model DIR] [--adapter DIR] [--method NAME] [--tokens 4096,32768,131072] [--questions 64] [--text FILE] [--seed 1]
// Eight facts ("The code word of falcon is violet.") are planted at even distances, a little at random, into real text; each is asked for on its own.
//   answered   the first word of the answer is the fact's
// and with SharedLLM
//   opened     the fact lies in the span of its chunk that is kept finest; by chance 1 / 2^(depth - 1)
//   first      of all opened spans, the one with the fact has the highest score
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { loadModel, type MethodName } from '../lib/index.js';
import { npmDocs, plant, randomFrom } from './facts.js';

const fromRoot = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string', default: fromRoot('models/banyan-demo') },
    adapter: { type: 'string', default: fromRoot('models/banyan-demo-adapter') },
    method: { type: 'string' },
    tokens: { type: 'string', default: '4096,32768,131072,262144' },
    questions: { type: 'string', default: '64' },
    text: { type: 'string' },
    seed: { type: 'string', default: '1' },
  },
});

const percent = (part: number, whole: number): string => `${Math.round((100 * part) / whole)}%`.padStart(9);

await using model = await loadModel({ model: flags.model, adapter: flags.adapter });
const method = (flags.method ?? model.info.method ?? 'full') as MethodName;
const random = randomFrom(Number(flags.seed));
const text = await model.tokenize(flags.text === undefined ? npmDocs() : readFileSync(flags.text, 'utf8'));
console.log(`${'tokens'.padStart(9)}${'windows'.padStart(9)}${'answered'.padStart(9)}${'opened'.padStart(9)}${'first'.padStart(9)}  of`);
for (const length of flags.tokens.split(',').map(Number)) {
  const size = Math.min(length, text.length);
  let [asked, answered, opened, first] = [0, 0, 0, 0];
  while (asked < Number(flags.questions)) {
    const { ids, facts } = await plant(model, text, size, random);
    const document = await model.compress(ids, { method });
    await using session = model.createSession({ documents: [document], method, template: null });
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
  const shares = [answered, opened, first].map((share, i) => (i === 0 || method === 'sharedllm' ? percent(share, asked) : '-'.padStart(9))).join('');
  console.log(`${String(size).padStart(9)}${String(Math.round(size / model.info.window)).padStart(9)}${shares}  ${asked}`);
}
