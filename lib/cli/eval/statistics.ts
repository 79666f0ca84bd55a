/** statistics: means and how far they can be trusted. */

export interface Mean {
  mean: number;
  /** Standard error of the mean; NaN for a single value. */
  error: number;
  n: number;
}

export function meanOf(values: readonly number[]): Mean {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, error: Math.sqrt(squares / (n - 1) / n), n };
}
