/**
 * case: one golden case read from its folder into one shape, whatever its semantics: what to run, and what must come out.
 * Layout: docs/formats.md ("Golden cases"). Anything missing or torn is an Error that says which file.
 */
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { readObject } from './fields.js';
import { readTensors, type Tensor, type Tensors } from './safetensors.js';

export type Semantics = 'released' | 'corrected' | 'paper' | 'nested';

/** An encoded node: a chunk and its token range in the document. */
export interface Span {
  chunk: number;
  begin: number;
  end: number;
}

/** Some keys or values of one layer: element (head, slot, i) is data[offset + head * headStride + slot * slotStride + i]. */
export interface KvPiece {
  layer: number;
  kind: 'keys' | 'values';
  firstSlot: number;
  slots: number;
  heads: number;
  dim: number;
  headStride: number;
  slotStride: number;
  offset: number;
  data: Tensor['data'];
}

/** Sums over the logits of one token, as stored in expected.json. */
export interface Checksum {
  n: number;
  sum: number;
  abs_sum: number;
  sq_sum: number;
  weighted_sum: number;
}

export interface Greedy {
  tokens: readonly number[];
  logits?: Tensor;
}

/** What one run under one semantics must produce; what a case does not store is absent. */
export interface Expectation {
  semantics: Semantics;
  spans?: readonly Span[];
  positions?: ArrayLike<number>;
  logits?: { first: number; tensor: Tensor };
  checksum?: Checksum;
  cached?: Greedy;
  recomputed?: Greedy;
  kv: readonly KvPiece[];
}

export interface GoldenCase {
  name: string;
  directory: string;
  document: Int32Array;
  mask: Uint8Array | undefined;
  chunkSize: number;
  ids: Int32Array;
  queryIndex: number | undefined;
  maxNewTokens: number;
  expectations: readonly Expectation[];
}

const kCaseFiles = ['config.json', 'inputs.json', 'expected.json', 'expected.safetensors', 'model.safetensors'];

/** Case folders of `root` in order: every folder, searched deeper where it holds folders only. `root` itself may be a case. */
export function findCases(root: string): string[] {
  const entries = readdirSync(root, { withFileTypes: true });
  if (entries.some((entry) => kCaseFiles.includes(entry.name))) return [root];
  const folders = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.')).map((entry) => join(root, entry.name));
  return folders.sort().flatMap((folder) => {
    const inner = readdirSync(folder, { withFileTypes: true });
    const isGroup = inner.some((entry) => entry.isDirectory()) && !inner.some((entry) => kCaseFiles.includes(entry.name));
    return isGroup ? findCases(folder) : [folder];
  });
}

/** Throws where a case of any kind is incomplete. */
export function requireFiles(directory: string): void {
  for (const file of kCaseFiles) {
    if (!existsSync(join(directory, file))) throw new Error(`${join(directory, file)} is missing`);
  }
}

export function readCase(directory: string): GoldenCase {
  const config = readObject(join(directory, 'config.json')) as { semantics?: Semantics };
  const inputs = readObject(join(directory, 'inputs.json')) as unknown as Inputs;
  const expected = readObject(join(directory, 'expected.json')) as unknown as Expected;
  const tensors = readTensors(join(directory, 'expected.safetensors'));
  const ids = Int32Array.from(inputs.input_ids.flat());
  const query = Array.isArray(inputs.query_length) ? inputs.query_length[0] : inputs.query_length;
  const own = ownExpectation(config.semantics ?? 'released', expected, tensors);
  const corrected = correctedExpectation(expected, tensors, ids.length);
  return {
    name: basename(directory),
    directory,
    document: Int32Array.from(inputs.document_ids ?? inputs.encoder_input_ids!.flat(2)),
    mask: inputs.encoder_attention_mask ? Uint8Array.from(inputs.encoder_attention_mask.flat(2)) : undefined,
    chunkSize: chunkSizeOf(expected),
    ids,
    queryIndex: query === null || query === undefined ? undefined : query - 1,
    maxNewTokens: inputs.max_new_tokens,
    expectations: corrected === undefined ? [own] : [own, corrected],
  };
}

interface Inputs {
  /** The whole document; without it the chunks are. */
  document_ids?: number[];
  encoder_input_ids: number[][][] | null;
  encoder_attention_mask: number[][][] | null;
  input_ids: number[] | number[][];
  query_length: number | number[] | null;
  max_new_tokens: number;
}

interface Expected {
  ctx_len?: number;
  chunk_size?: number;
  n_ctx: number;
  M: number;
  levels: { nodes: { chunk: number; start: number; end: number }[] }[];
  logits_positions: [number, number];
  greedy: { cached: number[]; recomputed: number[] | null };
  variant_corrected?: { chosen: ('left' | 'right')[][]; greedy: number[]; last_logits_checksum: Checksum };
}

function chunkSizeOf({ chunk_size, ctx_len }: Expected): number {
  const size = chunk_size ?? ctx_len;
  if (size === undefined) throw new Error('expected.json has neither chunk_size nor ctx_len');
  return size;
}

