/** statistics: fits of measured costs. */
import { describe, expect, test } from 'vitest';

import { evaluateQuadratic, fitPowerLaw, fitQuadratic } from '../../bench/statistics.js';

const at = (xs: readonly number[], y: (x: number) => number): [number, number][] => xs.map((x) => [x, y(x)]);

describe('fitQuadratic', () => {
  test('finds both terms of exact values', () => {
    const fit = fitQuadratic(at([2048, 4096, 8192], (x) => 0.009 * x + 2.5e-7 * x ** 2))!;
    expect(fit.linear).toBeCloseTo(0.009, 10);
    expect(fit.square).toBeCloseTo(2.5e-7, 12);
    expect(evaluateQuadratic(fit, 131072)).toBeCloseTo(0.009 * 131072 + 2.5e-7 * 131072 ** 2, 3);
  });
  test('beyond its points it is far above a power law of the same points', () => {
    const points = at([2048, 4096, 8192], (x) => 0.009 * x + 2.5e-7 * x ** 2);
    const law = fitPowerLaw(points)!;
    expect(evaluateQuadratic(fitQuadratic(points)!, 131072)).toBeGreaterThan(1.5 * law.factor * 131072 ** law.exponent);
  });
  test('errors count by their share: a long run does not drown the short ones', () => {
    const fit = fitQuadratic([
      [1000, 10],
      [2000, 20],
      [100_000, 1100], // 10 % above the line
    ])!;
    expect(evaluateQuadratic(fit, 1000)).toBeGreaterThan(9.5);
    expect(evaluateQuadratic(fit, 1000)).toBeLessThan(10.5);
  });
  test('no term is negative', () => {
    const bent = fitQuadratic(at([1, 2, 4], (x) => 10 * x - x ** 2))!;
    expect(bent.square).toBe(0);
    expect(bent.linear).toBeGreaterThan(0);
    const steep = fitQuadratic(at([1, 2, 4], (x) => x ** 3))!;
    expect(steep.linear).toBe(0);
    expect(steep.square).toBeGreaterThan(0);
  });
  test('one length is no fit', () => {
    expect(fitQuadratic([])).toBeUndefined();
    expect(
      fitQuadratic([
        [4096, 40],
        [4096, 42],
      ]),
    ).toBeUndefined();
  });
});
