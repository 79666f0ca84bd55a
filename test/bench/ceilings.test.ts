/** ceilings: what the bench of the ops prints about the machine, and what a token takes of it. */
import { describe, expect, test } from 'vitest';

import { bytesOfToken, operationsOfToken, parseCeilings, promptCeiling } from '../../bench/ceilings.js';
import { shapeOf } from '../../bench/gguf_writer.js';

describe('parseCeilings', () => {
  test('reads all three', () => {
    const ceilings = parseCeilings('[1/2] Linking\navx512vnni, 2 threads: peak 541.3 GFLOP/s, 2178.1 GOP/s of bytes, 48.4 GB/s\n');
    expect(ceilings).toEqual({ floats: 541.3, bytes: 2178.1, reading: 48.4 });
    expect(promptCeiling(ceilings, 'Q4_K_M')).toBe(2178.1);
    expect(promptCeiling(ceilings, 'F16')).toBe(541.3);
  });
  test('tiles are a ceiling of their own', () => {
    const ceilings = parseCeilings('amx, 2 threads: peak 459.0 GFLOP/s, 1738.8 GOP/s of bytes, 14000.5 GFLOP/s of tiles, 24.3 GB/s\n');
    expect(ceilings).toEqual({ floats: 459, bytes: 1738.8, tiles: 14000.5, reading: 24.3 });
    expect(promptCeiling(ceilings, 'Q8_0')).toBe(1738.8);
  });
  test('a processor without products of bytes is held against floats', () => {
    const ceilings = parseCeilings('avx2, 1 threads: peak 61.0 GFLOP/s, 12.0 GB/s');
    expect(ceilings.bytes).toBeUndefined();
    expect(promptCeiling(ceilings, 'Q8_0')).toBe(61);
  });
  test('says what it got instead', () => expect(() => parseCeilings('Killed')).toThrow(/Killed/));
});

test('Llama-3.2-1B: 0.97 billion weights in its layers, 32 KiB of keys and values a token', () => {
  const shape = shapeOf('llama-3.2-1b');
  expect(operationsOfToken(shape)).toBe(2 * 973078528);
  expect(bytesOfToken(shape, 1e9, 10)).toBe(1e9 + 10 * 32768);
});
