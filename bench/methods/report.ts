/** report: the methods' cells beside what the papers claim. */
import { markdownTable, shortLength } from '../../lib/cli/eval/markdown.js';
import { numberText, quantityPlot, quantityTable } from '../tables.js';
import { kQuantities, type Cells, type Quantity } from './cell.js';
import type { Method } from './method.js';

/** A ratio that a paper claims: `other` costs so many times what `ours` does. */
interface Claim {
  ours: string;
  other: string;
  words: string;
}

const kShared = 'SharedLLM (arXiv 2410.19318)';
const kFocus = 'FocusLLM (arXiv 2408.11745)';
const kClaims: readonly Claim[] = [
  { ours: 'sharedllm', other: 'streaming', words: `${kShared}: 2x over streaming, less memory` },
  { ours: 'sharedllm', other: 'beacon', words: `${kShared}: 2x over streaming, less memory` },
  { ours: 'sharedllm', other: 'cepe', words: `${kShared}: 3x over encoder-decoder, less memory` },
  { ours: 'sharedllm', other: 'full', words: 'none' },
  { ours: 'focusllm', other: 'full', words: `${kFocus}: chunks decoded in parallel instead of one long sequence; no number` },
  { ours: 'focusllm8', other: 'full', words: 'none: refreshing every 8 tokens is ours' },
];

const kPlots: readonly { file: string; quantity: Quantity }[] = [
  { file: 'first_token.svg', quantity: kQuantities.first },
  { file: 'decoding.svg', quantity: kQuantities.speed },
  { file: 'memory.svg', quantity: kQuantities.memory },
  { file: 'multiply_adds.svg', quantity: kQuantities.work },
];

export function exponentTable(cells: Cells): string {
  const columns: readonly Quantity[] = [kQuantities.work, kQuantities.first, kQuantities.step];
  const rows = cells.methods.map((method) => [method.label, ...columns.map((quantity) => cells.law(method, quantity)?.exponent.toFixed(2) ?? '-')]);
  return markdownTable([['exponent of the length', ...columns.map(({ title }) => title.toLowerCase())], ...rows]);
}

export function ratioTable(cells: Cells): string {
  const columns: readonly [string, Quantity][] = [
    ['first token', kQuantities.first],
    ['second question', kQuantities.second],
    ['decoding', kQuantities.speed],
    ['memory', kQuantities.memory],
    ['multiply-adds', kQuantities.work],
  ];
  const find = (name: string): Method | undefined => cells.methods.find((method) => method.name === name);
  const rows = kClaims.flatMap(({ ours, other, words }) => {
    const pair = [find(other), find(ours)] as const;
    const length = cells.lengths.findLast((at) => pair.every((method) => method && cells.value(method, at, kQuantities.first)));
    if (length === undefined || !pair[0] || !pair[1]) return [];
    const [theirs, mine] = [pair[0], pair[1]];
    const ratios = columns.map(([, quantity]) => {
      const [a, b] = [cells.value(theirs, length, quantity)!, cells.value(mine, length, quantity)!];
      const ratio = quantity.isCost ? a.median / b.median : b.median / a.median;
      return `${a.isFitted || b.isFitted ? '~' : ''}${numberText(ratio)}`;
    });
    return [[`${theirs.label} / ${mine.label}`, words, shortLength(length), ...ratios]];
  });
  return markdownTable([['costs of', 'the paper claims', 'tokens', ...columns.map(([title]) => title)], ...rows], 2);
}

export function plots(cells: Cells): { file: string; title: string; svg: string }[] {
  return kPlots.map(({ file, quantity }) => ({ file, title: quantity.title, svg: quantityPlot(cells, quantity) }));
}

/** Everything between the markers of a page. `plotFolder`: as seen from the page; null: no plots. */
export function markdownSection(cells: Cells, intro: readonly string[], plotFolder: string | null): string {
  const tables = Object.values(kQuantities).map((quantity) => `### ${quantity.title}, ${quantity.unit}\n\n${quantityTable(cells, quantity)}`);
  const images = plotFolder === null ? [] : kPlots.map(({ file, quantity }) => `![${quantity.title} against length](${plotFolder}/${file})`);
  return [
    ...intro,
    ...images,
    ...tables,
    '### How cost grows with length\n\nCost ~ length^b, least squares in logarithms over the upper half of the lengths.',
    exponentTable(cells),
    '### Ratios\n\nHow many times what the second method costs the first one costs (above 1: the second is cheaper), each at the length named.',
    ratioTable(cells),
  ].join('\n\n');
}
