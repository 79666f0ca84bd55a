/** system: what is compared on long documents, the files it needs, and how a fresh process takes one sample of it. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { Series } from '../cells.js';
import { runForJson } from '../child.js';
import { writeGguf, type FileType, type LlamaShape } from '../gguf_writer.js';
import { writeSharedAdapter } from '../synthetic_model.js';
import type { Part, Request, Sample, Start } from './sample.js';

/** The tree of every document here: the adapters differ in M and in the rule of selection only. */
export const kTree = { chunkSize: 1024, depth: 3, slots: 32 };

export interface System extends Series {
  type: FileType;
  /** Missing: the peer. */
  injectedLayers?: number;
  selection?: 'cosine' | 'token_keys';
  /** Slots, memory and local cache, and the adapter's matrices, in 8 bits. */
  in8Bits?: boolean;
}

/** `spec`: m4, m8, ... (SharedLLM with so many injected layers), m4-keys (selection by token keys), m4-q8 (slots and adapter in 8 bits), llama. Throws for
 * anything else. */
export function systemOf(spec: string, type: FileType): System {
  const name = `${spec}-${type}`;
  // what full attention reads grows with the square
  if (spec === 'llama') return { name, label: `node-llama-cpp, ${type}`, type, growth: 'quadratic' };
  const match = /^m([1-9]\d*)(-keys)?(-q8)?$/.exec(spec);
  if (match === null) throw new Error(`--systems: ${spec} is none of m4, m8, ..., m4-keys, m4-q8, ..., llama`);
  const [, layers, keys, q8] = match;
  const label = `SharedLLM, M = ${layers!}${keys === undefined ? '' : ', token keys'}${q8 === undefined ? '' : ', 8-bit slots and adapter'}, ${type}`;
  return { name, label, type, injectedLayers: Number(layers), selection: keys === undefined ? 'cosine' : 'token_keys', in8Bits: q8 !== undefined };
}

export interface Setting {
  shape: LlamaShape;
  /** Models, adapters and documents lie here; what is missing is made. */
  folder: string;
  question: number;
  questions: number;
  tokens: number;
  threads: number;
  seconds: number;
}

/** Bytes of keys and values that full attention keeps: 16 bits, all layers. */
export const fullCacheBytes = ({ layers, kvHeads, headDim }: LlamaShape, tokens: number): number => 4 * layers * kvHeads * headDim * tokens;

export function modelFile({ folder, shape }: Setting, type: FileType): string {
  const file = join(folder, `${shape.name}-${type}.gguf`);
  if (!existsSync(file)) writeGguf(file, shape, type);
  return file;
}

function adapterFolder({ folder, shape }: Setting, { injectedLayers = 0, selection = 'cosine' }: System): string {
  const path = join(folder, `${shape.name}-m${injectedLayers}-${selection}`);
  if (existsSync(path)) return path;
  mkdirSync(path);
  writeSharedAdapter(path, { dim: shape.dim, queries: shape.heads * shape.headDim, injectedLayers, selection, ...kTree });
  return path;
}

const fromRoot = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

function runBanyan<T>(system: System, length: number, part: Part, setting: Setting): Promise<T> {
  const { question, questions, tokens, threads, seconds } = setting;
  const file = join(setting.folder, `${setting.shape.name}-${system.name}-${length}.banyan`);
  const request: Request = {
    ...{
      model: modelFile(setting, system.type),
      adapter: adapterFolder(setting, system),
      part,
      length,
      question,
      tokens,
      questions,
      seconds,
      threads,
      file,
      kvType: system.in8Bits === true ? 'q8' : 'f16',
      adapterType: system.in8Bits === true ? 'q8' : 'stored',
    },
  };
  return runForJson<T>(process.execPath, [...process.execArgv, fromRoot('bench/long/child.ts'), JSON.stringify(request)]);
}

/** Saves the whole tree of a document, unless it is there. */
export async function prepareDocument(system: System, length: number, setting: Setting): Promise<void> {
  if (existsSync(join(setting.folder, `${setting.shape.name}-${system.name}-${length}.banyan`))) return;
  await runBanyan(system, length, 'prepare', setting);
}

export function takeSample(system: System, length: number, part: Part, setting: Setting): Promise<Sample> {
  if (system.injectedLayers !== undefined) return runBanyan<Sample>(system, length, part, setting);
  const { question, questions, tokens, threads } = setting;
  const request = { file: modelFile(setting, system.type), threads, length, question, questions, tokens };
  return runForJson<Sample>(process.execPath, [fromRoot('bench/peers/long_llama.mjs'), JSON.stringify(request)]);
}

/** Of a file that the system has in its cache. */
export function takeStart(system: System, setting: Setting): Promise<Start> {
  const script = system.injectedLayers === undefined ? 'start_llama.mjs' : 'start_banyan.mjs';
  const request = { file: modelFile(setting, system.type), threads: setting.threads, began: performance.timeOrigin + performance.now() };
  return runForJson<Start>(process.execPath, [fromRoot(`bench/peers/${script}`), JSON.stringify(request)]);
}
