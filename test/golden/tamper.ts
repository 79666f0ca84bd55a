/** tamper: copies of case folders with something changed, to see what the comparison notices. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

export type Change = (folder: string) => void;

/** The copy keeps the folder's name and is gone afterwards. */
export async function withCopy<T>(source: string, change: Change, use: (folder: string) => Promise<T>): Promise<T> {
  const parent = mkdtempSync(join(tmpdir(), 'banyan-tampered-'));
  const folder = join(parent, basename(source));
  try {
    cpSync(source, folder, { recursive: true });
    change(folder);
    return await use(folder);
  } finally {
    rmSync(parent, { recursive: true, force: true });
  }
}

export function inJson<T>(file: string, change: (stored: T) => void): Change {
  return (folder) => {
    const path = join(folder, file);
    const stored = JSON.parse(readFileSync(path, 'utf8')) as T;
    change(stored);
    writeFileSync(path, JSON.stringify(stored));
  };
}

/** Adds 0.001 to the last float of a tensor, or 1 to an integer. */
export function inTensor(name: string): Change {
  return (folder) => {
    const path = join(folder, 'expected.safetensors');
    const { header, data } = readParts(path);
    const { dtype, data_offsets } = header[name]!;
    const end = data_offsets[1];
    if (dtype === 'I32') data.writeInt32LE(data.readInt32LE(end - 4) + 1, end - 4);
    else if (dtype === 'F64') data.writeDoubleLE(data.readDoubleLE(end - 8) + 1e-3, end - 8);
    else data.writeFloatLE(data.readFloatLE(end - 4) + 1e-3, end - 4);
    writeParts(path, header, data);
  };
}

/** Keeps the first rows of a tensor; 0 removes it. */
export function keepRows(name: string, nRows: number): Change {
  return (folder) => {
    const path = join(folder, 'expected.safetensors');
    const { header, data } = readParts(path);
    const { dtype, shape, data_offsets: offsets } = header[name]!;
    const rest = shape.slice(1);
    const rowBytes = (offsets[1] - offsets[0]) / shape[0]!;
    if (nRows === 0) delete header[name];
    else header[name] = { dtype, shape: [nRows, ...rest], data_offsets: [offsets[0], offsets[0] + nRows * rowBytes] };
    writeParts(path, header, data);
  };
}

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

function readParts(path: string): { header: Header; data: Buffer } {
  const bytes = readFileSync(path);
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  return { header: JSON.parse(bytes.toString('utf8', 8, end)) as Header, data: bytes.subarray(end) };
}

function writeParts(path: string, header: Header, data: Buffer): void {
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([length, text, data]));
}
