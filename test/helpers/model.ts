/** model: small models with random weights, written to a folder of their own, for tests that need a model of a certain size, not of a certain mind. */
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll } from 'vitest';

export interface Shape {
  dim: number;
  ffn: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocab: number;
  window: number;
  /** Layers that read the memory. */
  injected: number;
  chunkSize: number;
  depth: number;
  slots: number;
}

export const kSmall: Shape = {
  dim: 64,
  ffn: 128,
  layers: 3,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  vocab: 300,
  window: 1024,
  injected: 2,
  chunkSize: 64,
  depth: 2,
  slots: 8,
};

/** Slow enough that every phase can be interrupted: some milliseconds a token. */
export const kSlow: Shape = {
  dim: 512,
  ffn: 1536,
  layers: 8,
  heads: 8,
  kvHeads: 4,
  headDim: 64,
  vocab: 300,
  window: 16384,
  injected: 4,
  chunkSize: 1024,
  depth: 3,
  slots: 32,
};

/** 256 MB that take no place on the disk: loading takes a while. */
export const kWide: Shape = { ...kSmall, dim: 1024, heads: 64, kvHeads: 8, vocab: 131_072 };

const folders: string[] = [];
afterAll(() => folders.splice(0).forEach((folder) => rmSync(folder, { recursive: true, force: true })));

/** A folder that is removed after the tests of the file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'banyan-'));
  folders.push(folder);
  return folder;
}

export interface ModelFolder {
  model: string;
  adapter: string;
}

export interface ModelOptions {
  /** Default true. */
  tokenizer?: boolean;
  chatTemplate?: string;
  /** Zeros that are never written. Default false. */
  sparse?: boolean;
  /** Keys of adapter_config.json beside or instead of the usual ones. */
  adapter?: Record<string, unknown>;
}

/** Writes a model, its adapter and a tokenizer of bytes. */
export function writeModel(shape: Shape, options: ModelOptions = {}): ModelFolder {
  const folder = temporaryFolder();
  const model = join(folder, 'model');
  const adapter = join(folder, 'adapter');
  mkdirSync(model);
  mkdirSync(adapter);
  const { dim, ffn, layers, heads, kvHeads, headDim, vocab } = shape;
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: dim,
    intermediate_size: ffn,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    vocab_size: vocab,
    max_position_embeddings: shape.window,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: true,
    bos_token_id: 1,
    eos_token_id: 2,
    torch_dtype: 'bfloat16',
  };
  writeFileSync(join(model, 'config.json'), JSON.stringify(config));

  const tensors: [string, number[]][] = [
    ['model.embed_tokens.weight', [vocab, dim]],
    ['model.norm.weight', [dim]],
  ];
  for (let i = 0; i < layers; i++) {
    const name = (rest: string): string => `model.layers.${i}.${rest}.weight`;
    tensors.push(
      [name('input_layernorm'), [dim]],
      [name('post_attention_layernorm'), [dim]],
      [name('self_attn.q_proj'), [heads * headDim, dim]],
      [name('self_attn.k_proj'), [kvHeads * headDim, dim]],
      [name('self_attn.v_proj'), [kvHeads * headDim, dim]],
      [name('self_attn.o_proj'), [dim, heads * headDim]],
      [name('mlp.gate_proj'), [ffn, dim]],
      [name('mlp.up_proj'), [ffn, dim]],
      [name('mlp.down_proj'), [dim, ffn]],
    );
  }
  writeSafetensors(join(model, 'model.safetensors'), tensors, options.sparse ?? false);

  const adapterConfig = {
    format: 'banyan-adapter',
    version: 1,
    method: 'sharedllm',
    semantics: 'paper',
    slot_kind: 'strided',
    num_cross_attn_layers: -shape.injected,
    segment_tree_depth: shape.depth,
    last_p: String(shape.slots),
    chunk_size: shape.chunkSize,
    do_retrieval: true,
    lower: 'shared',
  };
  writeFileSync(join(adapter, 'adapter_config.json'), JSON.stringify({ ...adapterConfig, ...options.adapter }));
  const crossed: [string, number[]][] = [];
  for (let i = 0; i < shape.injected; i++) {
    const name = (rest: string): string => `model.layers.${i}.cross_attn.${rest}.weight`;
    crossed.push([name('layernorm'), [dim]], [name('q_proj'), [heads * headDim, dim]], [name('o_proj'), [dim, heads * headDim]]);
  }
  writeSafetensors(join(adapter, 'adapter.safetensors'), crossed, options.sparse ?? false);

  if (options.tokenizer ?? true) writeByteTokenizer(model, options.chatTemplate);
  return { model, adapter };
}

