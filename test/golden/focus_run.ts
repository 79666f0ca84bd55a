/** focus_run: one trace of a FocusLLM case through the addon, compared with what it must give. */
import type { Native, NativeModel, NativeModelInfo, NativeTrace } from '../../types/native.js';
import { isEqual, maxDifference } from './compare.js';
import type { FocusCase, FocusRun, StoredLoss, StoredRows } from './focus_case.js';
import type { Setting } from './run.js';

/** Largest absolute difference of each quantity from the reference that counts as agreement. */
export const kFocusTolerances = {
  logits: 2e-4, // of every step
  local: 2e-4, // logits of every local token
  candidates: 1e-4, // keys and values
  chunks: 1e-4, // keys and values of the chunks' ordinary tokens
  nll: 2e-4,
  loss: 1e-4, // mean nll
};

type Quantity = keyof typeof kFocusTolerances;

/** One comparison; what the case does not store is null. */
export interface FocusReport extends Record<Quantity, number | null> {
  run: FocusRun['name'];
  isTokensEqual: boolean | null;
  /** How many chunks, rows of each, local tokens. */
  isLengthsEqual: boolean;
  passed: boolean;
}

export async function runFocus(native: Native, golden: FocusCase, run: FocusRun, setting: Setting): Promise<FocusReport> {
  const { device, kvType, model = golden.directory, isForced = false } = setting;
  const loaded = await native.load({ model, device, kvType, poolType: kvType }, native.createCancel(), null);
  const tokens = run.forced ?? (isForced && run.tokens !== undefined ? Int32Array.from(run.tokens) : undefined);
  try {
    return report(golden, run, await traceRun(native, loaded, golden, run, tokens), loaded.info);
  } finally {
    await loaded.dispose();
  }
}

async function traceRun(native: Native, model: NativeModel, golden: FocusCase, run: FocusRun, forced: Int32Array | undefined): Promise<NativeTrace> {
  const cancel = native.createCancel();
  const documents = run.document.length === 0 ? [] : [model.createDocument({ chunkSize: run.chunkSize })];
  for (const document of documents) {
    await document.append(run.document, cancel, null);
    await document.complete(false, cancel, null);
  }
  const session = model.createSession({ method: 'focusllm', queryCap: golden.queryCap });
  session.setDocuments(documents);
  const { ids, maxNewTokens } = run;
  const trace = await session.trace({ ids, maxNewTokens, recompute: false, ...(forced === undefined ? {} : { forced }) }, cancel);
  session.dispose();
  for (const document of documents) document.dispose();
  if (!('chunkRows' in trace)) throw new Error('the trace says nothing of chunks and candidates: was the model taken for a FocusLLM one?');
  return trace;
}

function report(golden: FocusCase, run: FocusRun, trace: NativeTrace, info: NativeModelInfo): FocusReport {
  const { vocabSize } = info;
  const nll = run.loss === undefined ? [] : tokenLosses(trace.greedyLogits, vocabSize, run.loss.targets);
  const rows = (source: StoredRows['source']) => run.rows.filter((stored) => stored.source === source);
  const differences: Record<Quantity, number | null> = {
    logits: largest(run.logits.map(({ data }) => maxDifference(trace.greedyLogits.subarray(0, data.length), data))),
    local: run.localLogits === undefined ? null : maxDifference(trace.logits, run.localLogits.data),
    candidates: largest(rows('candidates').map((stored) => maxDifference(candidateRows(trace, info, stored), stored.tensor.data))),
    chunks: largest(rows('chunk').map((stored) => maxDifference(chunkRows(trace, info, stored, golden.rotaryTheta), stored.tensor.data))),
    nll: largest((run.loss?.nll ?? []).map(({ data }) => maxDifference(nll, data))),
    loss: meanDifference(nll, run.loss),
  };
  const { tokens, chunkRows: expectedRows, localLength } = run;
  const isTokensEqual = tokens === undefined ? null : isEqual(trace.greedy.subarray(0, tokens.length), tokens);
  const isLengthsEqual =
    trace.chunkRows.length === run.nChunks &&
    trace.greedy.length === run.maxNewTokens &&
    (expectedRows === undefined || isEqual(trace.chunkRows, expectedRows)) &&
    (localLength === undefined || trace.logits.length === localLength * vocabSize);

  const quantities = Object.keys(differences) as Quantity[];
  const compared = quantities.filter((quantity) => differences[quantity] !== null);
  if (compared.length === 0 && isTokensEqual === null) throw new Error(`nothing is stored to compare ${run.name} with`);
  const isNear = compared.every((quantity) => differences[quantity]! <= kFocusTolerances[quantity]);
  return { run: run.name, ...differences, isTokensEqual, isLengthsEqual, passed: isNear && isTokensEqual !== false && isLengthsEqual };
}

function largest(differences: readonly number[]): number | null {
  return differences.length === 0 ? null : Math.max(...differences);
}

// -log p(target) of each step, row by row.
function tokenLosses(logits: Float32Array, vocabSize: number, targets: readonly number[]): number[] {
  return targets.map((target, step) => {
    const row = logits.subarray(step * vocabSize, (step + 1) * vocabSize);
    const top = row.reduce((most, logit) => Math.max(most, logit), -Infinity);
    return top + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - top), 0)) - (row[target] ?? NaN);
  });
}

function meanDifference(nll: readonly number[], loss: StoredLoss | undefined): number | null {
  const mean = nll.reduce((sum, value) => sum + value, 0) / nll.length;
  return largest((loss?.mean ?? []).map((expected) => maxDifference([mean], [expected])));
}

// A candidate trace is [steps, layers, chunks, kvHeads, headDim].
function candidateRows(trace: NativeTrace, info: NativeModelInfo, { kind, index, layer }: StoredRows): Float32Array {
  const nValues = trace.chunkRows.length * info.kvHeads * info.headDim;
  const begin = (index * info.layers + layer) * nValues;
  return (kind === 'keys' ? trace.candidateKeys : trace.candidateValues).subarray(begin, begin + nValues);
}

// The chunks' trace is [layers, rows of all chunks, kvHeads, headDim]; stored keys are not rotated, its are.
function chunkRows(trace: NativeTrace, info: NativeModelInfo, { kind, index, layer, first, tensor }: StoredRows, theta: number): Float32Array {
  const total = (rows: Int32Array): number => rows.reduce((sum, n) => sum + n, 0);
  const width = info.kvHeads * info.headDim;
  const begin = (layer * total(trace.chunkRows) + total(trace.chunkRows.subarray(0, index)) + first) * width;
  const rows = (kind === 'keys' ? trace.chunkKeys : trace.chunkValues).slice(begin, begin + tensor.shape[0]! * width);
  if (kind === 'keys') undoRotation(rows, width, info.headDim, first, theta);
  return rows;
}

// Row r was turned by the angles of position first + r, pairs (i, i + headDim / 2).
function undoRotation(rows: Float32Array, width: number, headDim: number, first: number, theta: number): void {
  const half = headDim / 2;
  for (let head = 0; head < rows.length; head += headDim) {
    const position = first + Math.floor(head / width);
    for (let i = 0; i < half; i++) {
      const angle = position * theta ** (-i / half);
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      const [a, b] = [rows[head + i]!, rows[head + half + i]!];
      rows[head + i] = a * cos + b * sin;
      rows[head + half + i] = b * cos - a * sin;
    }
  }
}
