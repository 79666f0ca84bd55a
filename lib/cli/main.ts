/** banyan: the command line. */
import { CommanderError } from 'commander';
import { createProgram } from './program.js';
import { reportFailure } from './failure.js';

// A reader that closed the pipe (head, less) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

async function main(): Promise<number> {
  try {
    await createProgram().parseAsync(process.argv);
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    return reportFailure(error);
  }
}

void main().then((code) => {
  process.exitCode = code;
});
