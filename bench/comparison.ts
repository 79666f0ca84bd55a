/** comparison: what became better or worse between two runs of a benchmark. */
import type { Measured, ResultFile } from './result_file.js';
import { spread } from './statistics.js';

export type Verdict = 'worse' | 'better' | 'same' | 'unsure' | 'gone' | 'new';

export interface Change {
  name: string;
  unit: string;
  verdict: Verdict;
  /** Medians. */
  before?: number;
  after?: number;
}

/**
 * Better or worse only if the spreads do not overlap; unsure if they do not, but a side has one value and so no spread. Throws for runs of different
 * benchmarks.
 */
export function compare(before: ResultFile, after: ResultFile): Change[] {
  if (before.bench !== after.bench) throw new Error(`results of ${before.bench} cannot be compared with results of ${after.bench}`);
  const old = new Map(before.measured.map((measured) => [measured.name, measured]));
  const changes = after.measured.map((now) => change(old.get(now.name), now));
  const known = new Set(after.measured.map(({ name }) => name));
  for (const { name, unit, values } of before.measured) {
    if (!known.has(name)) changes.push({ name, unit, verdict: 'gone', before: spread(values).median });
  }
  return changes;
}

function change(then: Measured | undefined, now: Measured): Change {
  const { name, unit } = now;
  const after = spread(now.values);
  if (then === undefined) return { name, unit, verdict: 'new', after: after.median };
  if (then.unit !== unit) throw new Error(`${name} was measured in ${then.unit}, and is in ${unit} now`);
  const before = spread(then.values);
  const medians = { name, unit, before: before.median, after: after.median };
  if (after.min <= before.max && before.min <= after.max) return { ...medians, verdict: 'same' };
  if (then.values.length < 2 || now.values.length < 2) return { ...medians, verdict: 'unsure' };
  return { ...medians, verdict: after.min > before.max === now.isCost ? 'worse' : 'better' };
}
