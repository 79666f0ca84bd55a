/** report: results as text for people, Markdown, JSON and plots. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Model } from '../../index.js';
import { readPackage } from '../models.js';
import type { BenchmarkRow } from './benchmark.js';
import { heatmap } from './heatmap.js';
import type { LookupCell } from './lookup.js';
import type { PerplexityCell } from './perplexity.js';
import { markdownTable, shortLength } from './markdown.js';
import { logLogPlot } from './plot.js';
import { kSystems } from './systems.js';

export interface Report {
  /** Of its files. */
  name: string;
  markdown: string;
  /** By file name, without .svg. */
  plots: Readonly<Record<string, string>>;
  /** What the numbers were measured with, and the numbers. */
  data: object;
}

const labelOf = (name: string): string => kSystems.find((system) => system.name === name)!.label;

const unique = <T>(items: readonly T[]): T[] => [...new Set(items)];

export function perplexityReport(cells: readonly PerplexityCell[], title: string): Report {
  const lengths = unique(cells.map(({ length }) => length)).sort((a, b) => a - b);
  const systems = unique(cells.map(({ system }) => system));
  const find = (system: string, length: number): PerplexityCell | undefined => cells.find((cell) => cell.system === system && cell.length === length);
  const rows = (text: (cell: PerplexityCell) => string): string[][] =>
    systems.map((system) => [labelOf(system), ...lengths.map((length) => ((cell) => (cell === undefined ? '–' : text(cell)))(find(system, length)))]);
  const signed = (value: number): string => `${value < 0 ? '-' : '+'}${Math.abs(value).toFixed(3)}`;
  const differences = rows(({ difference }) =>
    difference === null ? '–' : `${signed(difference.mean)} ± ${Number.isNaN(difference.error) ? '?' : difference.error.toFixed(3)}`,
  ).filter((row) => row.slice(1).some((cell) => cell !== '–'));
  const header = lengths.map(shortLength);
  const parts = [markdownTable([['perplexity', ...header], ...rows(({ perplexity }) => perplexity.toPrecision(4))])];
  if (differences.length > 0) parts.push(markdownTable([['nats against the window', ...header], ...differences]));
  const plot = logLogPlot({
    ...{ title, xLabel: 'tokens of text', yLabel: 'perplexity', formatX: shortLength, formatY: String },
    series: systems.map((system) => ({
      name: labelOf(system),
      points: cells.filter((cell) => cell.system === system).map(({ length, perplexity }) => ({ x: length, y: perplexity, isFitted: false })),
    })),
  });
  return { name: 'perplexity', markdown: parts.join('\n\n'), plots: { perplexity: plot }, data: { cells } };
}

export function lookupReport(cells: readonly LookupCell[], title: string): Report {
  const systems = unique(cells.map(({ system }) => system));
  const lengths = unique(cells.map(({ length }) => length)).sort((a, b) => a - b);
  const depths = unique(cells.map(({ depth }) => depth)).sort((a, b) => a - b);
  const of = (system: string, length: number): LookupCell[] => cells.filter((cell) => cell.system === system && cell.length === length);
  const share = (found: readonly LookupCell[], what: 'answered' | 'opened' | 'first'): number | null =>
    found.length === 0 ? null : found.reduce((sum, cell) => sum + cell[what], 0) / found.reduce((sum, cell) => sum + cell.trials, 0);
  const percent = (value: number | null): string => (value === null ? '–' : `${(100 * value).toFixed(1)} %`);
  const rows = systems.flatMap((system) => {
    const row = (name: string, what: 'answered' | 'opened' | 'first'): string[] => [
      name,
      ...lengths.map((length) => percent(share(of(system, length), what))),
    ];
    const opened = cells.some((cell) => cell.system === system && cell.opened > 0);
    return [
      row(labelOf(system), 'answered'),
      ...(opened ? [row('- fact in an opened span', 'opened'), row('- span of the highest score', 'first')] : []),
    ];
  });
  const plots = Object.fromEntries(
    systems.map((system) => [
      `lookup-${system}`,
      heatmap({
        ...{ title: `${title}: ${labelOf(system)}, % answered`, xLabel: 'tokens of the document', yLabel: 'depth of the fact' },
        columns: lengths.map(shortLength),
        rows: depths.map((depth) => `${Math.round(100 * depth)} %`),
        shares: depths.map((depth) => lengths.map((length) => share(of(system, length).filter((cell) => cell.depth === depth), 'answered'))), // prettier-ignore
      }),
    ]),
  );
  return { name: 'lookup', markdown: markdownTable([['answered', ...lengths.map(shortLength)], ...rows]), plots, data: { cells } };
}

export function benchmarkReport(rows: readonly BenchmarkRow[], name: string): Report {
  const table = rows.map(({ task, score, overflowed, skipped, tokens }) => [
    ...[task, score.n === 0 ? '–' : score.mean.toFixed(1), score.n < 2 ? '–' : score.error.toFixed(1)],
    ...[score.n, tokens, overflowed, skipped].map(String),
  ]);
  const header = ['task', 'score', '±', 'questions', 'tokens', 'too long', 'left out'];
  return { name: name.toLowerCase(), markdown: markdownTable([header, ...table]), plots: {}, data: { rows } };
}

/** Prints the tables (or JSON) and, with a folder, writes NAME.json, NAME.md and the plots there. */
export async function writeReport(
  report: Report,
  model: Model,
  settings: object,
  folder: string | undefined,
  isJson: boolean | undefined,
): Promise<void> {
  const { architecture, parameters, window, fingerprint, device } = model.info;
  const data = { banyan: readPackage().version, model: { architecture, parameters, window, fingerprint, device }, settings, ...report.data };
  process.stdout.write(isJson === true ? `${JSON.stringify(data)}\n` : `${report.markdown}\n`);
  if (folder === undefined) return;
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, `${report.name}.json`), `${JSON.stringify(data, null, 1)}\n`);
  await writeFile(join(folder, `${report.name}.md`), `${report.markdown}\n`);
  for (const [name, svg] of Object.entries(report.plots)) await writeFile(join(folder, `${name}.svg`), svg);
}
