/**
 * npm run golden -- DIR... [--json] [--device cpu|cuda] [--weights bf16|f16]: every golden case below DIR through the engine. With --weights its weights are
 * rounded to that, keys and values to halves, and the device is held to the rule of halves.ts. Exit code 0 only if all agree.
 */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { findCases } from './case.js';
import { kFocusTolerances } from './focus_run.js';
import { halvesRow, areNear, runHalves, type HalfType, type HalvesReport } from './halves.js';
import { kTolerance, loadNative, runCase, type CaseReport, type DeviceName } from './run.js';
import { headOf, kCaption, rowsOf } from './table.js';

const kUsage = 'usage: npm run golden -- DIR... [--json] [--device cpu|cuda] [--weights bf16|f16]';

function usageError(message: string): never {
  console.error(`golden: ${message}\n${kUsage}`);
  process.exit(2);
}

function parseArguments() {
  try {
    const options = { json: { type: 'boolean', default: false }, device: { type: 'string', default: 'cpu' }, weights: { type: 'string' } } as const;
    return parseArgs({ allowPositionals: true, options });
  } catch (error) {
    return usageError((error as Error).message);
  }
}

function loadAddon(): ReturnType<typeof loadNative> {
  try {
    return loadNative();
  } catch (error) {
    console.error(`golden: the addon cannot be loaded (npm run build:native): ${(error as Error).message.split('\n')[0]}`);
    return process.exit(1);
  }
}

const { values, positionals } = parseArguments();
if (positionals.length === 0) usageError('name a directory with case folders');
if (values.device !== 'cpu' && values.device !== 'cuda') usageError(`unknown device ${values.device}`);
const { device, weights } = values;
if (weights !== undefined && weights !== 'bf16' && weights !== 'f16') usageError(`unknown weights ${weights}`);
const roots = positionals.map((root) => resolve(process.env['INIT_CWD'] ?? '.', root));
for (const root of roots) {
  if (!statSync(root, { throwIfNoEntry: false })?.isDirectory()) usageError(`${root} is not a directory`);
}
const cases = roots.flatMap(findCases);
const native = loadAddon();
const width = Math.max(12, ...cases.map((path) => path.split(/[\\/]/).at(-1)!.length));
if (weights === undefined) await compareAll(device);
else await compareHalves(device, weights);

async function compareAll(device: DeviceName): Promise<void> {
  if (!values.json && cases.length > 0) console.log(`${kCaption}\n`);
  const reports: CaseReport[] = [];
  let head: string | undefined;
  for (const path of cases) {
    const report = await runCase(native, path, device);
    reports.push(report);
    if (values.json) continue;
    const ownHead = headOf(report, width) ?? head;
    if (ownHead !== head) console.log(head === undefined ? ownHead : `\n${ownHead}`);
    head = ownHead;
    for (const row of rowsOf(report, width)) console.log(row);
  }
  const failed = reports.filter((report) => !report.passed).length;
  const isAgreed = failed === 0 && reports.length > 0;
  const tolerances = { tolerance: kTolerance, focusTolerances: kFocusTolerances };
  if (values.json) console.log(JSON.stringify({ passed: reports.length - failed, failed, ...tolerances, cases: reports }));
  else if (reports.length === 0) console.log(`${roots.join(', ')}: no golden case`);
  else console.log(`\n${reports.length - failed} passed, ${failed} failed`);
  process.exitCode = isAgreed ? 0 : 1;
}

async function compareHalves(device: DeviceName, type: HalfType): Promise<void> {
  const reports: HalvesReport[] = [];
  for (const path of cases) {
    for (const report of await runHalves(native, path, device, type)) {
      reports.push(report);
      if (!values.json) console.log(halvesRow(report, width));
    }
  }
  const count = (verdict: HalvesReport['verdict']): number => reports.filter((each) => each.verdict === verdict).length;
  const counts = { passed: count('ok'), flipped: count('flipped'), failed: count('FAILED') };
  if (values.json) console.log(JSON.stringify({ ...counts, runs: reports }));
  else console.log(`\n${counts.passed} passed, ${counts.flipped} flipped, ${counts.failed} failed`);
  process.exitCode = areNear(reports) ? 0 : 1;
}
