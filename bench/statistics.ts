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

/** y = linear x + square x^2: reading n tokens costs so much for their weights, and so much for attention to all before them. */
export interface Quadratic {
  linear: number;
  square: number;
}

/**
 * Least squares of relative errors, so that short runs count as much as long ones; neither term below 0. Undefined for fewer than two values of x.
 * Points that are not positive are left out.
 */
export function fitQuadratic(points: readonly Point[]): Quadratic | undefined {
  const positive = points.filter(([x, y]) => x > 0 && y > 0);
  if (new Set(positive.map(([x]) => x)).size < 2) return undefined;
  // 1 = linear u + square v with u = x / y, v = x^2 / y: the normal equations of two unknowns
  let [uu, uv, vv, u1, v1] = [0, 0, 0, 0, 0];
  for (const [x, y] of positive) {
    const [u, v] = [x / y, x ** 2 / y];
    uu += u * u;
    uv += u * v;
    vv += v * v;
    u1 += u;
    v1 += v;
  }
  const determinant = uu * vv - uv * uv;
  const fit = { linear: (u1 * vv - v1 * uv) / determinant, square: (v1 * uu - u1 * uv) / determinant };
  if (fit.square < 0) return { linear: u1 / uu, square: 0 };
  if (fit.linear < 0) return { linear: 0, square: v1 / vv };
  return fit;
}

export function evaluateQuadratic({ linear, square }: Quadratic, x: number): number {
  return linear * x + square * x ** 2;
}
