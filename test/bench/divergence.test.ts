/** divergence: KL of distributions that are known on paper. */
import { expect, test } from 'vitest';

import { divergence } from '../../bench/accuracy/divergence.js';

const rows = (...values: number[][]): Float32Array => Float32Array.from(values.flat());
const ln = Math.log;

test('KL of two coins', () => {
  const found = divergence(rows([ln(0.5), ln(0.5)]), rows([ln(0.25), ln(0.75)]), 2);
  expect(found.mean).toBeCloseTo(0.5 * ln(0.5 / 0.25) + 0.5 * ln(0.5 / 0.75), 6);
});
test('it is that of the reference, not the other way round', () => {
  const [p, q] = [rows([ln(0.9), ln(0.1)]), rows([ln(0.5), ln(0.5)])];
  expect(divergence(p, q, 2).mean).toBeCloseTo(0.9 * ln(1.8) + 0.1 * ln(0.2), 6);
  expect(divergence(q, p, 2).mean).toBeCloseTo(0.5 * ln(0.5 / 0.9) + 0.5 * ln(5), 6);
});
test('a constant added to all logits changes nothing', () => {
  const { max, same } = divergence(rows([1, 2, 3], [0, 0, 1]), rows([101, 102, 103], [-50, -50, -49]), 3);
  expect(Math.abs(max)).toBeLessThan(1e-12); // sums in float64
  expect(same).toBe(1);
});
test('mean, largest and agreement over positions', () => {
  const p = rows([ln(0.5), ln(0.5)], [ln(0.9), ln(0.1)]);
  const q = rows([ln(0.5), ln(0.5)], [ln(0.1), ln(0.9)]);
  const far = 0.8 * ln(9);
  const { mean, max, same, each } = divergence(p, q, 2);
  expect(max).toBeCloseTo(far, 6);
  expect(mean).toBeCloseTo(far / 2, 6);
  expect(same).toBe(0.5);
  expect(each[0]).toBeCloseTo(0, 6);
});
test('logits that are missing or of another size are refused', () => {
  expect(() => divergence(rows([0, Number.NaN]), rows([0, 0]), 2)).toThrow('not finite');
  expect(() => divergence(rows([0, 0]), rows([0, Number.NaN]), 2)).toThrow('not finite');
  expect(() => divergence(rows([0, 0]), rows([0]), 2)).toThrow('rows of 2');
  expect(() => divergence(rows([]), rows([]), 2)).toThrow('rows of 2');
});
