/** gguf_convert: the same model in another format: quantized, computed back to float32, or out of a Hugging Face directory. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { dequantize, quantize, type PlainType } from './gguf_blocks.js';
import { piecesOf, readGgufFile } from './gguf_file.js';
import { Bytes, kTypes, metadata, writeTensors, type LlamaShape, type TensorToWrite } from './gguf_writer.js';

/** A matrix's format where a file is to have `wanted`: rows that are no whole blocks stay in 16 bits, vectors in 32. */
export function formatOf(wanted: PlainType, dims: readonly number[]): PlainType {
  if (dims.length === 1) return 'F32';
  return dims[0]! % kTypes[wanted].elements === 0 ? wanted : 'F16';
}

/** Writes every matrix of a GGUF file in the wanted format. To F32 this is exact: the very numbers that the blocks of `from` mean. */
export function convertGguf(from: string, to: string, wanted: PlainType): void {
  const file = readGgufFile(from);
  const tensors = file.tensors.map((tensor): TensorToWrite => {
    const type = formatOf(wanted, tensor.dims);
    const pieces = function* (): Generator<Buffer> {
      for (const piece of piecesOf(file, tensor)) yield type === tensor.type ? piece : quantize(type, dequantize(tensor.type, piece));
    };
    return { name: tensor.name, dims: tensor.dims, type, pieces };
  });
  writeTensors(to, file.nKeys, file.keys, tensors);
}

interface Header {
  [name: string]: { dtype: string; shape: number[]; data_offsets: [number, number] };
}

const kNames: readonly (readonly [RegExp, string])[] = [
  [/^model\.embed_tokens/, 'token_embd'],
  [/^model\.norm/, 'output_norm'],
  [/^lm_head/, 'output'],
  [/^model\.layers\.(\d+)\.input_layernorm/, 'blk.$1.attn_norm'],
  [/^model\.layers\.(\d+)\.post_attention_layernorm/, 'blk.$1.ffn_norm'],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj/, 'blk.$1.attn_output'],
  [/^model\.layers\.(\d+)\.self_attn\.(q|k|v)_proj/, 'blk.$1.attn_$2'],
  [/^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj/, 'blk.$1.ffn_$2'],
];

/** A Llama of Hugging Face with matrices in float16, in one file. GGUF turns neighbouring pairs of a head, so rows of q and k change places. */
export function convertDirectory(folder: string, to: string, wanted: PlainType): void {
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Record<string, number>;
  const value = (key: string): number => config[key]!;
  const heads = value('num_attention_heads');
  const shape: LlamaShape = {
    name: 'converted',
    layers: value('num_hidden_layers'),
    dim: value('hidden_size'),
    ffn: value('intermediate_size'),
    heads,
    kvHeads: value('num_key_value_heads'),
    headDim: config['head_dim'] ?? value('hidden_size') / heads,
    vocab: value('vocab_size'),
    window: value('max_position_embeddings'),
    ropeBase: value('rope_theta'),
  };
  const bytes = readFileSync(join(folder, 'model.safetensors'));
  const headerSize = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerSize)) as Header;
  const tensors = Object.entries(header).flatMap(([stored, { dtype, shape: sizes, data_offsets: place }]): TensorToWrite[] => {
    if (stored === '__metadata__') return [];
    const known = kNames.find(([pattern]) => pattern.test(stored));
    if (known === undefined || dtype !== 'F16') throw new Error(`${stored} (${dtype}) is no F16 tensor of a Llama`);
    const name = stored.replace(known[0], known[1]);
    const dims = [...sizes].reverse();
    const type = formatOf(wanted, dims);
    const values = dequantize('F16', bytes.subarray(8 + headerSize + place[0], 8 + headerSize + place[1]));
    const isTurned = /attn_(q|k)\./.test(name);
    return [{ name, dims, type, pieces: () => [quantize(type, isTurned ? interleave(values, sizes[1]!, shape.headDim) : values)] }];
  });
  const keys = new Bytes();
  const nKeys = metadata(shape, keys);
  writeTensors(to, nKeys, keys.all(), tensors);
}

/** Rows of [heads, 2, headDim / 2, cols] as [heads, headDim / 2, 2, cols]. */
export function interleave(values: Float32Array, cols: number, headDim: number): Float32Array {
  const out = new Float32Array(values.length);
  const half = headDim / 2;
  for (let row = 0; row * cols < values.length; row++) {
    const [head, i] = [Math.floor(row / headDim), row % headDim];
    const from = head * headDim + (i % 2) * half + Math.floor(i / 2);
    out.set(values.subarray(from * cols, (from + 1) * cols), row * cols);
  }
  return out;
}
