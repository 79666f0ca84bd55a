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

/**
 * Runs native jobs under a signal: an abort sets their cancel flag, and once they have stopped the reason is thrown. Errors of the engine
 * become BanyanErrors. An aborted signal rejects before any work.
 */
export async function withCancel<T>(signal: AbortSignal | undefined, work: (cancel: NativeCancel) => Promise<T>): Promise<T> {
  signal?.throwIfAborted();
  const cancel = native().createCancel();
  const onAbort = (): void => cancel.cancel();
  signal?.addEventListener('abort', onAbort);
  try {
    return await work(cancel);
  } catch (error) {
    if (signal?.aborted === true && (error as { code?: unknown } | null)?.code === 'BANYAN_ABORTED') throw signal.reason;
    throw fromNative(error);
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}
