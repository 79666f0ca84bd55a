/** gguf_writer: GGUF files (version 3) of real shapes with random weights, for benchmarks: any size, no network, the same bytes every time. */
import { spawnSync } from 'node:child_process';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';

import { randomFrom } from '../lib/cli/eval/random.js';

export type TensorType = 'F32' | 'F16' | 'BF16' | 'Q4_0' | 'Q8_0' | 'Q4_K' | 'Q6_K';

/** Number in the format, elements and bytes of a block. */
export const kTypes: Readonly<Record<TensorType, { code: number; elements: number; bytes: number }>> = {
  F32: { code: 0, elements: 1, bytes: 4 },
  F16: { code: 1, elements: 1, bytes: 2 },
  Q4_0: { code: 2, elements: 32, bytes: 18 },
  Q8_0: { code: 8, elements: 32, bytes: 34 },
  Q4_K: { code: 12, elements: 256, bytes: 144 },
  Q6_K: { code: 14, elements: 256, bytes: 210 },
  BF16: { code: 30, elements: 1, bytes: 2 },
};

export interface LlamaShape {
  name: string;
  layers: number;
  dim: number;
  ffn: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocab: number;
  window: number;
  ropeBase: number;
}

/** The shapes of models that people run; embeddings are tied. */
export const kShapes: Readonly<Record<string, LlamaShape>> = {
  'smollm2-135m': {
    name: 'smollm2-135m',
    layers: 30,
    dim: 576,
    ffn: 1536,
    heads: 9,
    kvHeads: 3,
    headDim: 64,
    vocab: 49152,
    window: 8192,
    ropeBase: 1e5,
  },
  'llama-3.2-1b': {
    name: 'llama-3.2-1b',
    layers: 16,
    dim: 2048,
    ffn: 8192,
    heads: 32,
    kvHeads: 8,
    headDim: 64,
    vocab: 128256,
    window: 131072,
    ropeBase: 5e5,
  },
  'llama-3.2-3b': {
    name: 'llama-3.2-3b',
    layers: 28,
    dim: 3072,
    ffn: 8192,
    heads: 24,
    kvHeads: 8,
    headDim: 128,
    vocab: 128256,
    window: 131072,
    ropeBase: 5e5,
  },
};

/** Throws for a name that is none of kShapes. */
export function shapeOf(name: string): LlamaShape {
  const shape = kShapes[name];
  if (shape === undefined) throw new Error(`unknown shape ${name}; known are ${Object.keys(kShapes).join(', ')}`);
  return shape;
}

/** What a file of this kind holds: all matrices in one format, but for the mixtures that quantizers make. */
export type FileType = 'F16' | 'BF16' | 'Q8_0' | 'Q4_0' | 'Q4_K_M';

interface Tensor {
  name: string;
  /** [rows, cols]; a vector has one row and is near 1. */
  rows: number;
  cols: number;
  type: TensorType;
}

function tensorsOf(shape: LlamaShape, file: FileType): Tensor[] {
  const { layers, dim, ffn, heads, kvHeads, headDim, vocab } = shape;
  const plain: TensorType = file === 'Q4_K_M' ? 'Q4_K' : file;
  const better: TensorType = file === 'Q4_K_M' ? 'Q6_K' : plain;
  // K-quants have rows of whole blocks of 256
  const fit = (type: TensorType, cols: number): TensorType => (cols % kTypes[type].elements === 0 ? type : 'Q8_0');
  // The embedding is the head too: a mixture keeps it in 6 bits.
  const embedding: TensorType = file === 'Q4_0' || file === 'Q4_K_M' ? 'Q6_K' : plain;
  const tensors: Tensor[] = [
    { name: 'token_embd.weight', rows: vocab, cols: dim, type: fit(embedding, dim) },
    { name: 'output_norm.weight', rows: 1, cols: dim, type: 'F32' },
  ];
  for (let i = 0; i < layers; i++) {
    const hasMoreBits = i < layers / 8 || i >= (7 * layers) / 8 || (i - Math.floor(layers / 8)) % 3 === 2; // of a mixture
    const sensitive = hasMoreBits ? better : plain;
    const add = (name: string, rows: number, cols: number, type: TensorType): void => {
      tensors.push({ name: `blk.${i}.${name}.weight`, rows, cols, type: rows === 1 ? 'F32' : fit(type, cols) });
    };
    add('attn_norm', 1, dim, 'F32');
    add('attn_q', heads * headDim, dim, plain);
    add('attn_k', kvHeads * headDim, dim, plain);
    add('attn_v', kvHeads * headDim, dim, sensitive);
    add('attn_output', dim, heads * headDim, plain);
    add('ffn_norm', 1, dim, 'F32');
    add('ffn_gate', ffn, dim, plain);
    add('ffn_up', ffn, dim, plain);
    add('ffn_down', dim, ffn, sensitive);
  }
  return tensors;
}

