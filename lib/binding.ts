/** binding: finds and loads the native addon, once, when it is first needed. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { Native } from '../types/native.js';
import { BanyanError } from './errors.js';

let loaded: Native | undefined;

/** The addon. Throws BANYAN_NATIVE_LOAD_FAILED. */
export function native(): Native {
  return (loaded ??= load());
}

function load(): Native {
  // This file is lib/binding.ts or part of a bundle in dist/: the package is one level up.
  const root = unpacked(join(dirname(fileURLToPath(import.meta.url)), '..'));
  const require = createRequire(import.meta.url);
  let file: string | undefined;
  try {
    const find = require('node-gyp-build') as { path(root: string): string };
    file = find.path(root);
    return require(file) as Native;
  } catch (cause) {
    throw new BanyanError('BANYAN_NATIVE_LOAD_FAILED', explain(root, file, cause), { cause });
  }
}

// An archive of an Electron application cannot be opened by the dynamic linker: the addon lies unpacked beside it.
function unpacked(path: string): string {
  const outside = path.replace(/([\\/][^\\/]*\.asar)(?=[\\/])/, '$1.unpacked');
  return outside !== path && existsSync(outside) ? outside : path;
}

function explain(root: string, file: string | undefined, cause: unknown): string {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const platform = `${process.platform}-${process.arch}`;
  const tried = file === undefined ? [join(root, 'build', 'Release'), join(root, 'prebuilds', platform)] : [file];
  const lines = [`The native addon of Banyan could not be loaded on ${platform}, Node ${process.versions.node}: ${reason}`, '', 'Tried:'];
  lines.push(...tried.map((path) => `  ${path}`), '', 'What may help:');
  if (file === undefined) {
    lines.push('  - install the package again, so that prebuilds/ is complete (a copied node_modules may be for another platform)');
    lines.push(`  - build it from source: npm run build:native in ${root} (needs CMake and a C++20 compiler)`);
  } else {
    lines.push('  - the file may be for another platform, C library or Node version; delete build/ if it was built elsewhere');
    lines.push(`  - build it again from source: npm run build:native in ${root} (needs CMake and a C++20 compiler)`);
  }
  if (/\.asar[\\/]/.test(root)) lines.push("  - Electron: unpack it, asarUnpack: ['**/node_modules/banyan/**']");
  return lines.join('\n');
}
