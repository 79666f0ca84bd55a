/** cells: all samples of one series (a method, a program) at one length, and what stands for them where none was taken. */
import { evaluate, evaluateQuadratic, fitPowerLaw, fitQuadratic, spread, upperHalf, type Point, type PowerLaw, type Spread } from './statistics.js';

export interface Series {
  name: string;
  label: string;
  /** The form of the fit that fills cells without samples; by default a power law over the upper half of the lengths. */
  growth?: 'power' | 'quadratic';
}

export interface Cell<S, T extends Series = Series> {
  method: T;
  length: number;
  samples: S[];
  /** Of each process, start included. */
  wallSeconds: number[];
}

export interface Quantity<S> {
  key: string;
  title: string;
  unit: string;
  /** Less of it is better. */
  isCost: boolean;
  /** Cells without samples stay empty; otherwise a fit fills them. */
  hasNoFit?: boolean;
  /** undefined: this sample does not tell. */
  of(sample: S): number | undefined;
}

export interface Value extends Spread {
  isFitted: boolean;
}

/** The cells of one benchmark, by series and length. */
export class Cells<S, T extends Series = Series> {
  readonly all: Cell<S, T>[] = [];

  add(method: T, length: number, sample: S | undefined, wallSeconds: number): void {
    let cell = this.find(method, length);
    if (cell === undefined) this.all.push((cell = { method, length, samples: [], wallSeconds: [] }));
    if (sample === undefined) return;
    cell.samples.push(sample);
    cell.wallSeconds.push(wallSeconds);
  }

  /** A cell of an earlier run, with all its samples. */
  restore({ method, length, samples, wallSeconds }: Cell<S, T>): void {
    if (samples.length === 0) this.add(method, length, undefined, 0);
    samples.forEach((sample, i) => this.add(method, length, sample, wallSeconds[i]!));
  }

  find(method: T, length: number): Cell<S, T> | undefined {
    return this.all.find((cell) => cell.method.name === method.name && cell.length === length);
  }

  get methods(): T[] {
    return [...new Map(this.all.map(({ method }) => [method.name, method])).values()];
  }

  get lengths(): number[] {
    return [...new Set(this.all.map(({ length }) => length))].sort((a, b) => a - b);
  }

  values(method: T, length: number, quantity: Quantity<S>): number[] {
    return (this.find(method, length)?.samples ?? []).map(quantity.of).filter((value) => value !== undefined);
  }

  /** Medians of a quantity where it was measured. */
  points(method: T, quantity: Quantity<S>): Point[] {
    const lengths = this.lengths.filter((length) => this.values(method, length, quantity).length > 0);
    return lengths.map((length) => [length, spread(this.values(method, length, quantity)).median] as const);
  }

  /** Seconds of one process at this length, from the two largest lengths below it that were measured. */
  predictWall(method: T, length: number): number | undefined {
    const cells = this.all.filter((cell) => cell.method.name === method.name && cell.samples.length > 0 && cell.length < length);
    const below = cells.map((cell) => [cell.length, spread(cell.wallSeconds).median] as const).sort(([a], [b]) => a - b);
    const law = fitPowerLaw(below.slice(-2));
    return law && evaluate(law, length);
  }

  /** Cost against length, over the upper half of the lengths. */
  law(method: T, quantity: Quantity<S>): PowerLaw | undefined {
    return fitPowerLaw(upperHalf(this.points(method, quantity)));
  }

  /** Measured, or of the fit where the cell was skipped; undefined where the quantity cannot be told. */
  value(method: T, length: number, quantity: Quantity<S>): Value | undefined {
    const cell = this.find(method, length);
    if (cell === undefined) return undefined;
    const values = this.values(method, length, quantity);
    if (values.length > 0) return { ...spread(values), isFitted: false };
    if (cell.samples.length > 0 || quantity.hasNoFit) return undefined;
    const guess = this.#guess(method, length, quantity);
    return guess === undefined ? undefined : { median: guess, min: guess, max: guess, isFitted: true };
  }

  #guess(method: T, length: number, quantity: Quantity<S>): number | undefined {
    if (method.growth === 'quadratic') {
      const fit = fitQuadratic(this.points(method, quantity));
      return fit && evaluateQuadratic(fit, length);
    }
    const law = this.law(method, quantity);
    return law && evaluate(law, length);
  }
}
