/** header: the JSON header of a safetensors file (adapters, saved documents), without reading the rest. */
import { open } from 'node:fs/promises';
import { BanyanError, type BanyanErrorCode } from '../errors.js';

export interface Header {
  bytes: number;
  metadata: Record<string, string>;
  tensors: { name: string; dtype: string; shape: number[] }[];
}

const kMaxHeaderBytes = 64 << 20;

export async function readHeader(path: string, code: BanyanErrorCode): Promise<Header> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const fail = (what: string): never => {
      throw new BanyanError(code, `${path}: ${what}`);
    };
    const prefix = Buffer.alloc(8);
    if ((await file.read(prefix, 0, 8, 0)).bytesRead < 8) fail('too short for a safetensors file');
    const length = prefix.readBigUInt64LE(0);
    if (length > BigInt(Math.min(size - 8, kMaxHeaderBytes))) fail(`the header says ${length} bytes, the file has ${size}`);
    const text = Buffer.alloc(Number(length));
    await file.read(text, 0, text.length, 8);
    return { bytes: size, ...parseHeader(text.toString('utf8'), fail) };
  } finally {
    await file.close();
  }
}

function parseHeader(text: string, fail: (what: string) => never): Omit<Header, 'bytes'> {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch {
    fail('the header is not JSON');
  }
  if (typeof header !== 'object' || header === null) fail('the header is not a JSON object');
  const { __metadata__: metadata = {}, ...entries } = header as Record<string, unknown>;
  const tensors = Object.entries(entries).map(([name, entry]) => {
    const { dtype, shape } = (entry ?? {}) as { dtype?: unknown; shape?: unknown };
    const isShape = Array.isArray(shape) && shape.every((size) => Number.isSafeInteger(size) && size >= 0);
    if (typeof dtype !== 'string' || !isShape) fail(`tensor ${name} has no element type or shape`);
    return { name, dtype: dtype as string, shape: shape as number[] };
  });
  return { metadata: metadata as Record<string, string>, tensors };
}
