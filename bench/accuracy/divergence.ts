/** divergence: how far the next-token distributions of some logits are from those of others. */

export interface Divergence {
  /** KL(reference || other) of a position, nats. */
  mean: number;
  max: number;
  /** Share of positions whose likeliest token is the same. */
  same: number;
}

export interface Divergences extends Divergence {
  /** KL of each position. */
  each: Float64Array;
}

/** Rows of logits [positions, vocabulary]; sums in float64. Throws if they are not of equal size, or not finite. */
export function divergence(reference: Float32Array, other: Float32Array, vocabulary: number): Divergences {
  if (reference.length !== other.length || reference.length === 0 || reference.length % vocabulary !== 0)
    throw new Error(`${reference.length} logits and ${other.length} are no rows of ${vocabulary}`);
  const n = reference.length / vocabulary;
  let same = 0;
  const each = new Float64Array(n);
  for (let row = 0; row < n; row++) {
    const [p, q] = [reference, other].map((all) => all.subarray(row * vocabulary, (row + 1) * vocabulary)) as [Float32Array, Float32Array];
    const [a, b] = [likeliest(p), likeliest(q)];
    const [total, otherTotal] = [logSum(p, p[a]!), logSum(q, q[b]!)];
    let kl = 0;
    for (let i = 0; i < vocabulary; i++) {
      const log = p[i]! - total;
      kl += Math.exp(log) * (log - (q[i]! - otherTotal));
    }
    if (!Number.isFinite(kl)) throw new Error(`position ${row}: the logits are not finite`);
    each[row] = kl;
    same += a === b ? 1 : 0;
  }
  return { mean: each.reduce((sum, kl) => sum + kl, 0) / n, max: Math.max(...each), same: same / n, each };
}

function likeliest(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i;
  return best;
}

function logSum(row: Float32Array, highest: number): number {
  let sum = 0;
  for (const x of row) sum += Math.exp(x - highest);
  return highest + Math.log(sum);
}
