/** run: one golden case through the addon, compared with what it must be. Never throws: a damaged case is a failed one. */
import { basename } from 'node:path';
import { native as loadNative } from '../../lib/binding.js';
import type { Native, NativeModel, NativeTrace } from '../../types/native.js';
import { readCase, requireFiles, type Expectation, type GoldenCase, type Semantics } from './case.js';
import { checksumExcess, isEqual, isSameSpans, kvDifference, maxDifference } from './compare.js';
import { isFocusCase, readFocusCase } from './focus_case.js';
import { runFocus, type FocusReport } from './focus_run.js';

/** Largest absolute difference of a logit, key or value from the reference that counts as agreement. */
export const kTolerance = 2e-4;

/** One comparison; what the case does not store is null. */
export interface SemanticsReport {
  semantics: Semantics;
  logits: number | null;
  keys: number | null;
  values: number | null;
  isNodesEqual: boolean | null;
  isPositionsEqual: boolean | null;
  isGreedyCachedEqual: boolean | null;
  isGreedyRecomputedEqual: boolean | null;
  isChecksumEqual: boolean | null;
  multiplyAdds: number;
  passed: boolean;
}

export interface CaseReport {
  name: string;
  passed: boolean;
  error?: string;
  runs: (SemanticsReport | FocusReport)[];
}

export { loadNative };

export type DeviceName = 'cpu' | 'cuda';

/** Where and with what numbers a case runs. */
export interface Setting {
  device: DeviceName;
  /** Of keys and values; weights have the type that they have in the model's file. */
  kvType: 'f32' | 'f16';
  /** Runs this copy of the case's model. */
  model?: string;
  /** Feeds the reference's tokens whatever the model says, so that steps stay comparable where rounding made another one the likeliest. */
  isForced?: boolean;
}

export async function runCase(native: Native, directory: string, device: DeviceName = 'cpu'): Promise<CaseReport> {
  const setting: Setting = { device, kvType: 'f32' };
  const runs: CaseReport['runs'] = [];
  const name = basename(directory);
  try {
    requireFiles(directory);
    if (isFocusCase(directory)) {
      const golden = readFocusCase(directory);
      for (const run of golden.runs) runs.push(await runFocus(native, golden, run, setting));
    } else {
      const golden = readCase(directory);
      for (const expectation of golden.expectations) runs.push(await runExpectation(native, golden, expectation, setting));
    }
    return { name, passed: runs.every((run) => run.passed), runs };
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    return { name, passed: false, error: code?.startsWith('BANYAN_') ? `${code} ${message}` : message, runs };
  }
}

export async function runExpectation(native: Native, golden: GoldenCase, expectation: Expectation, setting: Setting): Promise<SemanticsReport> {
  const cancel = native.createCancel();
  const { device, kvType, model = golden.directory, isForced = false } = setting;
  const loaded = await native.load({ model, device, kvType, semantics: expectation.semantics }, cancel, null);
  const { cached: ownSteps, recomputed: otherSteps } = expectation;
  try {
    const cached = await traceCase(native, loaded, golden, false, isForced ? ownSteps?.tokens : undefined);
    const recomputed = otherSteps === undefined ? undefined : await traceCase(native, loaded, golden, true, isForced ? otherSteps.tokens : undefined);
    return report(golden, expectation, cached, recomputed, loaded.info.vocabSize);
  } finally {
    await loaded.dispose();
  }
}

async function traceCase(
  native: Native,
  model: NativeModel,
  golden: GoldenCase,
  recompute: boolean,
  tokens: readonly number[] | undefined,
): Promise<NativeTrace> {
  const cancel = native.createCancel();
  const document = model.createDocument({ chunkSize: golden.chunkSize, ...(golden.mask === undefined ? {} : { mask: golden.mask }) });
  await document.append(golden.document, cancel, null);
  await document.complete(false, cancel, null);
  const session = model.createSession({});
  session.setDocuments([document]);
  const { ids, queryIndex, maxNewTokens } = golden;
  const forced = tokens === undefined ? {} : { forced: Int32Array.from(tokens) };
  const trace = await session.trace({ ids, ...(queryIndex === undefined ? {} : { queryIndex }), maxNewTokens, recompute, ...forced }, cancel);
  session.dispose();
  document.dispose();
  return trace;
}

function report(
  golden: GoldenCase,
  expectation: Expectation,
  cached: NativeTrace,
  recomputed: NativeTrace | undefined,
  vocabSize: number,
): SemanticsReport {
  const differences: number[] = [];
  const { logits, checksum, spans, positions } = expectation;
  if (logits !== undefined) {
    const begin = logits.first * vocabSize;
    differences.push(maxDifference(cached.logits.subarray(begin, begin + logits.tensor.data.length), logits.tensor.data));
  }
  if (expectation.cached?.logits) differences.push(maxDifference(cached.greedyLogits, expectation.cached.logits.data));
  if (expectation.recomputed?.logits) differences.push(maxDifference(recomputed!.greedyLogits, expectation.recomputed.logits.data));

  const nSlots = cached.slotPositions.length;
  const pieces = (kind: 'keys' | 'values') => expectation.kv.filter((piece) => piece.kind === kind);
  const kv = (kind: 'keys' | 'values'): number | null =>
    pieces(kind).length === 0 ? null : kvDifference(kind === 'keys' ? cached.keys : cached.values, nSlots, pieces(kind));
  const last = cached.logits.subarray((golden.ids.length - 1) * vocabSize);

  const result = {
    semantics: expectation.semantics,
    logits: differences.length === 0 ? null : Math.max(...differences),
    keys: kv('keys'),
    values: kv('values'),
    isNodesEqual: spans === undefined ? null : isSameSpans(openedSpans(cached), spans),
    isPositionsEqual: positions === undefined ? null : isEqual(cached.slotPositions, positions),
    isGreedyCachedEqual: expectation.cached === undefined ? null : isEqual(cached.greedy, expectation.cached.tokens),
    isGreedyRecomputedEqual: expectation.recomputed === undefined ? null : isEqual(recomputed!.greedy, expectation.recomputed.tokens),
    isChecksumEqual: checksum === undefined ? null : checksumExcess(last, checksum, kTolerance) <= 1,
    multiplyAdds: cached.multiplyAdds,
  };
  return { ...result, passed: isAgreement(result) };
}

function openedSpans({ retrieval }: NativeTrace) {
  return Array.from(retrieval.chunk, (chunk, i) => ({ chunk, begin: retrieval.begin[i]!, end: retrieval.end[i]! }));
}

function isAgreement(result: Omit<SemanticsReport, 'passed'>): boolean {
  const differences = [result.logits, result.keys, result.values];
  const claims = Object.values(result).filter((value) => typeof value === 'boolean');
  return differences.every((difference) => difference === null || difference <= kTolerance) && claims.every(Boolean);
}
