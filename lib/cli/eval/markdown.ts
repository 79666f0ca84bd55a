/** markdown: tables as prettier leaves them. */

/** Columns as wide as their widest cell; the first row is the head. The first `nTexts` columns are names, the others numbers. */
export function markdownTable(rows: readonly (readonly string[])[], nTexts = 1): string {
  const widths = rows[0]!.map((_, i) => Math.max(3, ...rows.map((row) => row[i]!.length)));
  const pad = (text: string, i: number): string => (i < nTexts ? text.padEnd(widths[i]!) : text.padStart(widths[i]!));
  const lines = rows.map((row) => `| ${row.map(pad).join(' | ')} |`);
  const rule = `| ${widths.map((width, i) => (i < nTexts ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`;
  return [lines[0], rule, ...lines.slice(1)].join('\n');
}

/** 4096 is 4K. */
export function shortLength(length: number): string {
  return length >= 1024 && length % 1024 === 0 ? `${length / 1024}K` : String(length);
}
