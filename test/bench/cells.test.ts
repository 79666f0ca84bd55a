/** cells: what stands where nothing was measured. */
import { describe, expect, test } from 'vitest';

import { Cells, type Quantity, type Series } from '../../bench/cells.js';
import { cellText, measuredOf, quantityTable } from '../../bench/tables.js';

interface Sample {
  seconds?: number;
}
const kSeconds: Quantity<Sample> = { key: 'seconds', title: 'Time', unit: 's', isCost: true, of: (s) => s.seconds };
const kOurs: Series = { name: 'ours', label: 'Ours' };
const kPeer: Series = { name: 'peer', label: 'Peer', growth: 'quadratic' };

function filled(): Cells<Sample> {
  const cells = new Cells<Sample>();
  for (const length of [1024, 2048, 4096]) {
    for (const factor of [0.9, 1, 1.2]) cells.add(kOurs, length, { seconds: (factor * length) / 1024 }, 1);
    cells.add(kPeer, length, { seconds: length / 1024 + (length / 1024) ** 2 }, 1);
  }
  cells.add(kOurs, 8192, undefined, 0);
  cells.add(kPeer, 8192, undefined, 0);
  return cells;
}

describe('cells', () => {
  test('a measured cell is the median and the spread of its samples', () => {
    const value = filled().value(kOurs, 2048, kSeconds)!;
    expect(value).toEqual({ median: 2, min: 1.8, max: 2.4, isFitted: false });
    expect(cellText(value)).toBe('2.00 (1.80-2.40)');
  });
  test('a skipped one is of the fit that its series names, and says so', () => {
    const cells = filled();
    expect(cells.value(kOurs, 8192, kSeconds)!.median).toBeCloseTo(8, 6);
    const peer = cells.value(kPeer, 8192, kSeconds)!;
    expect(peer.median).toBeCloseTo(8 + 64, 6);
    expect(peer.isFitted).toBe(true);
    expect(cellText(peer)).toBe('~72.0');
    expect(quantityTable(cells, kSeconds)).toContain('~72.0');
  });
  test('a quantity without a fit stays empty there', () => {
    expect(filled().value(kPeer, 8192, { ...kSeconds, hasNoFit: true })).toBeUndefined();
  });
  test('a cell whose samples do not tell the quantity is not fitted', () => {
    const cells = filled();
    cells.add(kPeer, 16384, {}, 1);
    expect(cells.value(kPeer, 16384, kSeconds)).toBeUndefined();
    expect(cells.value(kPeer, 32768, kSeconds)).toBeUndefined();
  });
  test('lengths measured in any order give the same prediction of the next', () => {
    const cells = new Cells<Sample>();
    for (const length of [4096, 1024, 2048]) cells.add(kOurs, length, { seconds: 1 }, length / 1024);
    expect(cells.predictWall(kOurs, 8192)).toBeCloseTo(8, 6);
  });
  test('samples survive being written and read again', () => {
    const [cells, again] = [filled(), new Cells<Sample>()];
    (JSON.parse(JSON.stringify(cells.all)) as typeof cells.all).forEach((cell) => again.restore(cell));
    expect(again.all).toEqual(cells.all);
    again.add(kOurs, 1024, { seconds: 5 }, 1);
    expect(again.values(kOurs, 1024, kSeconds)).toEqual([0.9, 1, 1.2, 5]);
  });
  test('a result file gets the samples, not the fits', () => {
    const measured = measuredOf(filled(), [kSeconds]);
    expect(measured.map(({ name }) => name)).toEqual([1024, 2048, 4096].flatMap((length) => [`ours ${length} seconds`, `peer ${length} seconds`]));
    expect(measured[0]).toEqual({ name: 'ours 1024 seconds', unit: 's', isCost: true, values: [0.9, 1, 1.2] });
  });
});