/** A FocusLLM adapter for a model of this shape; the path of its folder. */
export function writeFocusAdapter(shape: Shape, settings: Record<string, unknown> = {}): string {
  const folder = temporaryFolder();
  const { dim, heads, kvHeads, headDim } = shape;
  const config = { format: 'banyan-adapter', version: 1, method: 'focusllm', beacon_param: ['q', 'k', 'v', 'o'], chunk_size: shape.chunkSize };
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...config, ...settings }));
  const tensors: [string, number[]][] = [];
  for (let i = 0; i < shape.layers; i++) {
    const name = (role: string): string => `model.layers.${i}.self_attn.beacon_${role}_proj.weight`;
    tensors.push(
      [name('q'), [heads * headDim, dim]],
      [name('k'), [kvHeads * headDim, dim]],
      [name('v'), [kvHeads * headDim, dim]],
      [name('o'), [dim, heads * headDim]],
    );
  }
  writeSafetensors(join(folder, 'adapter.safetensors'), tensors, false);
  return folder;
}

/** A safetensors file of bfloat16: vectors are near 1, matrices small and random but always the same. */
export function writeSafetensors(path: string, tensors: readonly [string, number[]][], isSparse: boolean): void {
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const [name, shape] of tensors) {
    const bytes = 2 * shape.reduce((product, size) => product * size, 1);
    header[name] = { dtype: 'BF16', shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  const text = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, ' ')]);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  const file = openSync(path, 'w');
  writeSync(file, size);
  writeSync(file, padded);
  ftruncateSync(file, 8 + padded.length + offset);
  if (!isSparse) for (const [, shape] of tensors) writeSync(file, weights(shape));
  closeSync(file);
}

function weights(shape: readonly number[]): Buffer {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = new Uint16Array(count);
  if (shape.length === 1) return Buffer.from(values.fill(bfloat16(1)).buffer);
  const scale = 1 / Math.sqrt(shape.at(-1) ?? 1);
  let state = count;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = bfloat16((state / 2 ** 31 - 1) * scale);
  }
  return Buffer.from(values.buffer);
}

const kFloat = new Float32Array(1);
const kBits = new Uint32Array(kFloat.buffer);
function bfloat16(value: number): number {
  kFloat[0] = value;
  return (kBits[0] ?? 0) >>> 16;
}

// Ids 3 to 258 are the bytes, spelled as GPT-2 does; 0 to 2 are <unk>, <s>, </s>.
function writeByteTokenizer(folder: string, chatTemplate: string | undefined): void {
  const specials = ['<unk>', '<s>', '</s>'];
  const vocab: Record<string, number> = Object.fromEntries(specials.map((token, id) => [token, id]));
  let extra = 0;
  for (let byte = 0; byte < 256; byte++) {
    const isPlain = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    vocab[String.fromCharCode(isPlain ? byte : 0x100 + extra++)] = byte + 3;
  }
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    normalizer: null,
    post_processor: null,
    added_tokens: specials.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: [],
    },
  };
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  const config = { bos_token: '<s>', eos_token: '</s>', add_bos_token: true, ...(chatTemplate === undefined ? {} : { chat_template: chatTemplate }) };
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(config));
}
