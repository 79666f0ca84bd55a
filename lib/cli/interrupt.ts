/** interrupt: Ctrl-C aborts what runs; a second one, or one when nothing runs, ends the process with 130. */

export class Interrupted extends Error {
  override readonly name = 'AbortError';
  constructor() {
    super('interrupted');
  }
}

let running: AbortController | undefined;
let isInstalled = false;

function onInterrupt(): void {
  if (running === undefined || running.signal.aborted) process.exit(130);
  running.abort(new Interrupted());
}

/** Runs `work` with a signal that Ctrl-C aborts. Calls nest: the innermost one is aborted. */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  if (!isInstalled) {
    process.on('SIGINT', onInterrupt);
    isInstalled = true;
  }
  const outer = running;
  const controller = new AbortController();
  running = controller;
  try {
    return await work(controller.signal);
  } finally {
    running = outer;
  }
}
