/** table: the printed form of reports, one line a run; FocusLLM cases have columns of their own. */
import type { FocusReport } from './focus_run.js';
import { kFocusTolerances } from './focus_run.js';
import { kTolerance, type CaseReport, type SemanticsReport } from './run.js';

const kColumnWidth = 11;

const text = (claim: boolean | null): string => (claim === null ? '-' : claim ? 'same' : 'DIFFER');
const number = (difference: number | null): string => (difference === null ? '-' : difference.toExponential(1));
const columns = (cells: readonly string[]): string => cells.map((cell) => cell.padEnd(kColumnWidth)).join('');

export const kCaption = 'Largest absolute differences from the reference, and whether decisions agree.';

const kSemanticsHead = ['logits', 'keys', 'values', 'nodes', 'cached', 'recomputed'];
const kSemanticsBounds = [kTolerance, kTolerance, kTolerance, null, null, null];
const kFocusHead = ['logits', 'local', 'candidates', 'chunks', 'nll', 'loss'] as const;

/** Names of the columns and the bounds of agreement; undefined where a report has no columns. */
export function headOf({ runs: [run] }: CaseReport, width: number): string | undefined {
  if (run === undefined) return undefined;
  const isFocus = 'run' in run;
  const names = isFocus ? [...kFocusHead, 'tokens', 'lengths'] : kSemanticsHead;
  const bounds = isFocus ? kFocusHead.map((name) => kFocusTolerances[name]) : kSemanticsBounds;
  const first = 'case'.padEnd(width);
  const second = 'agrees up to'.padEnd(width);
  const rows = [
    `${first}  ${(isFocus ? 'run' : 'semantics').padEnd(13)}${columns(names)}`,
    `${second}  ${''.padEnd(13)}${columns(bounds.map((bound) => (bound === null ? '' : number(bound))))}`,
  ];
  return rows.map((row) => row.trimEnd()).join('\n');
}

export function rowsOf(report: CaseReport, width: number): string[] {
  const name = report.name.padEnd(width);
  const rows = report.runs.map((run) => `${name}  ${'run' in run ? focusRow(run) : semanticsRow(run)}`);
  return report.error === undefined ? rows : [...rows, `${name}  FAILED: ${report.error}`];
}

function semanticsRow(run: SemanticsReport): string {
  const nodes = run.isPositionsEqual === false ? 'DIFFER' : text(run.isNodesEqual);
  const cells = [number(run.logits), number(run.keys), number(run.values), nodes, text(run.isGreedyCachedEqual), text(run.isGreedyRecomputedEqual)];
  const checksum = run.isChecksumEqual === false ? '  last logits differ from their checksum' : '';
  return `${run.semantics.padEnd(13)}${columns(cells)}${run.passed ? 'ok' : 'FAILED'}${checksum}`;
}

function focusRow(run: FocusReport): string {
  const cells = [...kFocusHead.map((name) => number(run[name])), text(run.isTokensEqual), text(run.isLengthsEqual)];
  return `${run.run.padEnd(13)}${columns(cells)}${run.passed ? 'ok' : 'FAILED'}`;
}
