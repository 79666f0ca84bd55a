/** page: sections of a Markdown file that a benchmark writes. */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, relative } from 'node:path';

/** Replaces what stands between <!-- name --> and <!-- /name -->. Throws if the page has no such place. */
export function replaceSection(page: string, name: string, section: string): string {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the page has no ${begin} ... ${end}`);
  return `${page.slice(0, from + begin.length)}\n\n${section}\n\n${page.slice(to)}`;
}

export function writeSection(path: string, name: string, section: string): void {
  writeFileSync(path, replaceSection(readFileSync(path, 'utf8'), name, section));
}

/** A folder as seen from a page; null without a folder. */
export function folderFrom(page: string | undefined, folder: string | undefined): string | null {
  return folder === undefined ? null : relative(dirname(page ?? 'x'), folder).replaceAll('\\', '/') || '.';
}