function ownExpectation(semantics: Semantics, expected: Expected, tensors: Tensors): Expectation {
  const greedy = (tokens: number[], name: string): Greedy => {
    const logits = tensors.get(name);
    return logits === undefined ? { tokens } : { tokens, logits };
  };
  const { cached, recomputed } = expected.greedy;
  return {
    semantics,
    spans: expected.levels.flatMap((level) => level.nodes.map((node) => ({ chunk: node.chunk, begin: node.start, end: node.end }))),
    positions: tensor(tensors, 'injected_positions').data,
    logits: { first: expected.logits_positions[0], tensor: tensor(tensors, 'logits') },
    cached: greedy(cached, 'greedy.cached.logits'),
    ...(recomputed === null ? {} : { recomputed: greedy(recomputed, 'greedy.recomputed.logits') }),
    kv: storedKv(tensors, expected.M),
  };
}

// What an independent implementation says the corrected variant of a released case does.
function correctedExpectation(expected: Expected, tensors: Tensors, nIds: number): Expectation | undefined {
  const variant = expected.variant_corrected;
  if (variant === undefined) return undefined;
  const last = tensors.get('variant.logits.last');
  const positions = tensors.get('variant.injected_positions')?.data;
  return {
    semantics: 'corrected',
    spans: spansOf(variant.chosen, expected.n_ctx, chunkSizeOf(expected)),
    ...(positions === undefined ? {} : { positions }),
    ...(last === undefined ? {} : { logits: { first: nIds - 1, tensor: last } }),
    checksum: variant.last_logits_checksum,
    cached: { tokens: variant.greedy },
    kv: [],
  };
}

/** The nodes that a walk encodes: per level the rejected half, at the end both halves of what is left (an odd last token is dropped). */
export function spansOf(chosen: readonly (readonly ('left' | 'right')[])[], nChunks: number, chunkSize: number): Span[] {
  const spans: Span[] = [];
  for (let chunk = 0; chunk < nChunks; chunk++) {
    let [begin, end] = [chunk * chunkSize, (chunk + 1) * chunkSize];
    for (const level of chosen) {
      const middle = begin + (end - begin) / 2;
      const isLeft = level[chunk] === 'left';
      spans.push(isLeft ? { chunk, begin: middle, end } : { chunk, begin, end: middle });
      [begin, end] = isLeft ? [begin, middle] : [middle, end];
    }
    const half = Math.floor((end - begin) / 2);
    spans.push({ chunk, begin, end: begin + half }, { chunk, begin: begin + half, end: begin + 2 * half });
  }
  return spans;
}

// kv.{i}.{k_after,v}: by rows [R, g, T, d], or flat [g, slots, d]; where large only .head and .tail [g, c, d], the first columns of the first row
// and the last of the last. Where the keys after the second rotation are not stored, they equal the keys before it.
function storedKv(tensors: Tensors, nLayers: number): KvPiece[] {
  const nSlots = tensor(tensors, 'injected_positions').data.length;
  const pieces: KvPiece[] = [];
  for (let layer = 0; layer < nLayers; layer++) {
    for (const kind of ['keys', 'values'] as const) {
      const names = kind === 'values' ? ['v'] : ['k_after', 'k_before'];
      const stored = (suffix: string): Tensor | undefined => names.map((name) => tensors.get(`kv.${layer}.${name}${suffix}`)).find(Boolean);
      const full = stored('');
      if (full !== undefined) {
        const [rows, heads, slots, dim] = full.shape.length === 3 ? [1, ...sizes(full, 3)] : sizes(full, 4);
        for (let row = 0; row < rows!; row++)
          pieces.push(headMajor(full, layer, kind, row * slots!, heads!, slots!, dim!, row * heads! * slots! * dim!));
        continue;
      }
      for (const suffix of ['.head', '.tail']) {
        const part = stored(suffix);
        if (part === undefined) throw new Error(`expected.safetensors has no ${kind} of layer ${layer}`);
        const [heads, slots, dim] = sizes(part, 3);
        pieces.push(headMajor(part, layer, kind, suffix === '.head' ? 0 : nSlots - slots!, heads!, slots!, dim!, 0));
      }
    }
  }
  return pieces;
}

function headMajor(
  { data }: Tensor,
  layer: number,
  kind: KvPiece['kind'],
  firstSlot: number,
  heads: number,
  slots: number,
  dim: number,
  offset: number,
): KvPiece {
  return { layer, kind, firstSlot, slots, heads, dim, headStride: slots * dim, slotStride: dim, offset, data };
}

function tensor(tensors: Tensors, name: string): Tensor {
  const found = tensors.get(name);
  if (found === undefined) throw new Error(`expected.safetensors has no tensor ${name}`);
  return found;
}

function sizes(tensor: Tensor, n: number): readonly number[] {
  if (tensor.shape.length !== n) throw new Error(`expected.safetensors: a tensor has ${tensor.shape.length} dimensions instead of ${n}`);
  return tensor.shape;
}