/** A growing piece of a file. */
export class Bytes {
  readonly #parts: Buffer[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }
  put(part: Buffer): this {
    this.#parts.push(part);
    this.#length += part.length;
    return this;
  }
  u32(value: number): this {
    const part = Buffer.alloc(4);
    part.writeUInt32LE(value);
    return this.put(part);
  }
  u64(value: number): this {
    const part = Buffer.alloc(8);
    part.writeBigUInt64LE(BigInt(value));
    return this.put(part);
  }
  f32(value: number): this {
    const part = Buffer.alloc(4);
    part.writeFloatLE(value);
    return this.put(part);
  }
  text(value: string): this {
    const part = Buffer.from(value);
    return this.u64(part.length).put(part);
  }
  all(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

const [kU32, kF32, kString, kArray, kI32] = [4, 6, 8, 9, 5];

/** Key-value pairs of a model of this shape, with a vocabulary of nothing; returns how many. */
export function metadata(shape: LlamaShape, out: Bytes): number {
  let n = 0;
  const key = (name: string, type: number): Bytes => {
    n++;
    return out.text(name).u32(type);
  };
  key('general.architecture', kString).text('llama');
  key('general.name', kString).text(shape.name);
  const integers: [string, number][] = [
    ['block_count', shape.layers],
    ['embedding_length', shape.dim],
    ['feed_forward_length', shape.ffn],
    ['attention.head_count', shape.heads],
    ['attention.head_count_kv', shape.kvHeads],
    ['attention.key_length', shape.headDim],
    ['attention.value_length', shape.headDim],
    ['rope.dimension_count', shape.headDim],
    ['context_length', shape.window],
    ['vocab_size', shape.vocab],
  ];
  for (const [name, value] of integers) key(`llama.${name}`, kU32).u32(value);
  key('llama.attention.layer_norm_rms_epsilon', kF32).f32(1e-5);
  key('llama.rope.freq_base', kF32).f32(shape.ropeBase);
  // A vocabulary of nothing: control tokens, bytes, and numbers.
  const token = (i: number): string =>
    i === 0 ? '<unk>' : i === 1 ? '<s>' : i === 2 ? '</s>' : i < 259 ? `<0x${(i - 3).toString(16).toUpperCase().padStart(2, '0')}>` : `t${i}`;
  const kind = (i: number): number => (i === 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1);
  key('tokenizer.ggml.model', kString).text('llama');
  key('tokenizer.ggml.tokens', kArray).u32(kString).u64(shape.vocab);
  for (let i = 0; i < shape.vocab; i++) out.text(token(i));
  key('tokenizer.ggml.scores', kArray).u32(kF32).u64(shape.vocab);
  out.put(Buffer.from(Float32Array.from({ length: shape.vocab }, (_, i) => -i).buffer));
  key('tokenizer.ggml.token_type', kArray).u32(kI32).u64(shape.vocab);
  out.put(Buffer.from(Int32Array.from({ length: shape.vocab }, (_, i) => kind(i)).buffer));
  key('tokenizer.ggml.bos_token_id', kU32).u32(1);
  key('tokenizer.ggml.eos_token_id', kU32).u32(2);
  return n;
}

const half = new DataView(new ArrayBuffer(4));
/** float16 bits of a small positive normal number. */
function toHalf(value: number): number {
  half.setFloat32(0, value);
  const bits = half.getUint32(0);
  return (((bits >>> 23) & 255) - 112) * 1024 + ((bits >>> 13) & 1023);
}

// A mebibyte of valid random blocks; `scale`: about the standard deviation of the weights.
function randomBlocks(type: TensorType, scale: number, random: () => number): Buffer {
  const { bytes } = kTypes[type];
  const pool = Buffer.alloc(Math.floor((1 << 20) / bytes) * bytes);
  for (let i = 0; i < pool.length; i++) pool[i] = Math.floor(random() * 256);
  const gauss = (): number => (random() + random() + random() + random() - 2) * 1.73 * scale;
  for (let at = 0; at < pool.length; at += bytes) {
    switch (type) {
      case 'F32':
        pool.writeFloatLE(1 + 0.1 * gauss(), at);
        break;
      case 'F16': {
        const value = gauss() || scale;
        pool.writeUInt16LE((value < 0 ? 0x8000 : 0) | toHalf(Math.max(Math.abs(value), 1e-4)), at);
        break;
      }
      case 'BF16':
        half.setFloat32(0, gauss());
        pool.writeUInt16LE(half.getUint16(0), at);
        break;
      case 'Q8_0':
        pool.writeUInt16LE(toHalf(scale / 73), at); // of uniform bytes: deviation 74
        break;
      case 'Q4_0':
        pool.writeUInt16LE(toHalf(scale / 4.6), at);
        break;
      case 'Q4_K': // d, dmin, 12 bytes of 6-bit scales, nibbles: deviation 4.6 x 32
        pool.writeUInt16LE(toHalf(scale / 150), at);
        pool.writeUInt16LE(toHalf(scale / 20), at + 2); // the minimum takes about the mean of q x scale away
        break;
      case 'Q6_K': // 128 + 64 bytes of q, 16 scales, d
        for (let i = 192; i < 208; i++) pool.writeInt8(1 + (i % 32), at + i);
        pool.writeUInt16LE(toHalf(scale / 330), at + 208);
        break;
    }
  }
  return pool;
}

export interface TensorToWrite {
  name: string;
  /** Columns first. */
  dims: readonly number[];
  type: TensorType;
  pieces(): Iterable<Buffer>;
}

/** Writes a file of these key-value pairs (as they stand in a file) and tensors; returns its size in bytes. */
export function writeTensors(path: string, nKeys: number, keys: Buffer, tensors: readonly TensorToWrite[]): number {
  const body = new Bytes().put(keys);
  let offset = 0;
  for (const { name, dims, type } of tensors) {
    body.text(name).u32(dims.length);
    for (const size of dims) body.u64(size);
    body.u32(kTypes[type].code).u64(offset);
    const count = dims.reduce((product, size) => product * size, 1);
    offset += Math.ceil(((count / kTypes[type].elements) * kTypes[type].bytes) / 32) * 32;
  }
  const head = new Bytes().put(Buffer.from('GGUF')).u32(3).u64(tensors.length).u64(nKeys).put(body.all());
  const descriptor = openSync(path, 'w');
  try {
    const start = Buffer.concat([head.all(), Buffer.alloc(-head.length & 31)]);
    writeSync(descriptor, start);
    for (const { pieces } of tensors) {
      let size = 0;
      for (const piece of pieces()) size += writeSync(descriptor, piece);
      writeSync(descriptor, Buffer.alloc(-size & 31));
    }
    return start.length + offset;
  } finally {
    closeSync(descriptor);
  }
}

/** Linux: takes a file out of the system's cache. Elsewhere nothing. */
function dropFromCache(path: string): void {
  const descriptor = openSync(path, 'r+');
  fsyncSync(descriptor); // what is not yet on the disk would stay
  closeSync(descriptor);
  spawnSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0'], { stdio: 'ignore' });
}

/** Writes the file; returns its size in bytes. It is then read as after a start of the system: what was written lies in small pages in the system's cache. */
export function writeGguf(path: string, shape: LlamaShape, file: FileType, seed = 1): number {
  const random = randomFrom(seed);
  const keys = new Bytes();
  const nKeys = metadata(shape, keys);
  const pools = new Map<TensorType, Buffer>();
  const tensors = tensorsOf(shape, file).map(({ name, rows, cols, type }): TensorToWrite => {
    const pieces = function* (): Generator<Buffer> {
      const { elements, bytes } = kTypes[type];
      if (!pools.has(type)) pools.set(type, randomBlocks(type, 1 / Math.sqrt(shape.dim), random));
      const pool = pools.get(type)!;
      // from another block on in every piece, so that no two tensors are alike
      for (let left = ((rows * cols) / elements) * bytes; left > 0;) {
        const from = Math.floor((random() * pool.length) / bytes) * bytes;
        const piece = pool.subarray(from, Math.min(pool.length, from + left));
        left -= piece.length;
        yield piece;
      }
    };
    return { name, dims: rows === 1 ? [cols] : [cols, rows], type, pieces };
  });
  const size = writeTensors(path, nKeys, keys.all(), tensors);
  dropFromCache(path);
  return size;
}
