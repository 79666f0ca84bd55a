/**
 * halves: a golden case with weights, keys and values of 16 bits, on the CPU and on a device that multiplies operands of 16 bits, as far from the reference
 * as that rounding allows.
 *
 * The rule. The stored numbers are of unrounded weights. The CPU runs the case with weights rounded to 16 bits and keys and values rounded to halves,
 * everything else in float32; e, its largest distance from the reference, is what rounding one side of every product does: the weights of x w, the keys
 * of q k, the values of p v. A device in tensor-core mode rounds the other sides too, x to the bits of the weights and q and p to halves. A product
 * changes by as large a share whichever of its sides is rounded, and the two roundings know nothing of each other, so both together do sqrt(2) e. As in
 * the engine's tests (test/cpp/engine/run.h) twice that is allowed, for the largest of few numbers is a matter of luck, and on top what float32 may
 * differ in any case. For the same reason e is taken over all runs of a case.
 *
 * The reference's tokens are fed, so that a token that rounding made likelier does not change what follows. Where it opened other nodes, on the CPU or on
 * the device, nothing is comparable: the run has flipped, and is not judged. More than one such run in ten is no accident (areNear).
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

import { toHalf } from '../../bench/gguf_blocks.js';
import type { Native } from '../../types/native.js';
import { readCase, requireFiles } from './case.js';
import { isFocusCase, readFocusCase } from './focus_case.js';
import { kFocusTolerances, runFocus, type FocusReport } from './focus_run.js';
import { kTolerance, runExpectation, type DeviceName, type SemanticsReport, type Setting } from './run.js';

export type HalfType = 'bf16' | 'f16';

/** Largest distances of one quantity from the reference, and the largest that is allowed. */
export interface Distance {
  quantity: string;
  cpu: number;
  device: number;
  allowed: number;
}

export interface HalvesReport {
  name: string;
  run: string;
  distances: Distance[];
  verdict: 'ok' | 'flipped' | 'FAILED' | 'nothing'; // nothing: the case stores decisions of this run, and no numbers
  error?: string;
}

const kFactor = 2 * Math.SQRT2;

type Report = SemanticsReport | FocusReport;

const isFocus = (report: Report): report is FocusReport => 'run' in report;

/** One run on the CPU and on the device. */
export interface Pair {
  cpu: Report;
  device: Report;
}

const hasFlipped = (report: Report): boolean => !isFocus(report) && (report.isNodesEqual === false || report.isPositionsEqual === false);
const distanceOf = (report: Report, quantity: string): number | null => (report as unknown as Record<string, number | null>)[quantity]!;

/** All runs of one case. */
export function judge(name: string, pairs: readonly Pair[]): HalvesReport[] {
  const steady = pairs.filter(({ cpu }) => !hasFlipped(cpu));
  return pairs.map(({ cpu, device }) => {
    const tolerances: Record<string, number> = isFocus(cpu) ? kFocusTolerances : { logits: kTolerance, keys: kTolerance, values: kTolerance };
    const distances = Object.entries(tolerances).flatMap(([quantity, tolerance]): Distance[] => {
      const [ours, theirs] = [distanceOf(cpu, quantity), distanceOf(device, quantity)];
      if (ours === null || theirs === null) return [];
      const error = Math.max(...steady.map((pair) => distanceOf(pair.cpu, quantity) ?? 0));
      return [{ quantity, cpu: ours, device: theirs, allowed: kFactor * error + tolerance }];
    });
    return { name, run: isFocus(cpu) ? cpu.run : cpu.semantics, distances, verdict: verdictOf(cpu, device, distances) };
  });
}

function verdictOf(cpu: Report, device: Report, distances: readonly Distance[]): HalvesReport['verdict'] {
  if ([cpu, device].some((report) => isFocus(report) && !report.isLengthsEqual)) return 'FAILED';
  if (distances.length === 0) return 'nothing';
  if (hasFlipped(cpu) || hasFlipped(device)) return 'flipped';
  return distances.every((each) => Number.isFinite(each.allowed) && each.device <= each.allowed) ? 'ok' : 'FAILED';
}

/** Never throws: a damaged case is a failed one. */
export async function runHalves(native: Native, directory: string, device: DeviceName, type: HalfType): Promise<HalvesReport[]> {
  const name = basename(directory);
  const model = mkdtempSync(join(tmpdir(), 'banyan-halves-'));
  const settings = (['cpu', device] as const).map((each): Setting => ({ device: each, kvType: 'f16', model, isForced: true }));
  const pairs: Pair[] = [];
  const compare = async (run: (setting: Setting) => Promise<Report>): Promise<void> => {
    pairs.push({ cpu: await run(settings[0]!), device: await run(settings[1]!) });
  };
  try {
    requireFiles(directory);
    cpSync(join(directory, 'config.json'), join(model, 'config.json'));
    writeRounded(join(directory, 'model.safetensors'), join(model, 'model.safetensors'), type);
    if (isFocusCase(directory)) {
      const golden = readFocusCase(directory);
      for (const run of golden.runs) await compare((setting) => runFocus(native, golden, run, setting));
    } else {
      const golden = readCase(directory);
      for (const expectation of golden.expectations) await compare((setting) => runExpectation(native, golden, expectation, setting));
    }
    return judge(name, pairs);
  } catch (error) {
    return [...judge(name, pairs), { name, run: '-', distances: [], verdict: 'FAILED', error: (error as Error).message }];
  } finally {
    rmSync(model, { recursive: true, force: true });
  }
}

/** Nearest, ties to even. */
export function toBf16(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** A copy of a safetensors file of F32 tensors with all of them in 16 bits. */
export function writeRounded(from: string, to: string, type: HalfType): void {
  const bytes = readFileSync(from);
  const dataBegin = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, dataBegin)) as Record<string, { dtype: string; data_offsets: [number, number] }>;
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    if (entry.dtype !== 'F32') throw new Error(`${from}: tensor ${name} is ${entry.dtype}, not F32`);
    entry.dtype = type.toUpperCase();
    entry.data_offsets = entry.data_offsets.map((at) => at / 2) as [number, number];
  }
  const data = bytes.subarray(dataBegin);
  const rounded = Buffer.alloc(data.length / 2);
  const round = type === 'bf16' ? toBf16 : toHalf;
  for (let i = 0; i < data.length / 4; i++) rounded.writeUInt16LE(round(data.readFloatLE(4 * i)), 2 * i);
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  writeFileSync(to, Buffer.concat([size, padded, rounded]));
}

export function areNear(reports: readonly HalvesReport[]): boolean {
  const count = (verdict: HalvesReport['verdict']): number => reports.filter((each) => each.verdict === verdict).length;
  return count('FAILED') === 0 && count('ok') > 0 && 9 * count('flipped') <= count('ok');
}

export function halvesRow({ name, run, distances, verdict, error }: HalvesReport, width: number): string {
  const text = (value: number): string => value.toExponential(1);
  const cells = distances.map(({ quantity, cpu, device, allowed }) => `${quantity} ${text(device)} (cpu ${text(cpu)}, at most ${text(allowed)})`);
  return `${name.padEnd(width)}  ${run.padEnd(13)}${verdict.padEnd(9)}${error ?? cells.join('  ')}`;
}
