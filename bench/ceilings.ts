/** ceilings: what the machine gives at this moment, and how much of it a model of some shape takes for a token. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import type { FileType, LlamaShape } from './gguf_writer.js';

/** Multiply-adds of a loop without memory count as two operations; reading is of memory no cache holds. */
export interface Ceilings {
  /** Float32 operations, 10^9 a second. */
  floats: number;
  /** Operations of bytes, 10^9 a second; undefined where the processor has no products of bytes. */
  bytes: number | undefined;
  /** Operations of tiles of bf16 (AMX), 10^9 a second; undefined where the processor has none. */
  tiles?: number | undefined;
  /** Reading, 10^9 bytes a second. */
  reading: number;
}

/** The line that the bench of the ops begins with. Throws if there is none. */
export function parseCeilings(text: string): Ceilings {
  const found = /peak ([\d.]+) GFLOP\/s, (?:([\d.]+) GOP\/s of bytes, )?(?:([\d.]+) GFLOP\/s of tiles, )?([\d.]+) GB\/s/.exec(text);
  if (found === null) throw new Error(`no peaks in what the bench of the ops printed: ${text.slice(0, 200)}`);
  const [bytes, tiles] = [found[2], found[3]].map((each) => (each === undefined ? undefined : Number(each)));
  return { floats: Number(found[1]), bytes, tiles, reading: Number(found[4]) };
}

/** Measures them, a second's work, once the bench is built; for a kernel variant, or the best one. */
export function measureCeilings(threads: number, variant?: string): Ceilings {
  const script = fileURLToPath(new URL('../scripts/native.mjs', import.meta.url));
  const options = ['bench', '--threads', String(threads), '--case', 'none', ...(variant === undefined ? [] : ['--variant', variant])];
  return parseCeilings(execFileSync(process.execPath, [script, ...options], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }));
}

/** Operations of the matrices of all layers on one token of a prompt; its attention, and the output that only the last token needs, are not counted. */
export function operationsOfToken({ layers, dim, ffn, heads, kvHeads, headDim }: LlamaShape): number {
  return 2 * layers * dim * (2 * heads * headDim + 2 * kvHeads * headDim + 3 * ffn);
}

/** Bytes that decoding one token behind `length` others reads: the file, whose embedding is the output too, and keys and values of 16 bits. */
export function bytesOfToken({ layers, kvHeads, headDim }: LlamaShape, fileBytes: number, length: number): number {
  return fileBytes + length * layers * 2 * kvHeads * headDim * 2;
}

/** What prompts of a type of file are held against: block formats are multiplied in bytes where that is possible. */
export function promptCeiling({ floats, bytes }: Ceilings, type: FileType): number {
  return type === 'F16' || type === 'BF16' ? floats : (bytes ?? floats);
}
