/** method: what is compared, and how a fresh process takes one sample of it. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import type { NativeMethodOptions } from '../../types/native.js';
import type { Series } from '../cells.js';
import { runForJson } from '../child.js';
import type { ModelFolders } from '../synthetic_model.js';
import type { Request, Sample } from './sample.js';

export interface Method extends Series {
  adapter?: 'sharedllm' | 'focusllm';
  /** Of the addon; a cost model has none. */
  options?: NativeMethodOptions;
}

/** `window`: tokens, of StreamingLLM. */
export function methods(window: number): Method[] {
  return [
    { name: 'sharedllm', label: 'SharedLLM', adapter: 'sharedllm', options: { method: 'sharedllm' } },
    { name: 'focusllm', label: 'FocusLLM', adapter: 'focusllm', options: { method: 'focusllm' } },
    { name: 'focusllm8', label: 'FocusLLM, refresh 8', adapter: 'focusllm', options: { method: 'focusllm', refreshEvery: 8 } },
    { name: 'full', label: 'full attention', options: { method: 'full' } },
    { name: 'streaming', label: `StreamingLLM ${window}`, options: { method: 'streaming', window } },
    { name: 'parallel', label: 'parallel encoding', options: { method: 'parallel' } },
    { name: 'cepe', label: 'encoder-decoder (cost model)' },
    { name: 'beacon', label: 'Activation Beacon (cost model)' },
  ];
}

export interface Setting {
  folders: ModelFolders;
  prompt: number;
  tokens: number;
  threads: number;
  /** Of the encoder-decoder cost model. */
  encoderLayers: number;
  encoderWidth: number;
}

const fromRoot = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

export async function takeSample(method: Method, length: number, setting: Setting): Promise<Sample> {
  const { folders, prompt, tokens, threads } = setting;
  if (method.options !== undefined) {
    const adapters = method.adapter === undefined ? [] : [folders[method.adapter]];
    const request: Request = { model: folders.model, adapters, options: method.options, length, prompt, tokens, threads };
    return runForJson<Sample>(process.execPath, [...process.execArgv, fromRoot('bench/methods/child.ts'), JSON.stringify(request)]);
  }
  const numbers = { length, prompt, tokens, threads, 'encoder-layers': setting.encoderLayers, 'encoder-width': setting.encoderWidth };
  const flags = Object.entries(numbers).flatMap(([name, value]) => [`--${name}`, String(value)]);
  return runForJson<Sample>(costModelsProgram(), [method.name, '--model', folders.model, ...flags]);
}

function costModelsProgram(): string {
  const names = ['build/tests/bin/banyan_cost_models_bench', 'build/tests/bin/Release/banyan_cost_models_bench.exe'].map(fromRoot);
  const found = names.find(existsSync);
  if (found === undefined) throw new Error(`${names[0]!} is not built: node scripts/native.mjs costs`);
  return found;
}
