/**
 * focus_reference: FocusLLM inference in float64 from its stateless definition (arXiv 2408.11745): at every step each chunk, the query and what was
 * generated run through the model anew. Tiny models only; on request with one mistake, to see whether the golden cases notice it.
 */
import { join } from 'node:path';
import { Fields } from './fields.js';
import { readTensors, type Tensor, type Tensors } from './safetensors.js';

export type Mistake = 'no candidates' | 'candidates at position 0' | 'reversed candidates' | 'no BOS before the query' | 'frozen candidates';

/** One layer's keys before rotation, and values: a row [kvHeads * headDim] a token. */
export interface LayerRows {
  keys: Float64Array[];
  values: Float64Array[];
}

export interface FocusRequest {
  document: readonly number[];
  chunkSize: number;
  queryCap: number;
  ids: readonly number[];
  maxNewTokens: number;
  forced?: readonly number[] | undefined;
}

/** One step: what every chunk's pass gave for its tokens, layer by layer, and the logits of all local tokens. */
export interface FocusStep {
  chunks: LayerRows[][];
  logits: Float64Array[];
}

export class FocusReference {
  readonly layers: number;
  readonly dim: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly #config: Fields;
  readonly #weights: Tensors;

  constructor(
    directory: string,
    readonly mistake?: Mistake,
  ) {
    const config = (this.#config = Fields.read(join(directory, 'config.json')));
    this.layers = config.number('num_hidden_layers');
    this.dim = config.number('hidden_size');
    this.heads = config.number('num_attention_heads');
    this.kvHeads = config.number('num_key_value_heads');
    this.headDim = this.dim / this.heads;
    this.vocabSize = config.number('vocab_size');
    this.#weights = readTensors(join(directory, 'model.safetensors'));
  }

  run({ document, chunkSize, queryCap, ids, maxNewTokens, forced }: FocusRequest): FocusStep[] {
    const nChunks = Math.ceil(document.length / chunkSize);
    const chunks = Array.from({ length: nChunks }, (_, i) => document.slice(i * chunkSize, (i + 1) * chunkSize));
    const suffix = ids.slice(-Math.min(queryCap, chunkSize, ids.length));
    const query = this.mistake === 'no BOS before the query' ? suffix : this.#withBos(suffix);
    const local = this.#withBos(ids);
    const steps: FocusStep[] = [];
    const generated: number[] = [];
    for (let step = 0; step < maxNewTokens; step++) {
      const passes = chunks.map((chunk) => this.#pass([...chunk, ...query, ...generated], [], true).rows);
      const memory = this.#memory(this.mistake === 'frozen candidates' && step > 0 ? steps[0]!.chunks : passes);
      const { hidden } = this.#pass([...local, ...generated], memory, false);
      const logits = (step === 0 ? hidden : hidden.slice(-1)).map((row) => this.#logits(row));
      steps.push({ chunks: passes, logits });
      generated.push(forced?.[step] ?? argMax(logits.at(-1)!));
    }
    return steps;
  }

  /** The key with each head turned by the angles of a position: pairs (i, i + headDim / 2). */
  rotate(row: Float64Array, position: number): Float64Array {
    const turned = row.slice();
    const half = this.headDim / 2;
    const theta = this.#config.number('rope_theta');
    for (let i = 0; i < half; i++) {
      const angle = position * theta ** (-i / half);
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      for (let at = i; at < row.length; at += this.headDim) {
        turned[at] = row[at]! * cos - row[at + half]! * sin;
        turned[at + half] = row[at + half]! * cos + row[at]! * sin;
      }
    }
    return turned;
  }

  #withBos(tokens: readonly number[]): readonly number[] {
    const bos = this.#config.number('bos_token_id');
    return tokens[0] === bos ? tokens : [bos, ...tokens];
  }

  // The candidates of all chunks in order, layer by layer.
  #memory(passes: readonly LayerRows[][]): LayerRows[] {
    if (this.mistake === 'no candidates' || passes.length === 0) return [];
    const ordered = this.mistake === 'reversed candidates' ? passes.toReversed() : passes;
    return ordered[0]!.map((_, layer) => ({
      keys: ordered.map((pass) => pass[layer]!.keys.at(-1)!),
      values: ordered.map((pass) => pass[layer]!.values.at(-1)!),
    }));
  }

  // The one primitive: positions count from the past's first row; the last token may be a candidate.
  #pass(tokens: readonly number[], past: readonly LayerRows[], isLastCandidate: boolean): { hidden: Float64Array[]; rows: LayerRows[] } {
    const nPast = past[0]?.keys.length ?? 0;
    const pastPosition = (row: number): number => (this.mistake === 'candidates at position 0' ? 0 : row);
    const candidateParts = this.#config.list('beacon_param'); // some of q, k, v, o
    const embedding = this.#tensor('model.embed_tokens.weight');
    let hidden: Float64Array[] = tokens.map((token) => Float64Array.from(embedding.data.subarray(token * this.dim, (token + 1) * this.dim)));
    const rows: LayerRows[] = [];
    for (let layer = 0; layer < this.layers; layer++) {
      const prefix = `model.layers.${layer}`;
      const weight = (part: string, token: number): Tensor => {
        const isOwn = isLastCandidate && token === tokens.length - 1 && candidateParts.includes(part);
        return this.#tensor(`${prefix}.self_attn.${isOwn ? 'beacon_' : ''}${part}_proj.weight`);
      };
      const normed = hidden.map((row) => this.#norm(row, `${prefix}.input_layernorm.weight`));
      const keys = normed.map((row, token) => multiply(weight('k', token), row));
      const values = normed.map((row, token) => multiply(weight('v', token), row));
      const pastKeys = (past[layer]?.keys ?? []).map((key, row) => this.rotate(key, pastPosition(row)));
      const seenKeys = [...pastKeys, ...keys.map((key, token) => this.rotate(key, nPast + token))];
      const seenValues = [...(past[layer]?.values ?? []), ...values];
      hidden = hidden.map((row, token) => {
        const query = this.rotate(multiply(weight('q', token), normed[token]!), nPast + token);
        const mixed = this.#attend(query, seenKeys, seenValues, nPast + token + 1);
        const middle = add(row, multiply(weight('o', token), mixed));
        return add(middle, this.#mlp(this.#norm(middle, `${prefix}.post_attention_layernorm.weight`), `${prefix}.mlp`));
      });
      rows.push({ keys, values });
    }
    return { hidden, rows };
  }

  #attend(query: Float64Array, keys: readonly Float64Array[], values: readonly Float64Array[], nSeen: number): Float64Array {
    const mixed = new Float64Array(query.length);
    const scores = new Float64Array(nSeen);
    for (let head = 0; head < this.heads; head++) {
      const from = head * this.headDim;
      const shared = Math.floor((head * this.kvHeads) / this.heads) * this.headDim;
      for (let row = 0; row < nSeen; row++) {
        let score = 0;
        for (let i = 0; i < this.headDim; i++) score += query[from + i]! * keys[row]![shared + i]!;
        scores[row] = score / Math.sqrt(this.headDim);
      }
      const top = scores.reduce((most, score) => Math.max(most, score), -Infinity);
      const weights = scores.map((score) => Math.exp(score - top));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      for (let row = 0; row < nSeen; row++) {
        for (let i = 0; i < this.headDim; i++) mixed[from + i]! += (weights[row]! / total) * values[row]![shared + i]!;
      }
    }
    return mixed;
  }

  #mlp(row: Float64Array, prefix: string): Float64Array {
    const gate = multiply(this.#tensor(`${prefix}.gate_proj.weight`), row);
    const up = multiply(this.#tensor(`${prefix}.up_proj.weight`), row);
    const inner = up.map((value, i) => (value * gate[i]!) / (1 + Math.exp(-gate[i]!)));
    return multiply(this.#tensor(`${prefix}.down_proj.weight`), inner);
  }

  #norm(row: Float64Array, name: string): Float64Array {
    const { data } = this.#tensor(name);
    const scale = 1 / Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / row.length + this.#config.number('rms_norm_eps'));
    return row.map((value, i) => value * scale * data[i]!);
  }

  #logits(row: Float64Array): Float64Array {
    const head = this.#weights.has('lm_head.weight') ? 'lm_head' : 'model.embed_tokens';
    return multiply(this.#tensor(`${head}.weight`), this.#norm(row, 'model.norm.weight'));
  }

  #tensor(name: string): Tensor {
    const tensor = this.#weights.get(name);
    if (tensor === undefined) throw new Error(`model.safetensors has no tensor ${name}`);
    return tensor;
  }
}

export function argMax(row: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i;
  return best;
}

const add = (a: Float64Array, b: Float64Array): Float64Array => a.map((value, i) => value + b[i]!);

// weight [outputs, inputs] times row
function multiply({ data, shape }: Tensor, row: Float64Array): Float64Array {
  const product = new Float64Array(shape[0]!);
  for (let out = 0, at = 0; out < product.length; out++) {
    let sum = 0;
    for (let i = 0; i < row.length; i++, at++) sum += data[at]! * row[i]!;
    product[out] = sum;
  }
  return product;
}
