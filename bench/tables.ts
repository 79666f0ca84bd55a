/** tables: the cells of a benchmark as Markdown tables and plots. */
import type { Cells, Quantity, Series, Value } from './cells.js';
import { markdownTable, shortLength } from '../lib/cli/eval/markdown.js';
import { logLogPlot } from '../lib/cli/eval/plot.js';
import type { Measured } from './result_file.js';

/** Three digits. */
export function numberText(value: number): string {
  const magnitude = Math.floor(Math.log10(Math.abs(value) || 1));
  return value.toFixed(Math.min(4, Math.max(0, 2 - magnitude)));
}

/** Median and spread; ~ before a value of a fit. */
export function cellText(value: Value | undefined): string {
  if (value === undefined) return 'skipped';
  if (value.isFitted) return `~${numberText(value.median)}`;
  const [median, min, max] = [value.median, value.min, value.max].map(numberText);
  return min === max ? median! : `${median!} (${min!}-${max!})`;
}

export function quantityTable<S, T extends Series>(cells: Cells<S, T>, quantity: Quantity<S>): string {
  const { lengths } = cells;
  const rows = cells.methods.map((method) => [method.label, ...lengths.map((length) => cellText(cells.value(method, length, quantity)))]);
  return markdownTable([[quantity.unit, ...lengths.map(shortLength)], ...rows]);
}

/** A quantity against the length, a line a series; hollow marks are values of a fit. */
export function quantityPlot<S, T extends Series>(cells: Cells<S, T>, quantity: Quantity<S>): string {
  const series = cells.methods.map((method) => ({
    name: method.label,
    points: cells.lengths.flatMap((length) => {
      const value = cells.value(method, length, quantity);
      return value === undefined ? [] : [{ x: length, y: value.median, isFitted: value.isFitted }];
    }),
  }));
  const labels = {
    title: `${quantity.title} against the length of the document`,
    xLabel: 'document, tokens',
    yLabel: `${quantity.title}, ${quantity.unit}`,
  };
  return logLogPlot({ ...labels, formatX: shortLength, formatY: tickText, series });
}

const tickText = (value: number): string => (value >= 1e5 || value < 1e-3 ? value.toExponential(0) : String(value));

/** Every sample of every cell, for a result file. */
export function measuredOf<S, T extends Series>(cells: Cells<S, T>, quantities: readonly Quantity<S>[]): Measured[] {
  return cells.all.flatMap(({ method, length }) =>
    quantities.flatMap((quantity) => {
      const values = cells.values(method, length, quantity);
      const { unit, isCost } = quantity;
      return values.length === 0 ? [] : [{ name: `${method.name} ${length} ${quantity.key}`, unit, isCost, values }];
    }),
  );
}
