/** gguf: files that benchmarks write and convert mean to the engine what they mean to plain arithmetic. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';

import { dequantize, fromHalf, quantize, toHalf } from '../../bench/gguf_blocks.js';
import { convertDirectory, convertGguf, formatOf } from '../../bench/gguf_convert.js';
import { piecesOf, readGgufFile } from '../../bench/gguf_file.js';
import { writeGguf, type FileType, type LlamaShape } from '../../bench/gguf_writer.js';
import { native } from '../../lib/binding.js';

const folder = mkdtempSync(join(tmpdir(), 'banyan-gguf-'));
afterAll(() => rmSync(folder, { recursive: true }));

const kShape: LlamaShape = {
  ...{ name: 'tiny', layers: 2, dim: 256, ffn: 512, heads: 4, kvHeads: 2, headDim: 64, vocab: 320, window: 128, ropeBase: 1e4 },
};
const kDemo = fileURLToPath(new URL('../../models/banyan-demo', import.meta.url));
const kIds = Int32Array.from({ length: 24 }, (_, i) => 260 + ((i * 7) % 60));

async function logits(model: string, variant: string): Promise<Float32Array> {
  const cancel = native().createCancel();
  const loaded = await native().load({ model, device: 'cpu', kvType: 'f32', cpuVariant: variant }, cancel, null);
  const trace = await loaded.createSession({}).trace({ ids: kIds, maxNewTokens: 0, recompute: false }, cancel);
  await loaded.dispose();
  return trace.logits;
}
const furthest = (a: Float32Array, b: Float32Array): number => a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);

describe('float16', () => {
  test('every number comes back', () => {
    for (let half = 0; half < 65536; half++) {
      const value = fromHalf(half);
      if (!Number.isNaN(value)) expect(toHalf(value)).toBe(half);
    }
  });
  test('rounds to the nearest, ties to even', () => {
    expect(fromHalf(toHalf(1 + 1 / 2048))).toBe(1);
    expect(fromHalf(toHalf(1 + 3 / 2048))).toBe(1 + 4 / 2048);
    expect(fromHalf(toHalf(1 + 1.01 / 2048))).toBe(1 + 2 / 2048);
    expect(fromHalf(toHalf(2047.9))).toBe(2048);
    expect(fromHalf(toHalf(2 ** -25))).toBe(0);
    expect(fromHalf(toHalf(3 * 2 ** -25))).toBe(2 * 2 ** -24);
    expect(toHalf(65519)).toBe(0x7bff);
    expect(toHalf(65520)).toBe(0x7c00);
    expect(toHalf(-1e9)).toBe(0xfc00);
  });
});

describe('blocks', () => {
  const values = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i * 1.7) * (i < 32 ? 1 : 0.01));
  test('Q8_0 is at most half a step away, with a step of the largest / 127', () => {
    const again = dequantize('Q8_0', quantize('Q8_0', values));
    for (const [from, step] of [
      [0, 1 / 127],
      [32, 0.01 / 127],
    ] as const) {
      // prettier-ignore
      const error = furthest(values.subarray(from, from + 32), again.subarray(from, from + 32));
      expect(error).toBeLessThan((0.5 + 127 * 2 ** -11) * step); // the step itself is a float16
      expect(error).toBeGreaterThan(0.2 * step);
    }
  });
  test('Q4_0 keeps the number of largest magnitude and is at most a step of it / 8 away', () => {
    const again = dequantize('Q4_0', quantize('Q4_0', values));
    const largest = values.subarray(0, 32).reduce((best, x) => (Math.abs(x) > Math.abs(best) ? x : best), 0);
    expect(again[values.indexOf(largest)]! / largest).toBeCloseTo(1, 3);
    // numbers on the other side than the largest reach 7 steps only
    expect(furthest(values.subarray(0, 32), again.subarray(0, 32))).toBeLessThan(1.01 * (Math.abs(largest) / 8));
  });
  test('zeros stay zeros', () => {
    for (const type of ['Q8_0', 'Q4_0'] as const) {
      expect(dequantize(type, quantize(type, new Float32Array(32))).every((x) => x === 0)).toBe(true);
    }
  });
  test('rows that are no whole blocks are left in 16 bits', () => {
    expect(formatOf('Q8_0', [172, 64])).toBe('F16');
    expect(formatOf('Q8_0', [64, 172])).toBe('Q8_0');
    expect(formatOf('Q4_0', [64])).toBe('F32');
    expect(() => quantize('Q8_0', new Float32Array(33))).toThrow('33');
  });
});

describe('files', () => {
  // The engine sums in float32 in another order; logits are about 1, sums have at most 512 terms.
  const kRounding = 1e-4;
  test.each<FileType>(['Q8_0', 'Q4_0', 'Q4_K_M', 'F16', 'BF16'])('%s as float32 has the same logits', async (type) => {
    const [file, exact] = [join(folder, `${type}.gguf`), join(folder, `${type}-f32.gguf`)];
    writeGguf(file, kShape, type);
    convertGguf(file, exact, 'F32');
    expect(readGgufFile(exact).tensors.every((tensor) => tensor.type === 'F32')).toBe(true);
    const [a, b] = [await logits(file, 'scalar'), await logits(exact, 'scalar')];
    expect(a.length).toBe(kIds.length * kShape.vocab);
    expect(furthest(a, new Float32Array(a.length))).toBeGreaterThan(0.1);
    expect(furthest(a, b)).toBeLessThan(kRounding);
  });
  test('the demo model out of its directory has the same logits', async () => {
    const file = join(folder, 'demo.gguf');
    convertDirectory(kDemo, file, 'F16');
    const [a, b] = [await logits(kDemo, 'scalar'), await logits(file, 'scalar')];
    expect(furthest(a, new Float32Array(a.length))).toBeGreaterThan(1);
    expect(furthest(a, b)).toBeLessThan(1e-3); // logits of about 20 here
  });
  test('converting to the same format changes no byte', () => {
    const [file, same] = [join(folder, 'Q8_0.gguf'), join(folder, 'again.gguf')];
    writeGguf(file, kShape, 'Q8_0');
    convertGguf(file, same, 'Q8_0');
    const [a, b] = [readGgufFile(file), readGgufFile(same)];
    expect(b.tensors).toEqual(a.tensors);
    expect(b.keys.equals(a.keys)).toBe(true);
    const bytes = (of: typeof a): Buffer => Buffer.concat(of.tensors.flatMap((tensor) => [...piecesOf(of, tensor)]));
    expect(bytes(b).equals(bytes(a))).toBe(true);
  });
  test('what is no GGUF is refused', () => {
    expect(() => readGgufFile(join(kDemo, 'model.safetensors'))).toThrow('no GGUF');
  });
});
