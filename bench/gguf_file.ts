/** gguf_file: the parts of a GGUF file (version 3) that are needed to write it again in another format. */
import { closeSync, openSync, readSync, statSync } from 'node:fs';

import { kTypes, type TensorType } from './gguf_writer.js';

export interface StoredTensor {
  name: string;
  /** Columns first, as GGUF has them. */
  dims: number[];
  type: TensorType;
  /** In the file. */
  begin: number;
  size: number;
}

export interface GgufFile {
  path: string;
  nKeys: number;
  /** All key-value pairs as they stand in the file. */
  keys: Buffer;
  tensors: StoredTensor[];
}

const kTypeNames = new Map(Object.entries(kTypes).map(([name, { code }]) => [code, name as TensorType]));
const kValueBytes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8]; // by type; 8 is a string, 9 an array
const kHeaderBytes = 64 << 20; // more than any vocabulary takes

/** Throws for a format that the writer does not know, and for a file that is no GGUF of version 3. */
export function readGgufFile(path: string): GgufFile {
  const descriptor = openSync(path, 'r');
  const bytes = Buffer.alloc(Math.min(statSync(path).size, kHeaderBytes));
  readSync(descriptor, bytes, 0, bytes.length, 0);
  closeSync(descriptor);
  let at = 0;
  const u32 = (): number => bytes.readUInt32LE((at += 4) - 4);
  const u64 = (): number => Number(bytes.readBigUInt64LE((at += 8) - 8));
  const text = (): string => {
    const length = u64();
    return bytes.toString('utf8', at, (at += length));
  };
  const skipValue = (type: number): void => {
    if (type === 8) text();
    else if (type === 9) {
      const item = u32();
      const count = u64();
      if (item === 8 || item === 9) for (let i = 0; i < count; i++) skipValue(item);
      else at += count * kValueBytes[item]!;
    } else at += kValueBytes[type]!;
  };
  if (bytes.toString('latin1', 0, 4) !== 'GGUF' || bytes.readUInt32LE(4) !== 3) throw new Error(`${path} is no GGUF file of version 3`);
  at = 8;
  const [nTensors, nKeys] = [u64(), u64()];
  const keysAt = at;
  for (let i = 0; i < nKeys; i++) {
    text();
    skipValue(u32());
  }
  const keys = bytes.subarray(keysAt, at);
  const tensors = Array.from({ length: nTensors }, (): StoredTensor => {
    const name = text();
    const dims = Array.from({ length: u32() }, u64);
    const code = u32();
    const type = kTypeNames.get(code);
    if (type === undefined) throw new Error(`${path}: ${name} has type ${code}, which is not known here`);
    const count = dims.reduce((product, size) => product * size, 1);
    return { name, dims, type, begin: u64(), size: (count / kTypes[type].elements) * kTypes[type].bytes };
  });
  const dataAt = Math.ceil(at / 32) * 32;
  return { path, nKeys, keys, tensors: tensors.map((tensor) => ({ ...tensor, begin: dataAt + tensor.begin })) };
}

/** The tensor's bytes in pieces of whole blocks, a few megabytes each. */
export function* piecesOf({ path }: GgufFile, { type, begin, size }: StoredTensor): Generator<Buffer> {
  const descriptor = openSync(path, 'r');
  const block = kTypes[type].bytes;
  const step = Math.floor((4 << 20) / block) * block;
  try {
    for (let at = 0; at < size; at += step) {
      const piece = Buffer.alloc(Math.min(step, size - at));
      if (readSync(descriptor, piece, 0, piece.length, begin + at) !== piece.length) throw new Error(`${path} ends too early`);
      yield piece;
    }
  } finally {
    closeSync(descriptor);
  }
}
