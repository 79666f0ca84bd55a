/** progress: how far jobs are, and what every job takes. */

/** How far a job is. `fraction` is done / total, 0 while the total is unknown. */
export interface Progress {
  /** What is being counted: bytes for 'load', 'open' and 'save', tokens for 'compress' and 'prefill', tree nodes for 'complete' and 'encode'. */
  phase: 'load' | 'open' | 'save' | 'compress' | 'complete' | 'select' | 'encode' | 'prefill';
  done: number;
  /** An estimate while text is still being read; 0: unknown. */
  total: number;
  fraction: number;
}

export type OnProgress = (progress: Progress) => void;

/** Options of every job. */
export interface JobOptions {
  /** Ends the job within about 100 ms; it rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
  /** Called on the event loop, in order, before the job settles. What it throws ends the job and rejects it. */
  onProgress?: OnProgress | undefined;
}
