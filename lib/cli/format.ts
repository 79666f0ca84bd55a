/** format: numbers, times and tables for people. */

export const count = (value: number): string => Math.round(value).toLocaleString('en-US');

export const plural = (value: number, noun: string): string => `${count(value)} ${noun}${value === 1 ? '' : 's'}`;

export function bytes(value: number): string {
  if (value < 1e3) return `${value} B`;
  if (value < 1e6) return `${(value / 1e3).toFixed(1)} kB`;
  if (value < 1e9) return `${(value / 1e6).toFixed(1)} MB`;
  return `${(value / 1e9).toFixed(2)} GB`;
}

export function duration(ms: number): string {
  if (ms < 1000) return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${String(Math.round((ms % 60_000) / 1000)).padStart(2, '0')} s`;
}

/** "name   value" lines, values in one column. */
export function table(rows: readonly (readonly [string, string])[], indent = '  '): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${indent}${name.padEnd(width)}   ${value}`.trimEnd()).join('\n');
}

/** One line of at most `length` characters. */
export function shorten(text: string, length: number): string {
  const line = [...text.replace(/\s+/g, ' ').trim()];
  return line.length <= length ? line.join('') : `${line.slice(0, length - 1).join('')}…`;
}
