/** focus_case: one FocusLLM case read from its folder: the traces to run and what each must give. Layout: docs/formats.md ("Golden cases"). */
import { basename, join } from 'node:path';
import { Fields } from './fields.js';
import { readTensors, type Tensor, type Tensors } from './safetensors.js';

/** Stored keys (before rotation) or values of one layer: the candidates of a step, or rows of a chunk's ordinary tokens. */
export interface StoredRows {
  source: 'candidates' | 'chunk';
  index: number; // the step or the chunk
  first: number; // first row
  layer: number;
  kind: 'keys' | 'values';
  tensor: Tensor; // [rows, kvHeads, headDim]
}

/** Stored losses of tokens: of one each step, their mean, or both. */
export interface StoredLoss {
  targets: readonly number[];
  nll: readonly Tensor[]; // each [targets]
  mean: readonly number[];
}

/** One trace and what it must give; what a case does not store is absent or empty. */
export interface FocusRun {
  name: 'generate' | 'ppl' | 'continuation' | 'repetition';
  document: Int32Array; // empty: no chunks
  chunkSize: number;
  ids: Int32Array;
  maxNewTokens: number;
  forced?: Int32Array;
  nChunks: number;
  chunkRows?: readonly number[]; // after the last step
  localLength?: number;
  tokens?: readonly number[];
  logits: readonly Tensor[]; // of the first steps, each [steps, vocab]
  localLogits?: Tensor;
  rows: readonly StoredRows[];
  loss?: StoredLoss;
}

export interface FocusCase {
  directory: string;
  queryCap: number;
  rotaryTheta: number;
  runs: readonly FocusRun[];
}

/** SharedLLM cases have no kind. */
export function isFocusCase(directory: string): boolean {
  return Fields.read(join(directory, 'inputs.json')).has('kind');
}

export function readFocusCase(directory: string): FocusCase {
  const config = Fields.read(join(directory, 'config.json'));
  const inputs = Fields.read(join(directory, 'inputs.json'));
  const expected = Fields.read(join(directory, 'expected.json'));
  const tensors = readTensors(join(directory, 'expected.safetensors'));
  const readers: Record<string, typeof readGenerate> = { generate: readGenerate, ppl: readPpl, train_loss: readTrainLoss };
  const kind = inputs.text('kind');
  const reader = readers[kind];
  if (reader === undefined) throw new Error(`${inputs.path}: unknown kind ${kind}`);
  if (config.has('rope_scaling')) throw new Error(`${config.path}: rope_scaling is not known to the golden cases`);
  const known = kKnownTensors[kind as keyof typeof kKnownTensors];
  const unknown = [...tensors.keys()].find((name) => !known.test(name));
  if (unknown !== undefined) throw new Error(`${join(directory, 'expected.safetensors')}: unknown tensor ${unknown}`);
  const runs = reader(inputs, expected, tensors);
  if (runs.length === 0) throw new Error(`${basename(directory)}: expected.json holds nothing to run`);
  return { directory, queryCap: inputs.number('query_cap'), rotaryTheta: config.number('rope_theta'), runs };
}

const kCandidates = /^step([01])\.layer(\d+)\.cand_([kv])$/;
const kChunkRows = /^step(?:0\.layer(\d+)\.chunk(\d+)\.raw|1\.layer(\d+)\.chunk(\d+)\.raw_(appended))_([kv])$/;

// Gradients are the trainer's.
const kKnownTensors = {
  generate: /^(logits|logits_f64|step0\.local_logits|step[01]\.layer\d+\.(cand|chunk\d+\.raw(_appended)?)_[kv])$/,
  ppl: /^(nll|nll_f64|logits_first8)$/,
  train_loss: /^(continuation|repetition)\.grad\./,
};

