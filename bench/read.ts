// read: what the demo model reads of a long document: every measurement of "What is read" in docs/results.md, by its own command `banyan eval`.
//   npm run bench:read -- --data DIR [--only lookup,perplexity-books,...] [--threads 1] [--markdown docs/results.md --svg docs/plots]
// DIR holds books-valid.jsonl.xz and code-valid.jsonl.xz, one {"text": ...} a line, that no training saw. --markdown replaces what stands between <!-- read:NAME -->
// and <!-- /read:NAME -->.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { folderFrom, replaceSection, writeSection } from './page.js';
import { kMeasurements, type Measurement } from './read/measurements.js';

const { values: flags } = parseArgs({
  options: {
    data: { type: 'string' },
    only: { type: 'string' },
    threads: { type: 'string', default: '1' },
    markdown: { type: 'string' },
    svg: { type: 'string' },
  },
});
if (flags.data === undefined) throw new Error('--data DIR is missing');

function measure({ command, texts }: Measurement, folder: string): void {
  const [kind, ...options] = command.split(' ');
  const files = texts.map((name) => join(flags.data!, name));
  const args = ['eval', kind!, ...files, ...options, '--threads', flags.threads, '--output', folder];
  execFileSync(process.execPath, [fileURLToPath(new URL('../dist/cli.js', import.meta.url)), ...args], {
    cwd: fileURLToPath(new URL('..', import.meta.url)),
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

/** Copies the plots, under names that tell the measurement, and returns the section. */
function section({ name, command, texts, hasPlots }: Measurement, folder: string): string {
  const [kind, ...options] = command.split(' ');
  const parts = [`\`\`\`\nbanyan eval ${[kind, ...texts.map((text) => `DATA/${text}`), ...options].join(' ')}\n\`\`\``];
  const files = readdirSync(folder).sort();
  for (const plot of hasPlots ? files.filter((file) => file.endsWith('.svg')) : []) {
    const target = `${name}${plot.replace(/^(lookup|perplexity)|\.svg$/g, '')}.svg`;
    if (flags.svg !== undefined) {
      mkdirSync(flags.svg, { recursive: true });
      copyFileSync(join(folder, plot), join(flags.svg, target));
      parts.push(`![${target.replace('.svg', '').replaceAll('-', ' ')}](${folderFrom(flags.markdown, flags.svg)!}/${target})`);
    }
  }
  return [...parts, readFileSync(join(folder, `${kind!}.md`), 'utf8').trim()].join('\n\n');
}

const wanted = flags.only?.split(',');
for (const name of wanted ?? []) if (!kMeasurements.some((each) => each.name === name)) throw new Error(`there is no measurement ${name}`);
const measurements = kMeasurements.filter(({ name }) => wanted?.includes(name) ?? true);
// A page without the place for a result is found before hours of measuring.
if (flags.markdown !== undefined) for (const { name } of measurements) replaceSection(readFileSync(flags.markdown, 'utf8'), `read:${name}`, '');
for (const measurement of measurements) {
  const folder = mkdtempSync(join(tmpdir(), 'banyan-read-'));
  try {
    measure(measurement, folder);
    const text = section(measurement, folder);
    console.log(`${measurement.name}\n\n${text}\n`);
    if (flags.markdown !== undefined) writeSection(flags.markdown, `read:${measurement.name}`, text);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
