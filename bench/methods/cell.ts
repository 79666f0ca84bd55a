/** cell: all samples of one method at one length, and what stands for them where none was taken. */
import { evaluate, fitPowerLaw, spread, upperHalf, type Point, type PowerLaw, type Spread } from '../statistics.js';
import type { Method } from './method.js';
import type { Sample } from './sample.js';

export interface Cell {
  method: Method;
  length: number;
  samples: Sample[];
  /** Of each process, start included. */
  wallSeconds: number[];
}

export interface Quantity {
  key: string;
  title: string;
  unit: string;
  /** Less of it is better. */
  isCost: boolean;
  of(sample: Sample): number;
}

const kMegabyte = 2 ** 20;
export const kQuantities = {
  first: { key: 'first', title: 'Time to first token', unit: 's', isCost: true, of: (s) => s.firstSeconds },
  second: { key: 'second', title: 'Time to first token of a second question', unit: 's', isCost: true, of: (s) => s.secondSeconds },
  speed: { key: 'speed', title: 'Decoding', unit: 'tokens/s', isCost: false, of: (s) => s.tokensPerSecond },
  memory: {
    key: 'memory',
    title: 'Peak memory above the loaded model',
    unit: 'MiB',
    isCost: true,
    of: (s) => (s.peakBytes - s.loadedBytes) / kMegabyte,
  },
  peak: { key: 'peak', title: 'Peak memory of the whole process', unit: 'MiB', isCost: true, of: (s) => s.peakBytes / kMegabyte },
  work: { key: 'work', title: 'Multiply-adds to the first token', unit: '1e9', isCost: true, of: (s) => s.firstMultiplyAdds / 1e9 },
  step: { key: 'step', title: 'Multiply-adds of a decoded token', unit: '1e6', isCost: true, of: (s) => s.tokenMultiplyAdds / 1e6 },
} satisfies Record<string, Quantity>;

export interface Value extends Spread {
  isFitted: boolean;
}

/** The cells of one benchmark, by method and length. */
export class Cells {
  readonly all: Cell[] = [];

  add(method: Method, length: number, sample: Sample | undefined, wallSeconds: number): void {
    let cell = this.find(method, length);
    if (cell === undefined) this.all.push((cell = { method, length, samples: [], wallSeconds: [] }));
    if (sample === undefined) return;
    cell.samples.push(sample);
    cell.wallSeconds.push(wallSeconds);
  }

  find(method: Method, length: number): Cell | undefined {
    return this.all.find((cell) => cell.method.name === method.name && cell.length === length);
  }

  get methods(): Method[] {
    return [...new Map(this.all.map(({ method }) => [method.name, method])).values()];
  }

  get lengths(): number[] {
    return [...new Set(this.all.map(({ length }) => length))].sort((a, b) => a - b);
  }

  measured(method: Method, of: (cell: Cell) => number): Point[] {
    const cells = this.all.filter((cell) => cell.method.name === method.name && cell.samples.length > 0);
    return cells.map((cell) => [cell.length, of(cell)] as const);
  }

  /** Seconds of one process at this length, from the two largest lengths below it that were measured. */
  predictWall(method: Method, length: number): number | undefined {
    const below = this.measured(method, (cell) => spread(cell.wallSeconds).median).filter(([x]) => x < length);
    const law = fitPowerLaw(below.slice(-2));
    return law && evaluate(law, length);
  }

  /** Cost against length, over the upper half of the lengths. */
  law(method: Method, quantity: Quantity): PowerLaw | undefined {
    return fitPowerLaw(upperHalf(this.measured(method, (cell) => spread(cell.samples.map(quantity.of)).median)));
  }

  /** Measured, or of the fit where this cell was skipped. */
  value(method: Method, length: number, quantity: Quantity): Value | undefined {
    const cell = this.find(method, length);
    if (cell === undefined) return undefined;
    if (cell.samples.length > 0) return { ...spread(cell.samples.map(quantity.of)), isFitted: false };
    const law = this.law(method, quantity);
    if (law === undefined) return undefined;
    const guess = evaluate(law, length);
    return { median: guess, min: guess, max: guess, isFitted: true };
  }
}
