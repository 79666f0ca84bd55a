/** plot: lines over two logarithmic axes as SVG, each line named at its end. */
import { kColours, line, round, text } from './svg.js';

export interface Series {
  name: string;
  points: readonly { x: number; y: number; isFitted: boolean }[];
}

export interface Plot {
  title: string;
  xLabel: string;
  yLabel: string;
  formatX(x: number): string;
  formatY(y: number): string;
  series: readonly Series[];
}

const kWidth = 860;
const kHeight = 500;
const kArea = { left: 84, right: 650, top: 48, bottom: 440 };
const kLabelHeight = 17;

/** Hollow marks are values of a fit, not measured. */
export function logLogPlot(plot: Plot): string {
  const points = plot.series.flatMap((series) => series.points).filter(({ x, y }) => x > 0 && y > 0);
  if (points.length === 0) throw new Error(`${plot.title}: nothing to draw`);
  const xs = [...new Set(points.map(({ x }) => x))].sort((a, b) => a - b);
  const [lowest, highest] = [Math.min(...points.map(({ y }) => y)), Math.max(...points.map(({ y }) => y))];
  const ticks = ticksAround(lowest, highest);
  const x = scale(xs[0]!, xs.at(-1)!, kArea.left + 16, kArea.right - 10);
  const y = scale(ticks[0]!, ticks.at(-1)!, kArea.bottom, kArea.top);

  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${kWidth} ${kHeight}" font-family="Helvetica, Arial, sans-serif" font-size="13">`,
    `<rect width="${kWidth}" height="${kHeight}" fill="#ffffff"/>`,
    text(kArea.left, 26, plot.title, 'font-size="16" font-weight="bold"'),
    text((kArea.left + kArea.right) / 2, kHeight - 16, plot.xLabel, 'text-anchor="middle"'),
    text(0, 0, plot.yLabel, `text-anchor="middle" transform="translate(20 ${(kArea.top + kArea.bottom) / 2}) rotate(-90)"`),
  ];
  for (const tick of ticks) {
    parts.push(line(kArea.left, y(tick), kArea.right, y(tick), '#d9d9d9'));
    parts.push(text(kArea.left - 8, y(tick) + 4, plot.formatY(tick), 'text-anchor="end"'));
  }
  for (const tick of xs) {
    parts.push(line(x(tick), kArea.bottom, x(tick), kArea.bottom + 5, '#000000'));
    parts.push(text(x(tick), kArea.bottom + 22, plot.formatX(tick), 'text-anchor="middle"'));
  }
  parts.push(line(kArea.left, kArea.bottom, kArea.right, kArea.bottom, '#000000'));

  const ends: { name: string; colour: string; x: number; y: number }[] = [];
  plot.series.forEach(({ name, points: all }, i) => {
    const colour = kColours[i % kColours.length]!;
    const drawn = all.filter((point) => point.x > 0 && point.y > 0).map((point) => ({ ...point, x: x(point.x), y: y(point.y) }));
    if (drawn.length === 0) return;
    const path = drawn.map((point) => `${round(point.x)},${round(point.y)}`).join(' ');
    parts.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const point of drawn) parts.push(mark(i, point.x, point.y, colour, point.isFitted));
    ends.push({ name, colour, x: drawn.at(-1)!.x, y: drawn.at(-1)!.y });
  });
  ends.sort((a, b) => a.y - b.y);
  const heights = apart(ends.map((end) => end.y));
  ends.forEach((end, i) => {
    const height = heights[i]!;
    parts.push(line(end.x + 7, end.y, kArea.right + 18, height, end.colour, 'stroke-opacity="0.5"'));
    parts.push(text(kArea.right + 22, height + 4, end.name, `fill="${end.colour}"`));
  });
  return [...parts, '</svg>', ''].join('\n');
}

function scale(from: number, to: number, begin: number, end: number): (value: number) => number {
  const width = Math.log(to / from);
  return (value) => (width === 0 ? (begin + end) / 2 : begin + ((end - begin) * Math.log(value / from)) / width);
}

// Decades, with 2 and 5 between them where there are few.
function ticksAround(lowest: number, highest: number): number[] {
  const steps = highest / lowest < 1000 ? [1, 2, 5] : [1];
  const all: number[] = [];
  for (let decade = Math.floor(Math.log10(lowest)); decade <= Math.ceil(Math.log10(highest)); decade++) {
    for (const step of steps) all.push(Number(`${step}e${decade}`));
  }
  const first = all.findLastIndex((tick) => tick <= lowest);
  const last = all.findIndex((tick) => tick >= highest);
  return all.slice(first, Math.max(last, first + 1) + 1);
}

// Moves labels (from the top down) as little as is needed for each to have its own line.
function apart(heights: readonly number[]): number[] {
  const moved = [...heights];
  for (let i = 1; i < moved.length; i++) moved[i] = Math.max(moved[i]!, moved[i - 1]! + kLabelHeight);
  const excess = Math.max(0, (moved.at(-1) ?? 0) - kArea.bottom);
  if (excess > 0) moved[moved.length - 1]! -= excess;
  for (let i = moved.length - 2; i >= 0; i--) moved[i] = Math.min(moved[i]!, moved[i + 1]! - kLabelHeight);
  return moved;
}

function mark(kind: number, x: number, y: number, colour: string, isFitted: boolean): string {
  const style = `fill="${isFitted ? '#ffffff' : colour}" stroke="${colour}" stroke-width="1.5"`;
  const corners = (list: readonly (readonly [number, number])[]): string =>
    `<polygon points="${list.map(([dx, dy]) => `${round(x + dx)},${round(y + dy)}`).join(' ')}" ${style}/>`;
  if (kind % 4 === 1) return `<rect x="${round(x - 3.5)}" y="${round(y - 3.5)}" width="7" height="7" ${style}/>`;
  if (kind % 4 === 2) return corners([[0, -5], [4.5, 3.5], [-4.5, 3.5]]); // prettier-ignore
  if (kind % 4 === 3) return corners([[0, -5], [5, 0], [0, 5], [-5, 0]]); // prettier-ignore
  return `<circle cx="${round(x)}" cy="${round(y)}" r="4" ${style}/>`;
}
