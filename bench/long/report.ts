/** report: what reading long documents costs, as Markdown tables and plots. */
import { Cells as AnyCells, type Quantity } from '../cells.js';
import type { LlamaShape } from '../gguf_writer.js';
import { markdownTable, shortLength } from '../../lib/cli/eval/markdown.js';
import { logLogPlot } from '../../lib/cli/eval/plot.js';
import type { Measured } from '../result_file.js';
import { spread } from '../statistics.js';
import { cellText, measuredOf, numberText, quantityPlot } from '../tables.js';
import type { Sample, Start } from './sample.js';
import { fullCacheBytes, type System } from './system.js';

export class Cells extends AnyCells<Sample, System> {}

/** The cells of every part; starts have length 0. */
export interface Results {
  lazy: Cells;
  eager: Cells;
  opened: Cells;
  start: AnyCells<Start, System>;
}

type Asked = 'laterSeconds' | 'eagerSeconds' | 'openedSeconds';
const kMegabyte = 2 ** 20;
const seconds = (key: string, title: string, of: Quantity<Sample>['of']): Quantity<Sample> => ({
  key,
  title,
  unit: 's',
  isCost: true,
  hasNoFit: true,
  of,
});
const ratio = (part: number | undefined, whole: number): number | undefined => (part === undefined ? undefined : part / whole);
const medianOf = (values: readonly number[] | undefined): number | undefined => (values?.length ? spread(values).median : undefined);

export const kFirst: Quantity<Sample> = { key: 'first', title: 'Time to first token', unit: 's', isCost: true, of: (s) => s.firstSeconds };
const kBare = seconds('bare', 'The same question without a document', (s) => s.bareSeconds);
const kSpeed: Quantity<Sample> = {
  key: 'speed',
  title: 'Decoding with the document',
  unit: 'tokens/s',
  isCost: false,
  hasNoFit: true,
  of: (s) => s.tokensPerSecond,
};
const kShare: Quantity<Sample> = {
  key: 'speed-share',
  title: 'Decoding with the document, of the speed without',
  unit: '%',
  isCost: false,
  hasNoFit: true,
  of: (s) => 100 * (s.decodingShare ?? (s.tokensPerSecond ?? Number.NaN) / s.bareTokensPerSecond),
};
const memory = (key: string, title: string, peak: 'firstPeakBytes' | 'peakBytes'): Quantity<Sample> => ({
  ...{ key, title, unit: 'MiB', isCost: true, hasNoFit: true },
  of: ({ [peak]: most, loadedBytes }) => (most === undefined || loadedBytes === undefined ? undefined : (most - loadedBytes) / kMegabyte),
});
const kFirstMemory = memory('first-memory', 'Peak memory above the loaded weights, until the first answer', 'firstPeakBytes');
const kMemory = memory('memory', 'Peak memory above the loaded weights, after all questions', 'peakBytes');
const kTree: Quantity<Sample> = {
  key: 'tree',
  title: 'The tree',
  unit: 'MiB',
  isCost: true,
  hasNoFit: true,
  of: (s) => ratio(s.treeBytes, kMegabyte),
};
const kWork: Quantity<Sample> = {
  ...{ key: 'work', title: 'Multiply-adds to the first token', unit: '1e9', isCost: true, hasNoFit: true },
  of: (s) => ratio(s.firstMultiplyAdds, 1e9),
};
const kAskedWork: Quantity<Sample> = {
  ...{ key: 'asked-work', title: 'Multiply-adds of a question', unit: 'of one without a document', isCost: true, hasNoFit: true },
  of: (s) => s.askedWork,
};
const kOpen = seconds('open', 'Opening the saved document', (s) => s.openSeconds);
const kOpenedFirst = seconds('opened-first', 'First question after opening', (s) => s.openedSeconds?.[0]);
// Of the median of the questions, whichever way they were asked.
const asked = (key: Asked, title: string): Quantity<Sample> => seconds(key, title, (s) => medianOf(s[key]));
const askedRatio = (key: Asked, title: string): Quantity<Sample> => {
  return { key: `${key}-ratio`, title, unit: 'times', isCost: true, hasNoFit: true, of: (s) => ratio(medianOf(s[key]), s.bareSeconds) };
};
const kStart: Quantity<Start> = {
  key: 'start',
  title: 'From the start of the process to the first token',
  unit: 's',
  isCost: true,
  of: (s) => s.startSeconds,
};
const kLoad: Quantity<Start> = { key: 'load', title: 'of it until the model was loaded', unit: 's', isCost: true, of: (s) => s.loadSeconds };