function readGenerate(inputs: Fields, expected: Fields, tensors: Tensors): FocusRun[] {
  const maxNewTokens = inputs.number('max_new_tokens');
  const steps = expected.has('steps') ? expected.objects('steps') : [];
  const local = tensors.get('step0.local_logits');
  const run: FocusRun = {
    name: 'generate',
    ...splitPrompt(inputs, inputs.integers('prompt')),
    maxNewTokens,
    nChunks: expected.list('chunk_ranges').length,
    ...(steps.length < maxNewTokens ? {} : { chunkRows: steps[maxNewTokens - 1]!.integers('chunk_raw_len_after') }),
    ...(steps.length === 0 ? {} : { localLength: steps[0]!.number('local_len') }),
    ...(expected.has('tokens') ? { tokens: expected.integers('tokens') } : {}),
    logits: present(tensors, 'logits', 'logits_f64'),
    ...(local === undefined ? {} : { localLogits: local }),
    rows: storedRows(tensors, steps[0]?.integers('chunk_raw_len_after') ?? []),
  };
  return [run];
}

function readPpl(inputs: Fields, expected: Fields, tensors: Tensors): FocusRun[] {
  const tokens = inputs.integers('tokens');
  const maxNewTokens = inputs.number('n_reserved');
  const targets = tokens.slice(-maxNewTokens);
  const run: FocusRun = {
    name: 'ppl',
    ...splitPrompt(inputs, tokens.slice(0, -maxNewTokens)),
    maxNewTokens,
    forced: Int32Array.from(targets),
    nChunks: expected.list('chunk_ranges').length,
    ...(expected.has('local_len_first') ? { localLength: expected.number('local_len_first') } : {}),
    logits: present(tensors, 'logits_first8'),
    rows: [],
    loss: { targets, nll: present(tensors, 'nll', 'nll_f64'), mean: presentNumbers(expected, 'loss', 'loss_f64') },
  };
  return [run];
}

function readTrainLoss(inputs: Fields, expected: Fields): FocusRun[] {
  const tokens = Int32Array.from(inputs.integers('tokens'));
  const objectives = (['continuation', 'repetition'] as const).filter((name) => expected.has(name));
  return objectives.map((name) => {
    const sample = expected.object(name);
    const start = sample.number('local_start');
    return {
      name,
      document: tokens.slice(0, sample.number('covered_length')),
      chunkSize: sample.number('chunk_size'),
      ids: tokens.slice(start, start + sample.number('local_size')),
      maxNewTokens: 1,
      nChunks: sample.list('chunk_ranges').length,
      logits: [],
      rows: [],
      loss: { targets: [sample.number('target_token')], nll: [], mean: presentNumbers(sample, 'loss', 'loss_f64') },
    };
  });
}

// A prompt that is shorter than the threshold, or not longer than the window, has no chunks.
function splitPrompt(inputs: Fields, prompt: number[]): Pick<FocusRun, 'document' | 'chunkSize' | 'ids'> {
  const window = inputs.number('local_window');
  const isWhole = prompt.length < inputs.number('chunking_threshold') || prompt.length <= window;
  const covered = isWhole ? 0 : prompt.length - window;
  return {
    document: Int32Array.from(prompt.slice(0, covered)),
    chunkSize: inputs.number('memory_stride'),
    ids: Int32Array.from(prompt.slice(covered)),
  };
}

function storedRows(tensors: Tensors, rowsAfterPrompt: readonly number[]): StoredRows[] {
  return [...tensors].flatMap(([name, tensor]): StoredRows[] => {
    const candidates = kCandidates.exec(name);
    if (candidates !== null) {
      const [, step, layer, kind] = candidates;
      return [{ source: 'candidates', index: Number(step), first: 0, layer: Number(layer), kind: kind === 'k' ? 'keys' : 'values', tensor }];
    }
    const rows = kChunkRows.exec(name);
    if (rows === null) return [];
    const [, layer0, chunk0, layer1, chunk1, appended, kind] = rows;
    const index = Number(chunk0 ?? chunk1);
    const first = appended === undefined ? 0 : rowsAfterPrompt[index];
    if (first === undefined) throw new Error(`expected.json does not say where ${name} lies`);
    return [{ source: 'chunk', index, first, layer: Number(layer0 ?? layer1), kind: kind === 'k' ? 'keys' : 'values', tensor }];
  });
}

function present(tensors: Tensors, ...names: string[]): Tensor[] {
  return names.flatMap((name) => tensors.get(name) ?? []);
}

function presentNumbers(fields: Fields, ...names: string[]): number[] {
  return names.filter((name) => fields.has(name)).map((name) => fields.number(name));
}
