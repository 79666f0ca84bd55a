/** page: sections that benchmarks write. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

import { folderFrom, replaceSection } from '../../bench/page.js';

const kPage = 'Before\n\n<!-- bench:x -->\n\nold\n\n<!-- /bench:x -->\n\nAfter\n';

test('only what stands between the marks is replaced', () => {
  const page = replaceSection(kPage, 'bench:x', 'new');
  expect(page).toBe(kPage.replace('old', 'new'));
  expect(replaceSection(page, 'bench:x', 'new')).toBe(page);
});
test('a page without the marks is refused', () => {
  expect(() => replaceSection('nothing', 'bench:x', 'new')).toThrow('<!-- bench:x -->');
  expect(() => replaceSection('<!-- /bench:x --><!-- bench:x -->', 'bench:x', 'new')).toThrow('bench:x');
});
test('folders are named from the page', () => {
  expect(folderFrom('docs/results.md', 'docs/plots')).toBe('plots');
  expect(folderFrom('docs/results.md', 'docs')).toBe('.');
  expect(folderFrom('docs/results.md', undefined)).toBeNull();
});
test.each(['bench:methods', 'bench:long', 'bench:peers', 'bench:accuracy'])('docs/results.md has a place for %s', (name) => {
  const page = readFileSync(fileURLToPath(new URL('../../docs/results.md', import.meta.url)), 'utf8');
  expect(replaceSection(page, name, 'x')).toContain(`<!-- ${name} -->\n\nx\n\n<!-- /${name} -->`);
});
