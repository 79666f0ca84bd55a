/** failure: how an error looks on the command line, and its exit code. 1: it failed, 2: wrong usage, 130: interrupted. */
import { Interrupted } from './interrupt.js';

/** Wrong usage that commander cannot see, e.g. two options that exclude each other. */
export class UsageError extends Error {}

const kFileCodes: Record<string, string> = { ENOENT: 'BANYAN_FILE_NOT_FOUND', ENOTDIR: 'BANYAN_FILE_NOT_FOUND' };

function codeOf(error: Error & { code?: unknown; syscall?: unknown }): string {
  const { code } = error;
  if (typeof code !== 'string') return 'BANYAN_INTERNAL';
  if (code.startsWith('BANYAN_') || code.startsWith('ERR_')) return code;
  return kFileCodes[code] ?? (error.syscall === undefined ? 'BANYAN_INTERNAL' : 'BANYAN_IO');
}

/** Prints one line on stderr and returns the exit code. BANYAN_DEBUG=1 adds the stack. */
export function reportFailure(error: unknown): number {
  if (error instanceof Interrupted) {
    process.stderr.write('banyan: interrupted\n');
    return 130;
  }
  if (error instanceof UsageError) {
    process.stderr.write(`banyan: ${error.message}\n`);
    return 2;
  }
  const thrown = error instanceof Error ? error : new Error(String(error));
  process.stderr.write(`banyan: ${codeOf(thrown)} ${thrown.message.replace(/\s*\n\s*/g, ' ')}\n`);
  if (process.env['BANYAN_DEBUG'] === '1') process.stderr.write(`${thrown.stack ?? ''}\n`);
  return 1;
}
