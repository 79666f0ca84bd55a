/** bars: ratios as horizontal bars from 1 on, as SVG. */
import { kColours, line, round, text } from '../lib/cli/eval/svg.js';

export interface Bar {
  label: string;
  /** Above 1: better than what it is compared with. */
  ratio: number;
  /** Ratios of the least and the most favourable pair of samples. */
  least: number;
  most: number;
}

const kWidth = 860;
const kRow = 26;
const kArea = { left: 300, right: 790, top: 52 };

/** Bars begin at 1 on a logarithmic axis, so that 2 and 1/2 are equally long; thin lines show the spread. */
export function ratioBars(title: string, unit: string, bars: readonly Bar[]): string {
  if (bars.length === 0) throw new Error(`${title}: nothing to draw`);
  const ends = [1, ...bars.flatMap(({ least, most }) => [least, most])];
  const [lowest, highest] = [Math.log2(Math.min(...ends)), Math.log2(Math.max(...ends))];
  const ticks = Array.from({ length: Math.ceil(highest) - Math.floor(lowest) + 1 }, (_, i) => Math.floor(lowest) + i);
  const span = Math.max(1, ticks.at(-1)! - ticks[0]!);
  const x = (ratio: number): number => kArea.left + ((kArea.right - kArea.left) * (Math.log2(ratio) - ticks[0]!)) / span;
  const bottom = kArea.top + kRow * bars.length;
  const height = bottom + 60;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${kWidth} ${height}" font-family="Helvetica, Arial, sans-serif" font-size="13">`,
    `<rect width="${kWidth}" height="${height}" fill="#ffffff"/>`,
    text(16, 26, title, 'font-size="16" font-weight="bold"'),
    text((kArea.left + kArea.right) / 2, bottom + 46, unit, 'text-anchor="middle"'),
  ];
  for (const tick of ticks) {
    parts.push(line(x(2 ** tick), kArea.top, x(2 ** tick), bottom, tick === 0 ? '#000000' : '#d9d9d9'));
    parts.push(text(x(2 ** tick), bottom + 20, String(2 ** tick), 'text-anchor="middle"'));
  }
  bars.forEach(({ label, ratio, least, most }, i) => {
    const middle = kArea.top + kRow * (i + 0.5);
    const [from, to] = [Math.min(x(1), x(ratio)), Math.max(x(1), x(ratio))];
    const colour = kColours[ratio >= 1 ? 0 : 1]!;
    parts.push(`<rect x="${round(from)}" y="${round(middle - 8)}" width="${round(to - from)}" height="16" fill="${colour}"/>`);
    parts.push(line(x(least), middle, x(most), middle, '#000000', 'stroke-opacity="0.6"'));
    parts.push(text(kArea.left - 12, middle + 4, label, 'text-anchor="end"'));
    parts.push(text(Math.max(to, x(most)) + 6, middle + 4, ratio.toFixed(2), ''));
  });
  return [...parts, '</svg>', ''].join('\n');
}
