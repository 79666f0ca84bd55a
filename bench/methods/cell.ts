/** cell: what the methods' samples tell. */
import { Cells as AnyCells, type Quantity as AnyQuantity } from '../cells.js';
import type { Method } from './method.js';
import type { Sample } from './sample.js';

/** Every sample has every quantity. */
export type Quantity = AnyQuantity<Sample>;

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

export class Cells extends AnyCells<Sample, Method> {}
