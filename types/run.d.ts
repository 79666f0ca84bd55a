/** run: what a run reports and returns. */
import type { BanyanDocument } from '../lib/document.js';

/** A part of a document that a run read most finely. */
export interface OpenedSpan {
  readonly chunk: number;
  /** [begin, end) in the document. */
  readonly tokens: readonly [begin: number, end: number];
  /** Similarity with the question, NaN if none was computed. */
  readonly score: number;
  /** The span's text; '' without a tokenizer. Rejects with BANYAN_DISPOSED once the document is disposed. */
  text(): Promise<string>;
}

/** What a run read of one document. */
export interface DocumentRetrieval {
  readonly document: BanyanDocument;
  /** Best score first. */
  readonly opened: readonly OpenedSpan[];
  /** Key/value slots injected. */
  readonly slots: number;
  /** Tree nodes whose slots these are. */
  readonly nodes: number;
}

export interface ProgressEvent {
  readonly type: 'progress';
  readonly phase: 'select' | 'encode' | 'prefill';
  readonly done: number;
  readonly total: number;
}

/** Once, before the first token, if the session has documents. */
export interface RetrievalEvent {
  readonly type: 'retrieval';
  readonly retrieval: readonly DocumentRetrieval[];
}

/** One or more tokens. */
export interface TokenEvent {
  readonly type: 'token';
  readonly ids: Int32Array;
  /** What can be shown now: '' while a character or a possible stop text is incomplete. The texts of all events are the result's text. */
  readonly text: string;
}

export interface DoneEvent {
  readonly type: 'done';
  readonly result: RunResult;
}

export type RunEvent = ProgressEvent | RetrievalEvent | TokenEvent | DoneEvent;

export type FinishReason =
  /** A stop text or an end token. */
  | 'stop'
  /** maxTokens. */
  | 'length'
  /** Aborted. A result has it only with onAbort 'return'. */
  | 'abort'
  /** Failed: no result has it, `run.finishReason` does. */
  | 'error';

export interface Usage {
  /** Local tokens. */
  readonly promptTokens: number;
  /** Of these, found in the session's cache. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
  /** Of all documents of the session. */
  readonly documentTokens: number;
  /** Injected. */
  readonly slots: number;
  readonly nodesOpened: number;
  /** Encoded for this question; the others were there. */
  readonly nodesEncoded: number;
}

/** Milliseconds. `total` starts when the session's earlier runs have ended. */
export interface Timings {
  readonly tokenize: number;
  readonly select: number;
  readonly encode: number;
  readonly prefill: number;
  readonly decode: number;
  readonly total: number;
}

export interface RunResult {
  /** The answer, without stop text. '' without a tokenizer. */
  readonly text: string;
  readonly ids: Int32Array;
  readonly finishReason: FinishReason;
  /** The stop text or token id that ended it. */
  readonly stoppedBy: string | number | null;
  readonly seed: number;
  readonly usage: Usage;
  readonly timings: Timings;
  readonly retrieval: readonly DocumentRetrieval[];
}