const kQuantities = {
  lazy: [kFirst, kBare, asked('laterSeconds', 'Median of the later questions'), kSpeed, kShare, kFirstMemory, kMemory, kTree, kWork],
  eager: [
    asked('eagerSeconds', 'Median of the questions'),
    askedRatio('eagerSeconds', 'Median of the questions, of one without a document'),
    kAskedWork,
    kShare,
    kMemory,
    kTree,
  ],
  opened: [
    kOpen,
    kOpenedFirst,
    asked('openedSeconds', 'Median of the questions'),
    askedRatio('openedSeconds', 'Median of the questions, of one without a document'),
    kShare,
    kMemory,
  ],
} satisfies Record<string, readonly Quantity<Sample>[]>;

/** Everything measured, for a result file. */
export function measured(results: Results): Measured[] {
  const named = (part: string, list: Measured[]): Measured[] => list.map(({ name, ...rest }) => ({ name: `${part} ${name}`, ...rest }));
  return [
    ...(['lazy', 'eager', 'opened'] as const).flatMap((part) => named(part, measuredOf(results[part], kQuantities[part]))),
    ...named('process', measuredOf(results.start, [kStart, kLoad])),
  ];
}

const isOurs = (system: System): boolean => system.injectedLayers !== undefined;

function table(cells: Cells, quantity: Quantity<Sample>, more: readonly (readonly string[])[] = [], systems = cells.methods): string {
  const { lengths } = cells;
  const text = (system: System, length: number): string => {
    const value = cells.value(system, length, quantity);
    return value === undefined ? '-' : cellText(value);
  };
  const rows = systems.map((system) => [system.label, ...lengths.map((length) => text(system, length))]);
  return markdownTable([[quantity.unit, ...lengths.map(shortLength)], ...rows, ...more]);
}

/** How many times what ours costs the peer costs, at every length; ~: the peer's is of a fit. */
export function ratioRows(cells: Cells): string[][] {
  return cells.methods.filter(isOurs).map((ours) => {
    const peer = cells.methods.find((system) => !isOurs(system) && system.type === ours.type);
    const texts = cells.lengths.map((length) => {
      const [a, b] = [peer && cells.value(peer, length, kFirst), cells.value(ours, length, kFirst)];
      return a === undefined || b === undefined ? '-' : `${a.isFitted || b.isFitted ? '~' : ''}${numberText(a.median / b.median)}`;
    });
    return [`${ours.label}: peer / ours`, ...texts];
  });
}

// Medians over the samples of the k-th question, at the longest document that all parts have.
function curves(results: Results): { length: number; lines: { label: string; values: number[] }[] } | undefined {
  const parts: readonly [Cells, Asked, string][] = [
    [results.lazy, 'laterSeconds', 'asked at once'],
    [results.eager, 'eagerSeconds', 'tree known'],
    [results.opened, 'openedSeconds', 'opened from a file'],
  ];
  const has = (cells: Cells, key: Asked, length: number): boolean =>
    cells.all.some((cell) => cell.length === length && cell.samples.some((s) => s[key]));
  const length = results.lazy.lengths.findLast((at) => parts.every(([cells, key]) => has(cells, key, at)));
  if (length === undefined) return undefined;
  const lines = parts.flatMap(([cells, key, how]) =>
    cells.methods.filter(isOurs).flatMap((system) => {
      const samples = cells.find(system, length)?.samples ?? [];
      // the first question of a document asked at once includes reading it
      const lists = samples.map((s) => (key === 'laterSeconds' ? [s.firstSeconds ?? 0, ...(s[key] ?? [])] : (s[key] ?? [])));
      if (lists.length === 0) return [];
      const count = Math.max(...lists.map((list) => list.length));
      const kth = (i: number): number[] => lists.flatMap((list) => (i < list.length ? [list[i]!] : []));
      const values = Array.from({ length: count }, (_, i) => spread(kth(i)).median);
      return [{ label: `${system.label}, ${how}`, values }];
    }),
  );
  return { length, lines };
}

