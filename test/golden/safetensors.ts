/** safetensors: reads the arrays of a small safetensors file. Every lie of the header is an Error that names the file. */
import { readFileSync } from 'node:fs';

export interface Tensor {
  shape: readonly number[];
  data: Float32Array | Float64Array | Int32Array;
}

export type Tensors = ReadonlyMap<string, Tensor>;

const kElements = { F32: Float32Array, F64: Float64Array, I32: Int32Array } as const;

export function readTensors(path: string): Tensors {
  const bytes = readFileSync(path);
  const fail = (what: string): never => {
    throw new Error(`${path}: ${what}`);
  };
  if (bytes.length < 8) fail(`${bytes.length} bytes are no safetensors file`);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  if (headerBytes > bytes.length - 8) fail(`the header says ${headerBytes} bytes, the file has ${bytes.length}`);
  const header = parseHeader(bytes.toString('utf8', 8, 8 + headerBytes), path);
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const { dtype, shape, data_offsets: offsets } = entry as { dtype: string; shape: number[]; data_offsets: [number, number] };
    if (!(dtype in kElements)) fail(`tensor ${name} has the element type ${dtype}`);
    const elements = kElements[dtype as keyof typeof kElements];
    const [begin, end] = [8 + headerBytes + offsets[0], 8 + headerBytes + offsets[1]];
    const count = shape.reduce((product, size) => product * size, 1);
    if (!(begin <= end && end <= bytes.length && end - begin === elements.BYTES_PER_ELEMENT * count))
      fail(`tensor ${name} lies outside the file or has another size than its shape`);
    const copy = bytes.buffer.slice(bytes.byteOffset + begin, bytes.byteOffset + end) as ArrayBuffer;
    tensors.set(name, { shape, data: new elements(copy) });
  }
  return tensors;
}

function parseHeader(text: string, path: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`);
  }
}
