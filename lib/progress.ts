/** progress: from the engine's (done, total) to the user's Progress. */
import type { NativeProgress } from '../types/native.js';
import type { OnProgress, Progress } from '../types/public.js';

export function progressOf(phase: Progress['phase'], done: number, total: number): Progress {
  return { phase, done, total, fraction: total > 0 ? Math.min(1, done / total) : 0 };
}

/** The callback of a native job; null where nobody listens. Silent after an abort. */
export function nativeProgress(phase: Progress['phase'], report: OnProgress | undefined, signal: AbortSignal | undefined): NativeProgress | null {
  if (report === undefined) return null;
  return (done, total) => {
    if (signal?.aborted !== true) report(progressOf(phase, done, total));
  };
}

/** One report to several listeners. */
export function toAll(...listeners: (OnProgress | undefined)[]): OnProgress {
  return (progress) => listeners.forEach((listener) => listener?.(progress));
}