function curveTable({ lines }: NonNullable<ReturnType<typeof curves>>): string {
  const count = Math.max(...lines.map(({ values }) => values.length));
  const head = ['s', ...Array.from({ length: count }, (_, i) => String(i + 1))];
  return markdownTable([
    head,
    ...lines.map(({ label, values }) => [label, ...Array.from({ length: count }, (_, i) => (i < values.length ? numberText(values[i]!) : '-'))]),
  ]);
}

export function plots(results: Results): { file: string; title: string; svg: string }[] {
  const found = [kFirst, kFirstMemory].map((quantity) => {
    return { file: `long_${quantity === kFirst ? 'first' : 'memory'}.svg`, title: quantity.title, svg: quantityPlot(results.lazy, quantity) };
  });
  const curve = curves(results);
  if (curve === undefined) return found;
  const title = `Time to first token of one question after the other, ${shortLength(curve.length)}`;
  const labels = { title, xLabel: 'question', yLabel: 'Time to first token, s', formatX: String, formatY: String };
  const series = curve.lines.map(({ label, values }) => ({ name: label, points: values.map((y, i) => ({ x: i + 1, y, isFitted: false })) }));
  return [...found, { file: 'long_questions.svg', title, svg: logLogPlot({ ...labels, series }) }];
}

/** Everything between the markers of a page. `plotFolder`: as seen from the page; null: no plots. */
export function markdownSection(results: Results, shape: LlamaShape, intro: readonly string[], plotFolder: string | null): string {
  const { lazy, eager, opened, start } = results;
  const heading = (quantity: Quantity<Sample>): string => `### ${quantity.title}, ${quantity.unit}`;
  const cache = [
    "node-llama-cpp's keys and values alone, 16 bits (computed)",
    ...lazy.lengths.map((n) => numberText(fullCacheBytes(shape, n) / kMegabyte)),
  ];
  const ours = lazy.methods.filter(isOurs);
  const curve = curves(results);
  const shown = curve === undefined ? [] : [`### One question after the other, ${shortLength(curve.length)}`, curveTable(curve)];
  const images = plotFolder === null ? [] : plots(results).map(({ file, title }) => `![${title}](${plotFolder}/${file})`);
  const part = (name: string, cells: Cells, quantities: readonly Quantity<Sample>[]): string[] =>
    cells.all.length === 0 ? [] : quantities.flatMap((quantity) => [`${heading(quantity).replace('###', `### ${name}:`)}`, table(cells, quantity)]);
  const starts = start.methods.map((system) => [system.label, ...[kStart, kLoad].map((quantity) => cellText(start.value(system, 0, quantity)))]);
  return [
    ...intro,
    ...images,
    heading(kFirst),
    table(lazy, kFirst, ratioRows(lazy)),
    heading(kBare),
    table(lazy, kBare),
    ...shown,
    ...part('Tree known', eager, kQuantities.eager.slice(0, 3)),
    ...part('Opened', opened, kQuantities.opened.slice(0, 4)),
    heading(kSpeed),
    table(lazy, kSpeed),
    heading(kShare),
    table(lazy, kShare),
    heading(kFirstMemory),
    table(lazy, kFirstMemory, [cache]),
    heading(kMemory),
    table(lazy, kMemory),
    ...part('Tree known', eager, [kMemory]),
    ...part('Opened', opened, [kMemory]),
    heading(kWork),
    table(lazy, kWork, [], ours),
    heading(kTree),
    table(lazy, kTree, [], ours),
    ...(starts.length === 0 ? [] : ['### Start, s', markdownTable([['s', 'process to first token', 'model loaded'], ...starts])]),
  ].join('\n\n');
}
