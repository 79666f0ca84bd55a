/** abort: from an AbortSignal to the engine's cancel flag, and back to `signal.reason`. */
import type { NativeCancel } from '../types/native.js';
import { native } from './binding.js';
import { fromNative } from './errors.js';

/** Rejects with the reason as soon as the signal aborts; `promise` itself goes on unheard. */
export async function raceAbort<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  promise.catch(() => {});
  signal.throwIfAborted();
  let onAbort!: () => void;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort);
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

// The engine answers an abort within a slice of its work. If that slice belongs to another job, it can take longer: then nobody waits for it, for
// the job will do nothing more.
const kPatienceMs = 50;

/**
 * Runs native jobs under a signal: an abort sets their cancel flag, and when they have stopped, or soon after, the reason is thrown. Errors of the
 * engine become BanyanErrors. An aborted signal rejects before any work. `late` gets a value that nobody waits for any more.
 */
export async function withCancel<T>(
  signal: AbortSignal | undefined,
  work: (cancel: NativeCancel) => Promise<T>,
  late?: (value: T) => unknown,
): Promise<T> {
  signal?.throwIfAborted();
  const cancel = native().createCancel();
  let timer: NodeJS.Timeout | undefined;
  let isOver = false;
  let onAbort!: () => void;
  const impatience = new Promise<never>((_, reject) => {
    onAbort = () => {
      cancel.cancel();
      timer = setTimeout(() => reject(signal?.reason as Error), kPatienceMs);
    };
  });
  signal?.addEventListener('abort', onAbort);
  try {
    const job = work(cancel);
    job.then(
      (value) => isOver && late?.(value),
      () => {},
    );
    return await Promise.race([job, impatience]);
  } catch (error) {
    if (signal?.aborted === true && (error as { code?: unknown } | null)?.code === 'BANYAN_ABORTED') throw signal.reason;
    throw fromNative(error);
  } finally {
    isOver = true;
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}
