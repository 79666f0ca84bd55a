/** compare: largest absolute differences. A NaN, a missing or an extra number is an infinite difference. */
import type { Checksum, KvPiece, Span } from './case.js';

export function maxDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Infinity : difference;
  }
  return largest;
}

export function isEqual(actual: ArrayLike<number>, expected: ArrayLike<number>): boolean {
  return maxDifference(actual, expected) === 0;
}

/** The same nodes, in any order. */
export function isSameSpans(actual: readonly Span[], expected: readonly Span[]): boolean {
  const keys = (spans: readonly Span[]): string[] => spans.map((span) => `${span.chunk}:${span.begin}-${span.end}`).sort();
  return keys(actual).join() === keys(expected).join();
}

/** `actual` is [layers, slots, heads, dim], as a trace returns it. */
export function kvDifference(actual: Float32Array, nSlots: number, pieces: readonly KvPiece[]): number {
  let largest = 0;
  for (const piece of pieces) {
    for (let slot = 0; slot < piece.slots; slot++) {
      for (let head = 0; head < piece.heads; head++) {
        const at = ((piece.layer * nSlots + piece.firstSlot + slot) * piece.heads + head) * piece.dim;
        const from = piece.offset + head * piece.headStride + slot * piece.slotStride;
        largest = Math.max(largest, maxDifference(actual.subarray(at, at + piece.dim), piece.data.subarray(from, from + piece.dim)));
      }
    }
  }
  return largest;
}

/** Largest excess of a sum, in units of what an error of `tolerance` in every number can do to it; at most 1 agrees. */
export function checksumExcess(actual: ArrayLike<number>, expected: Checksum, tolerance: number): number {
  if (actual.length !== expected.n) return Infinity;
  const sums = { sum: 0, abs_sum: 0, sq_sum: 0, weighted_sum: 0 };
  let weights = 0;
  for (let i = 0; i < actual.length; i++) {
    const value = actual[i]!;
    const weight = 1 + (i % 97);
    sums.sum += value;
    sums.abs_sum += Math.abs(value);
    sums.sq_sum += value * value;
    sums.weighted_sum += weight * value;
    weights += weight;
  }
  const allowed = {
    sum: expected.n * tolerance,
    abs_sum: expected.n * tolerance,
    sq_sum: 2 * expected.abs_sum * tolerance,
    weighted_sum: weights * tolerance,
  };
  const names = ['sum', 'abs_sum', 'sq_sum', 'weighted_sum'] as const;
  return Math.max(...names.map((name) => maxDifference([sums[name]], [expected[name]]) / allowed[name]));
}
