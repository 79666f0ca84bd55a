/** sample: what one process measured of one method on one document. The C++ cost models print the same keys. */
import { readFileSync } from 'node:fs';

import type { NativeMethodOptions } from '../../types/native.js';

export interface Sample {
  /** From the document's ids to the first token of its first question. */
  firstSeconds: number;
  /** Another question on the same document, in the same session. */
  secondSeconds: number;
  /** While decoding, the first token apart. */
  tokensPerSecond: number;
  /** Resident right after loading, and at most. */
  loadedBytes: number;
  peakBytes: number;
  firstMultiplyAdds: number;
  secondMultiplyAdds: number;
  /** Of one decoded token, on average. */
  tokenMultiplyAdds: number;
  device: string;
}

export interface Request {
  model: string;
  adapters: string[];
  options: NativeMethodOptions;
  /** Tokens of the document, of each question, and decoded. */
  length: number;
  prompt: number;
  tokens: number;
  /** 0: one per physical core. */
  threads: number;
}

// Where Linux tells it, by the system's own count: what getrusage says also includes what the parent process had before this program began.
export function residentBytes(): { now: number; peak: number } {
  try {
    const status = readFileSync('/proc/self/status', 'utf8');
    const kilobytes = (field: string): number => Number(new RegExp(`^${field}:\\s*(\\d+) kB`, 'm').exec(status)![1]);
    return { now: 1024 * kilobytes('VmRSS'), peak: 1024 * kilobytes('VmHWM') };
  } catch {
    return { now: process.memoryUsage.rss(), peak: 1024 * process.resourceUsage().maxRSS };
  }
}
