/** models: which model a command runs, and loading it with a bar. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadModel, type Model } from '../index.js';
import type { ModelFlags } from './options.js';
import type { Progress } from './progress.js';

/** The folder of this package, from dist/ as from lib/cli/. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}

export function readPackage(): { version: string } {
  return JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string };
}

/** The demo model has an adapter of its own; a named model has the one that is named, or none. */
export function modelPaths(flags: Pick<ModelFlags, 'model' | 'adapter'>): { model: string; adapter?: readonly string[] } {
  const demo = (name: string): string => join(packageRoot(), 'models', name);
  if (flags.model === undefined) return { model: demo('banyan-demo'), adapter: flags.adapter ?? [demo('banyan-demo-adapter')] };
  return { model: flags.model, ...(flags.adapter === undefined ? {} : { adapter: flags.adapter }) };
}

export async function openModel(flags: ModelFlags, signal: AbortSignal, progress: Progress): Promise<Model> {
  const { device, threads, kvType, poolType, adapterType, kvDirectory } = flags;
  const model = await loadModel({
    ...modelPaths(flags),
    device,
    kvType,
    poolType,
    adapterType,
    kvDirectory,
    ...(threads === undefined ? {} : { threads }),
    signal,
    onProgress: ({ done, total }) => progress.update('loading', done, total),
  });
  progress.end();
  return model;
}
