/** synthetic_model: one model with random weights and its two adapters, written to a folder, for benchmarks that ask what a shape costs, not what it knows. */
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

export interface Shape {
  layers: number;
  dim: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  ffn: number;
  vocab: number;
  window: number;
  shared: { injectedLayers: number; chunkSize: number; depth: number; slots: number };
  focus: { chunkSize: number; queryCap: number };
}

/** Full attention over 128K tokens takes minutes on two cores, and no length is refused. */
export const kBenchShape: Shape = {
  layers: 8,
  dim: 256,
  heads: 4,
  kvHeads: 2,
  headDim: 64,
  ffn: 704,
  vocab: 2048,
  window: 262_144,
  shared: { injectedLayers: 4, chunkSize: 1024, depth: 3, slots: 32 },
  focus: { chunkSize: 2048, queryCap: 512 },
};

export const kBosId = 1;

export interface ModelFolders {
  model: string;
  sharedllm: string;
  focusllm: string;
}

type NamedShape = readonly [name: string, shape: readonly number[]];

const kAdapter = { format: 'banyan-adapter', version: 1 };

function inLayers(count: number, parts: readonly NamedShape[]): NamedShape[] {
  return Array.from({ length: count }, (_, i) => parts.map(([name, sizes]) => [`model.layers.${i}.${name}.weight`, sizes] as const)).flat();
}

function write(path: string, configName: string, config: unknown, weightsName: string, tensors: readonly NamedShape[]): void {
  writeFileSync(join(path, configName), JSON.stringify(config));
  writeSafetensors(join(path, weightsName), tensors);
}

export function writeSyntheticModel(folder: string, shape: Shape): ModelFolders {
  const folders = { model: join(folder, 'model'), sharedllm: join(folder, 'sharedllm'), focusllm: join(folder, 'focusllm') };
  for (const path of Object.values(folders)) mkdirSync(path);
  const { layers, dim, heads, kvHeads, headDim, ffn, vocab } = shape;
  const [queries, keys] = [heads * headDim, kvHeads * headDim];

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
    bos_token_id: kBosId,
    eos_token_id: 2,
    torch_dtype: 'bfloat16',
  };
  write(folders.model, 'config.json', config, 'model.safetensors', [
    ['model.embed_tokens.weight', [vocab, dim]],
    ['model.norm.weight', [dim]],
    ...inLayers(layers, [
      ['input_layernorm', [dim]],
      ['post_attention_layernorm', [dim]],
      ['self_attn.q_proj', [queries, dim]],
      ['self_attn.k_proj', [keys, dim]],
      ['self_attn.v_proj', [keys, dim]],
      ['self_attn.o_proj', [dim, queries]],
      ['mlp.gate_proj', [ffn, dim]],
      ['mlp.up_proj', [ffn, dim]],
      ['mlp.down_proj', [dim, ffn]],
    ]),
  ]);

  writeSharedAdapter(folders.sharedllm, { dim, queries, ...shape.shared });

  const { chunkSize: focusChunk, queryCap } = shape.focus;
  const focus = { ...kAdapter, method: 'focusllm', chunk_size: focusChunk, query_cap: queryCap, beacon_param: ['q', 'k', 'v', 'o'] };
  write(
    folders.focusllm,
    'adapter_config.json',
    focus,
    'adapter.safetensors',
    inLayers(layers, [
      ['self_attn.beacon_q_proj', [queries, dim]],
      ['self_attn.beacon_k_proj', [keys, dim]],
      ['self_attn.beacon_v_proj', [keys, dim]],
      ['self_attn.beacon_o_proj', [dim, queries]],
    ]),
  );
  return folders;
}

export interface SharedAdapter {
  /** Of the model: its width, and query heads times head size. */
  dim: number;
  queries: number;
  injectedLayers: number;
  chunkSize: number;
  depth: number;
  slots: number;
  /** The rule of selection; `token_keys` matches in the middle one of the injected layers, as the demo adapter does. */
  selection?: 'cosine' | 'token_keys';
}

/** A SharedLLM adapter with random weights, into an existing folder. */
export function writeSharedAdapter(folder: string, adapter: SharedAdapter): void {
  const { dim, queries, injectedLayers, depth, slots, chunkSize, selection = 'cosine' } = adapter;
  const config = {
    ...kAdapter,
    method: 'sharedllm',
    semantics: 'paper',
    slot_kind: 'strided',
    num_cross_attn_layers: -injectedLayers,
    segment_tree_depth: depth,
    last_p: String(slots),
    chunk_size: chunkSize,
    do_retrieval: true,
    lower: 'shared',
    selection,
    ...(selection === 'token_keys' ? { selection_layer: Math.floor(injectedLayers / 2) } : {}),
  };
  const tensors = inLayers(injectedLayers, [
    ['cross_attn.layernorm', [dim]],
    ['cross_attn.q_proj', [queries, dim]],
    ['cross_attn.o_proj', [dim, queries]],
  ]);
  write(folder, 'adapter_config.json', config, 'adapter.safetensors', tensors);
}

/** Ids of the vocabulary, the first few (special tokens) left out; always the same for one seed. */
export function randomIds(count: number, vocab: number, seed: number): Int32Array {
  const next = generator(seed);
  return Int32Array.from({ length: count }, () => 3 + Math.floor(((next() + 1) / 2) * (vocab - 3)));
}

function writeSafetensors(path: string, tensors: readonly NamedShape[]): void {
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const [name, shape] of tensors) {
    const bytes = 2 * shape.reduce((product, size) => product * size, 1);
    header[name] = { dtype: 'BF16', shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  const file = openSync(path, 'w');
  writeSync(file, size);
  writeSync(file, padded);
  tensors.forEach(([, shape], i) => writeSync(file, weights(shape, i + 1)));
  closeSync(file);
}

// bfloat16: vectors are 1, matrices uniform and as small as trained ones of their width.
function weights(shape: readonly number[], seed: number): Buffer {
  const count = shape.reduce((product, size) => product * size, 1);
  const next = generator(seed);
  const scale = 1 / Math.sqrt(shape.at(-1)!);
  const floats = Float32Array.from({ length: count }, () => (shape.length === 1 ? 1 : scale * next()));
  const bits = new Uint32Array(floats.buffer);
  return Buffer.from(Uint16Array.from(bits, (word) => word >>> 16).buffer);
}

// From -1 to below 1.
function generator(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b1) >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}
