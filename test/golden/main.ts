/** npm run golden -- DIR... [--json] [--device cpu|cuda]: every golden case below DIR through the engine. Exit code 0 only if all agree. */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { findCases } from './case.js';
import { kTolerance, loadNative, runCase, type CaseReport, type SemanticsReport } from './run.js';

const kUsage = 'usage: npm run golden -- DIR... [--json] [--device cpu|cuda]';

function usageError(message: string): never {
  console.error(`golden: ${message}\n${kUsage}`);
  process.exit(2);
}

function parseArguments() {
  try {
    const options = { json: { type: 'boolean', default: false }, device: { type: 'string', default: 'cpu' } } as const;
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

const text = (claim: boolean | null): string => (claim === null ? '-' : claim ? 'same' : 'DIFFER');
const number = (difference: number | null): string => (difference === null ? '-' : difference.toExponential(1));

function row(report: CaseReport, run: SemanticsReport, width: number): string {
  const nodes = run.isPositionsEqual === false ? 'DIFFER' : text(run.isNodesEqual);
  const columns = [number(run.logits), number(run.keys), number(run.values), nodes, text(run.isGreedyCachedEqual), text(run.isGreedyRecomputedEqual)];
  const checksum = run.isChecksumEqual === false ? '  last logits differ from their checksum' : '';
  const verdict = run.passed ? 'ok' : 'FAILED';
  return `${report.name.padEnd(width)}  ${run.semantics.padEnd(10)}${columns.map((column) => column.padEnd(9)).join('')}${verdict}${checksum}`;
}

function print(report: CaseReport, width: number): void {
  for (const run of report.runs) console.log(row(report, run, width));
  if (report.error !== undefined) console.log(`${report.name.padEnd(width)}  FAILED: ${report.error}`);
}

const { values, positionals } = parseArguments();
if (positionals.length === 0) usageError('name a directory with case folders');
if (values.device !== 'cpu' && values.device !== 'cuda') usageError(`unknown device ${values.device}`);
const roots = positionals.map((root) => resolve(process.env['INIT_CWD'] ?? '.', root));
for (const root of roots) {
  if (!statSync(root, { throwIfNoEntry: false })?.isDirectory()) usageError(`${root} is not a directory`);
}
const cases = roots.flatMap(findCases);
const native = loadAddon();
const width = Math.max(4, ...cases.map((path) => path.split(/[\\/]/).at(-1)!.length));
if (!values.json && cases.length > 0) {
  console.log(`Largest absolute differences from the reference (at most ${kTolerance} agrees), and whether decisions agree.\n`);
  const heads = ['logits', 'keys', 'values', 'nodes', 'cached', 'recomputed'].map((head) => head.padEnd(9)).join('');
  console.log(`${'case'.padEnd(width)}  ${'semantics'.padEnd(10)}${heads}`);
}
const reports: CaseReport[] = [];
for (const path of cases) {
  const report = await runCase(native, path, values.device);
  reports.push(report);
  if (!values.json) print(report, width);
}
const failed = reports.filter((report) => !report.passed).length;
const isAgreed = failed === 0 && reports.length > 0;
if (values.json) console.log(JSON.stringify({ passed: reports.length - failed, failed, tolerance: kTolerance, cases: reports }));
else if (reports.length === 0) console.log(`${roots.join(', ')}: no golden case`);
else console.log(`\n${reports.length - failed} passed, ${failed} failed`);
process.exitCode = isAgreed ? 0 : 1;
