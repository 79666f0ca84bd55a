/** statistics: medians, spreads, and power laws of measured values. */

export interface Spread {
  median: number;
  min: number;
  max: number;
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const median = (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

export type Point = readonly [x: number, y: number];

/** y = factor x^exponent. */
export interface PowerLaw {
  factor: number;
  exponent: number;
}

/** Least squares in logarithms; undefined for fewer than two values of x. Points that are not positive are left out. */
export function fitPowerLaw(points: readonly Point[]): PowerLaw | undefined {
  const logs = points.filter(([x, y]) => x > 0 && y > 0).map(([x, y]) => [Math.log(x), Math.log(y)] as const);
  const mean = (axis: 0 | 1): number => logs.reduce((sum, point) => sum + point[axis], 0) / logs.length;
  const [x0, y0] = [mean(0), mean(1)];
  const width = logs.reduce((sum, [x]) => sum + (x - x0) ** 2, 0);
  if (!(width > 0)) return undefined;
  const exponent = logs.reduce((sum, [x, y]) => sum + (x - x0) * (y - y0), 0) / width;
  return { factor: Math.exp(y0 - exponent * x0), exponent };
}

export function evaluate({ factor, exponent }: PowerLaw, x: number): number {
  return factor * x ** exponent;
}

/** The points of the larger half of all x, at least two. */
export function upperHalf(points: readonly Point[]): Point[] {
  const sorted = [...points].sort(([a], [b]) => a - b);
  return sorted.slice(-Math.max(2, Math.ceil(sorted.length / 2)));
}
