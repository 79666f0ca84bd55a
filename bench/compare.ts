// compare: what became slower or faster, larger or smaller, between two result files of the same benchmark (--json of any of them).
//   npm run bench:compare -- before.json after.json
// A change counts only if the spreads of the samples do not overlap. Exit code 1: something is worse; 2: the files cannot be compared.
import { parseArgs } from 'node:util';

import { compare, type Change } from './comparison.js';
import { readResults } from './result_file.js';
import { numberText } from './tables.js';

const { positionals } = parseArgs({ allowPositionals: true });

function print({ verdict, name, unit, before, after }: Change): void {
  const [then, now] = [before, after].map((value) => (value === undefined ? '-' : numberText(value)));
  const ratio = before && after ? `  x ${numberText(after / before)}` : '';
  console.log(`${verdict.padEnd(7)} ${name}: ${then!} -> ${now!} ${unit}${ratio}`);
}

try {
  if (positionals.length !== 2) throw new Error('two result files are needed: before.json after.json');
  const [before, after] = positionals.map(readResults) as [ReturnType<typeof readResults>, ReturnType<typeof readResults>];
  if (before.cpu !== after.cpu) throw new Error(`measured on different processors: ${before.cpu}, ${after.cpu}`);
  console.log(`${before.bench}: ${before.commit} -> ${after.commit}, ${after.cpu}`);
  const changes = compare(before, after);
  for (const verdict of ['worse', 'better', 'unsure', 'gone', 'new'] as const) changes.filter((change) => change.verdict === verdict).forEach(print);
  const count = (verdict: Change['verdict']): number => changes.filter((change) => change.verdict === verdict).length;
  console.log(`${count('worse')} worse, ${count('better')} better, ${count('same')} the same within their spreads`);
  process.exitCode = count('worse') > 0 ? 1 : 0;
} catch (error) {
  console.error(`compare: ${(error as Error).message}`);
  process.exitCode = 2;
}
