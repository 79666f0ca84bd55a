/** heatmap: shares over two axes as SVG, each cell with its number. */
import { text } from './svg.js';

export interface Heatmap {
  title: string;
  xLabel: string;
  yLabel: string;
  columns: readonly string[];
  rows: readonly string[];
  /** [row][column], 0 to 1; null: not measured. */
  shares: readonly (readonly (number | null)[])[];
}

const kCell = { width: 74, height: 30 };
const kMargin = { left: 90, top: 48, right: 24, bottom: 58 };

export function heatmap({ title, xLabel, yLabel, columns, rows, shares }: Heatmap): string {
  const width = kMargin.left + columns.length * kCell.width + kMargin.right;
  const height = kMargin.top + rows.length * kCell.height + kMargin.bottom;
  const [centreX, centreY] = [kMargin.left + (columns.length * kCell.width) / 2, kMargin.top + (rows.length * kCell.height) / 2];
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="Helvetica, Arial, sans-serif" font-size="13">`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(12, 26, title, 'font-size="15" font-weight="bold"'),
    text(centreX, height - 12, xLabel, 'text-anchor="middle"'),
    text(0, 0, yLabel, `text-anchor="middle" transform="translate(18 ${centreY}) rotate(-90)"`),
  ];
  rows.forEach((row, r) => {
    const y = kMargin.top + r * kCell.height;
    parts.push(text(kMargin.left - 8, y + kCell.height / 2 + 5, row, 'text-anchor="end"'));
    columns.forEach((_, c) => {
      const share = shares[r]?.[c] ?? null;
      const x = kMargin.left + c * kCell.width;
      const middle = `text-anchor="middle" fill="${share !== null && share > 0.55 ? '#ffffff' : '#000000'}"`;
      parts.push(
        `<rect x="${x}" y="${y}" width="${kCell.width - 2}" height="${kCell.height - 2}" fill="${share === null ? '#eeeeee' : shade(share)}"/>`,
      );
      parts.push(text(x + kCell.width / 2 - 1, y + kCell.height / 2 + 4, share === null ? '–' : `${Math.round(100 * share)}`, middle));
    });
  });
  columns.forEach((column, c) => {
    parts.push(text(kMargin.left + (c + 0.5) * kCell.width, kMargin.top + rows.length * kCell.height + 18, column, 'text-anchor="middle"'));
  });
  return [...parts, '</svg>', ''].join('\n');
}

// From white to a dark blue; also told apart in grey.
function shade(share: number): string {
  const mix = (from: number, to: number): number => Math.round(from + (to - from) * Math.min(1, Math.max(0, share)));
  return `rgb(${mix(247, 8)},${mix(251, 48)},${mix(255, 107)})`;
}
