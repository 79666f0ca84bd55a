/** demoText: what the demo reads: the given files, or the documentation that every npm installation carries. */
import { execSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { BanyanError } from '../errors.js';

export interface DemoText {
  title: string;
  files: number;
  text: string;
}

export function demoText(paths: readonly string[]): DemoText {
  if (paths.length > 0) {
    const title = paths.length === 1 ? basename(paths[0]!) : `${basename(paths[0]!)} and others`;
    return { title, files: paths.length, text: paths.map((path) => readFileSync(path, 'utf8')).join('\n\n') };
  }
  const folder = npmDocs();
  const entries = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  const pages = entries.filter((name) => name.endsWith('.md')).sort();
  return { title: "npm's own documentation", files: pages.length, text: pages.map((name) => readFileSync(join(folder, name), 'utf8')).join('\n\n') };
}

// Beside the npm that runs us, beside this Node, or where npm says its global packages are.
function npmDocs(): string {
  const docs = (npm: string): string => join(npm, 'docs');
  const script = process.env['npm_execpath'];
  const besideNode = dirname(process.execPath);
  const candidates = [
    ...(script === undefined ? [] : [docs(dirname(dirname(script)))]),
    docs(join(besideNode, '../lib/node_modules/npm')),
    docs(join(besideNode, 'node_modules/npm')),
  ];
  const found = candidates.find(existsSync) ?? [docs(join(globalRoot(), 'npm'))].find(existsSync);
  if (found === undefined)
    throw new BanyanError('BANYAN_FILE_NOT_FOUND', 'npm has no documentation on this computer; name a text file: banyan demo FILE');
  return found;
}

function globalRoot(): string {
  try {
    return execSync('npm root -g', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return '';
  }
}

/** `sentence` as a paragraph of its own, at the paragraph border nearest after the middle. */
export function plant(text: string, sentence: string): string {
  const middle = Math.floor(text.length / 2);
  const border = text.indexOf('\n\n', middle);
  const at = border === -1 ? text.length : border;
  return `${text.slice(0, at)}\n\n${sentence}${text.slice(at)}`;
}
