/** context: what a model shares with its documents and sessions. */
import type { NativeModel } from '../types/native.js';
import type { ModelInfo, OnProgress, RunResult } from '../types/public.js';
import { BanyanError, disposed } from './errors.js';
import type { Run } from './run.js';
import type { Tokenizer } from './text/tokenizer.js';

export interface ModelContext {
  readonly native: NativeModel;
  readonly info: ModelInfo;
  readonly tokenizer: Tokenizer | null;
  /** Why there is no tokenizer although the model has one. */
  readonly tokenizerError: BanyanError | null;
  readonly isDisposed: () => boolean;
  readonly onProgress: OnProgress;
  readonly onRunDone: (result: RunResult, run: Run) => void;
  readonly onRunError: (error: unknown, run: Run) => void;
}

export function assertLive(context: ModelContext): void {
  if (context.isDisposed()) throw disposed('model');
}

/** The tokenizer; BANYAN_UNSUPPORTED_TOKENIZER if there is none. */
export function tokenizerOf(context: ModelContext): Tokenizer {
  if (context.tokenizer !== null) return context.tokenizer;
  if (context.tokenizerError !== null) {
    throw new BanyanError('BANYAN_UNSUPPORTED_TOKENIZER', context.tokenizerError.message, { cause: context.tokenizerError });
  }
  throw new BanyanError('BANYAN_UNSUPPORTED_TOKENIZER', 'The model has no tokenizer: pass token ids, or load it with the option tokenizer');
}
